"""A legacy Flask app that takes messages, and errors at the path that some apps used for them."""

import report
from flask import Flask, request
from google.appengine.api import xmpp

app = Flask(__name__)


@app.route("/_ah/xmpp/message/chat/", methods=["POST"])
def message():
    received = xmpp.Message(request.form)
    report.delivery(request.path, request.form.items(), request.environ, command=received.command, arg=received.arg)
    received.reply("flask: " + received.body)
    return ""


@app.route("/_ah/xmpp/message/error/", methods=["POST"])
def error():
    report.delivery(request.path, request.form.items(), request.environ)
    return ""


@app.route("/call", methods=["POST"])
def call():
    return report.call(xmpp, request.get_data())
