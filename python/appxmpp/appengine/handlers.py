"""Request handlers for inbound chat messages."""

import logging

from google.appengine.api import xmpp
from google.appengine.ext import webapp


class BaseHandler(webapp.RequestHandler):
    """Turns a request into a message and hands it to `message_received`."""

    xmpp_message = None

    def message_received(self, message):
        """Called with each message; a subclass must override it."""
        raise NotImplementedError()

    def handle_exception(self, exception, debug_mode):
        """Called when the request handler raised an exception.

        Under webapp2 the exception is raised again by the superclass, so the
        apology below is not sent; with ``APPXMPP_WEBAPP=classic`` it is.
        """
        if webapp.is_classic():
            webapp.handle_exception_classic(self, exception, debug_mode)
        else:
            super(BaseHandler, self).handle_exception(exception, debug_mode)
        if self.xmpp_message:
            self.xmpp_message.reply("Oops. Something went wrong.")

    def post(self):
        """Answers the request of an inbound message."""
        try:
            self.xmpp_message = xmpp.Message(self.request.POST)
        except xmpp.InvalidMessageError as error:
            logging.error("Invalid XMPP request: Missing required field %s", error.args[0])
            return
        self.message_received(self.xmpp_message)


class CommandHandlerMixin(object):
    """Calls ``<command>_command(message)`` for a message that begins with a command."""

    def unhandled_command(self, message):
        """Called for a command that has no method; answers ``Unknown command``."""
        message.reply("Unknown command")

    def text_message(self, message):
        """Called for a message without a command; does nothing."""

    def message_received(self, message):
        """Called with each message; calls the method of its command."""
        if not message.command:
            self.text_message(message)
            return
        handler = getattr(self, "%s_command" % (message.command,), None)
        if handler:
            handler(message)
        else:
            self.unhandled_command(message)


class CommandHandler(CommandHandlerMixin, BaseHandler):
    """A webapp handler with one method for each command."""


for _class in (BaseHandler, CommandHandlerMixin, CommandHandler):
    _class.__module__ = "google.appengine.ext.webapp.xmpp_handlers"
del _class
