"""A legacy app that handles everything App Engine's chat service could post, and reports it.

A message `!NAME TEXT` makes its handler do something; any other is echoed.
"""

import logging
import threading

import report
import webapp2
from google.appengine.api import xmpp

gate = threading.Event()


class Message(webapp2.RequestHandler):
    def post(self):
        message = xmpp.Message(self.request.POST)
        report.delivery(
            self.request.path,
            self.request.POST.items(),
            self.request.environ,
            command=message.command,
            arg=message.arg,
            thread=threading.current_thread().name,
        )
        name, _, text = message.body.partition(" ")
        if name == "!raise":
            raise RuntimeError("the handler raises, as asked: " + text)
        if name == "!wait":
            gate.wait(30)
        if name != "!silent":
            logging.info("answering %s", message.sender)
            message.reply("echo: " + message.body)


class Other(webapp2.RequestHandler):
    def post(self):
        report.delivery(self.request.path, self.request.POST.items(), self.request.environ)


class Call(webapp2.RequestHandler):
    """The test's hand inside the app: calls a function of the xmpp module."""

    def post(self):
        self.response.headers["Content-Type"] = "application/json"
        self.response.write(report.call(xmpp, self.request.body))


class Gate(webapp2.RequestHandler):
    def post(self):
        gate.set()


class Hello(webapp2.RequestHandler):
    def get(self):
        self.response.write("hello")


app = webapp2.WSGIApplication(
    [
        ("/_ah/xmpp/message/chat/", Message),
        ("/_ah/xmpp/subscription/.*", Other),
        ("/_ah/xmpp/presence/.*", Other),
        ("/_ah/xmpp/error/", Other),
        ("/call", Call),
        ("/gate", Gate),
        ("/", Hello),
    ]
)
