"""Answers every chat message with its own text."""

import webapp2
from google.appengine.api import xmpp


class ChatHandler(webapp2.RequestHandler):
    def post(self):
        message = xmpp.Message(self.request.POST)
        message.reply(message.body)


app = webapp2.WSGIApplication([("/_ah/xmpp/message/chat/", ChatHandler)])
