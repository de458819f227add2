"""Programs as people write them, on the HTTP side of the gateway."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import folders
from support.gateway import Gateway, Phone
from support.process import Process
from support.server import Server
from support.servers import KINDS

pytestmark = pytest.mark.servers

#: As mod_rest's own example does it: asked what it wants, it says JSON, and answers in what it was asked.
FLASK = """
import sys
from flask import Flask, Response, jsonify, request

app = Flask("echobot")

@app.route("/", methods=["OPTIONS"])
def options():
    return Response(headers={"Accept": "application/json"})

@app.route("/", methods=["POST"])
def hello():
    if not request.is_json:
        return Response(status=501)
    data = request.get_json()
    if data["kind"] == "message" and data.get("body"):
        return jsonify({"body": "hello " + data["body"]})
    if data["kind"] == "iq" and data.get("ping"):
        return Response(status=204)
    return Response(status=501)

app.run("127.0.0.1", int(sys.argv[1]))
"""

#: As it stood on App Engine, and one line of the server that runs it.
WEBAPP2 = """
import sys
import webapp2
from google.appengine.api import xmpp

class Echo(webapp2.RequestHandler):
    def post(self):
        message = xmpp.Message(self.request.POST)
        message.reply("You said: " + message.body)

app = webapp2.WSGIApplication([("/_ah/xmpp/message/chat/", Echo)])

from appxmpp import middleware
from waitress import create_server
server = create_server(middleware(app), listen="127.0.0.1:" + sys.argv[1])
print("Serving on", sys.argv[1])
server.run()
"""

NODE = """
const http = require('http');
http.createServer((request, response) => {
  let text = '';
  request.on('data', part => text += part);
  request.on('end', () => {
    if (request.method !== 'POST') { response.writeHead(405).end(); return; }
    const stanza = JSON.parse(text);
    response.writeHead(200, {'Content-Type': 'application/json'});
    const body = stanza.body.split('').reverse().join('');
    response.end(JSON.stringify({kind: stanza.kind, type: stanza.type, body}));
  });
}).listen(Number(process.argv[2]), '127.0.0.1', () => console.log('Listening'));
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One kind will do: what is tested here is on this side of the stream."""
    with KINDS["prosody"]() as running:
        yield running


@pytest.fixture
def phone(server: Server) -> Iterator[Phone]:
    with Phone(server, server.account("program")) as client:
        yield client


def chat(phone: Phone, text: str) -> str:
    """What comes back for a message."""
    phone.heard.clear()
    phone.send(f"<message to='bot@myapp.localhost' type='chat' id='c'><body>{text}</body></message>")
    answer = phone.heard.wait(lambda stanza: stanza.tag.endswith("message"))
    assert answer.get("type") != "error", answer.attrib
    return answer.findtext("{jabber:client}body") or ""


def start(argv: list[str], ready: str, env: dict[str, str] | None = None) -> Process:
    process = Process(argv, name=Path(argv[1]).name, env={**os.environ, **(env or {}), "PYTHONUNBUFFERED": "1"})
    process.wait_for_line(ready)
    return process


def app(server: Server, **more: object) -> dict[str, object]:
    return {"backend": server.backend("myapp.localhost"), "secret": "s3cret", **more}


def test_a_flask_callback(server: Server, phone: Phone, tmp_path: Path) -> None:
    script = tmp_path / "bot.py"
    script.write_text(FLASK)
    (port,) = folders.free_ports(1)
    bot = start([sys.executable, str(script), str(port)], "Running on")
    with Gateway([app(server, callback_url=f"http://127.0.0.1:{port}/")]) as gateway:
        gateway.wait_ready().process.wait_for_line("the callback chose its media type")
        assert chat(phone, "world &amp; all") == "hello world & all"
        phone.send("<iq type='get' id='p' to='myapp.localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
        assert phone.heard.wait(lambda stanza: stanza.get("id") == "p").get("type") == "result"
    bot.stop()


def test_a_webapp2_application_behind_webhooks(server: Server, phone: Phone, tmp_path: Path) -> None:
    script = tmp_path / "bot.py"
    script.write_text(WEBAPP2)
    (port,) = folders.free_ports(1)
    with Gateway([app(server, url=f"http://127.0.0.1:{port}", webhook_secret="hook")]) as gateway:
        gateway.wait_ready()
        backend = f"http://myapp.localhost:s3cret@127.0.0.1:{gateway.port}/"
        env = {"APPXMPP_BACKEND": backend, "APPXMPP_WEBHOOK_SECRET": "hook"}
        bot = start([sys.executable, str(script), str(port)], "Serving on", env)
        assert chat(phone, "h\u00e9llo") == "You said: h\u00e9llo"
        assert chat(phone, "again") == "You said: again"
        bot.stop()


def test_a_node_callback(server: Server, phone: Phone, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("NOT TESTED: node is not installed")
    script = tmp_path / "bot.js"
    script.write_text(NODE)
    (port,) = folders.free_ports(1)
    bot = start([node, str(script), str(port)], "Listening")
    callback = app(server, callback_url=f"http://127.0.0.1:{port}/", callback_content_type="json")
    with Gateway([callback]) as gateway:
        gateway.wait_ready()
        assert chat(phone, "stressed") == "desserts"
    bot.stop()


def test_curl(server: Server, phone: Phone) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("NOT TESTED: curl is not installed")
    with Gateway([app(server)]) as gateway:
        gateway.wait_ready()
        base = [curl, "--silent", "--show-error", "--max-time", "20", "--user", "myapp.localhost:s3cret"]
        rest = f"http://127.0.0.1:{gateway.port}/rest"

        def run(*args: str) -> str:
            return subprocess.run([*base, *args], capture_output=True, text=True, check=True, timeout=30).stdout

        stanza = json.dumps({"kind": "message", "type": "chat", "to": phone.bare, "body": "from curl"})
        assert run("--write-out", "%{http_code}", "-H", "Content-Type: application/json", "-d", stanza, rest) == "202"
        heard = phone.heard.wait(lambda stanza: stanza.tag.endswith("message"))
        assert heard.findtext("{jabber:client}body") == "from curl"
        version = json.loads(run("-H", "Accept: application/json", f"{rest}/version/localhost"))
        assert (version["type"], version["version"]["name"]) == ("result", "Prosody")
        refused = run(
            "--user", "myapp.localhost:wrong", "--write-out", "%{http_code}", "--output", "/dev/null", rest + "/x/y"
        )
        assert refused == "403"
