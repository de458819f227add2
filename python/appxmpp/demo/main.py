"""The bot of `appxmpp demo`: an App Engine application as it stood on App Engine."""

import webapp2

from google.appengine.ext.webapp import xmpp_handlers


class Bot(xmpp_handlers.CommandHandler):
    """Answers /hello and /count, and repeats everything else."""

    def hello_command(self, message):
        message.reply("Hello, %s!" % message.sender.split("@")[0])

    def count_command(self, message):
        message.reply("%d words" % len(message.arg.split()))

    def unhandled_command(self, message):
        message.reply("I know /hello and /count.")

    def text_message(self, message):
        message.reply("You said: %s" % message.arg)


app = webapp2.WSGIApplication([("/_ah/xmpp/message/chat/", Bot)])
