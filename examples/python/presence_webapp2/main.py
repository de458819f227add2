"""Knows who is there: subscriptions, presence and errors.

Chat commands: /who lists who is online, /invite ADDRESS asks somebody for a subscription,
/status TEXT sets what the bot's own presence says, /log tells what happened so far.
"""

import logging
import threading

import webapp2
from google.appengine.api import xmpp
from google.appengine.ext.webapp import xmpp_handlers

lock = threading.Lock()
online = {}
events = []
status = {"text": "at your service"}


def note(event, request):
    """Remembers an event of a contact, by its bare address."""
    contact = request.get("from").split("/")[0]
    with lock:
        events.append("%s %s" % (event, contact))
    return contact


class Subscription(webapp2.RequestHandler):
    def post(self, kind):
        contact = note(kind, self.request)
        if kind == "subscribe":
            xmpp.send_presence(contact, status=status["text"])
        elif kind == "unsubscribe":
            xmpp.send_presence(contact, presence_type=xmpp.PRESENCE_TYPE_UNAVAILABLE)


class Presence(webapp2.RequestHandler):
    def post(self, kind):
        contact = note(kind, self.request)
        if kind == "available":
            with lock:
                online[contact] = self.request.get("show") or "available"
        elif kind == "unavailable":
            with lock:
                online.pop(contact, None)
        elif kind == "probe":
            xmpp.send_presence(self.request.get("from"), status=status["text"])


class Error(webapp2.RequestHandler):
    def post(self):
        contact = note("error", self.request)
        logging.warning("%s did not get what was sent: %s", contact, self.request.get("stanza"))


class Chat(xmpp_handlers.CommandHandler):
    def who_command(self, message):
        with lock:
            lines = sorted("%s (%s)" % contact for contact in online.items())
        message.reply("\n".join(lines) or "Nobody is online.")

    def invite_command(self, message):
        try:
            xmpp.send_invite(message.arg)
        except xmpp.InvalidJidError:
            message.reply("%s is no address." % message.arg)
        else:
            message.reply("I asked %s." % message.arg)

    def status_command(self, message):
        status["text"] = message.arg
        with lock:
            contacts = list(online)
        for contact in contacts:
            xmpp.send_presence(contact, status=message.arg)
        message.reply("My status is now: %s" % message.arg)

    def log_command(self, message):
        with lock:
            message.reply("\n".join(events) or "Nothing has happened.")

    def text_message(self, message):
        available = xmpp.get_presence(message.sender)
        message.reply("I see you are %s." % ("there" if available else "away"))


app = webapp2.WSGIApplication(
    [
        ("/_ah/xmpp/message/chat/", Chat),
        ("/_ah/xmpp/subscription/(subscribe|subscribed|unsubscribe|unsubscribed)/", Subscription),
        ("/_ah/xmpp/presence/(available|unavailable|probe)/", Presence),
        ("/_ah/xmpp/error/", Error),
    ]
)
