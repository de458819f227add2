"""A bot as it ran on App Engine's Python 2.7: print statements, unicode literals, webapp2 2.5."""
# ruff: noqa

import webapp2

from google.appengine.api import xmpp
from google.appengine.ext.webapp import xmpp_handlers


class Chat(xmpp_handlers.CommandHandler):
    def who_command(self, message):
        if xmpp.get_presence(message.sender.split('/')[0], message.to):
            message.reply(u'you are here \u263a')
        else:
            message.reply('nobody')

    def boom_command(self, message):
        raise ValueError, 'as only Python 2 spells it'

    def text_message(self, message):
        print 'heard', repr(message.body)
        message.reply('py2: ' + message.body)


class Page(webapp2.RequestHandler):
    def get(self):
        self.response.write('a page')


app = webapp2.WSGIApplication([('/_ah/xmpp/message/chat/', Chat), ('/.*', Page)])
