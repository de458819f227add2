"""A bot that is told what to do by commands: /hello, /add 1 2 3, /help."""

import webapp2
from google.appengine.ext.webapp import xmpp_handlers


class Bot(xmpp_handlers.CommandHandler):
    """Calls the method NAME_command for the command /NAME."""

    def hello_command(self, message):
        """greets you"""
        name = message.sender.split("@")[0]
        message.reply("Hello, %s!" % name)

    def add_command(self, message):
        """adds numbers: /add 1 2 3"""
        try:
            total = sum(int(number) for number in message.arg.split())
        except ValueError:
            message.reply("I can add whole numbers only.")
        else:
            message.reply(str(total))

    def help_command(self, message):
        """says this"""
        names = [name for name in dir(self) if name.endswith("_command") and name != "unhandled_command"]
        lines = ["/%s %s" % (name[: -len("_command")], getattr(self, name).__doc__) for name in names]
        message.reply("\n".join(lines))

    def text_message(self, message):
        message.reply("You said: %s. Try /help." % message.arg)


app = webapp2.WSGIApplication([("/_ah/xmpp/message/chat/", Bot)])
