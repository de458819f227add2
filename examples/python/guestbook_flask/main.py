"""A guest book that is signed by chat and read on the web."""

import threading

from flask import Flask, render_template_string, request
from google.appengine.api import xmpp

app = Flask(__name__)
entries = []
lock = threading.Lock()

PAGE = """<!doctype html>
<title>Guest book</title>
<link rel="stylesheet" href="/style.css">
<h1>Guest book</h1>
{% for guest, text in entries %}<p><b>{{ guest }}</b>: {{ text }}</p>
{% else %}<p>Nobody has signed yet.</p>
{% endfor %}"""


@app.route("/")
def page():
    with lock:
        return render_template_string(PAGE, entries=list(entries))


@app.route("/_ah/xmpp/message/chat/", methods=["POST"])
def sign():
    message = xmpp.Message(request.form)
    guest = message.sender.split("/")[0]
    with lock:
        entries.append((guest, message.body))
        number = len(entries)
    message.reply("Thank you, %s. Yours is entry %d." % (guest, number))
    return ""
