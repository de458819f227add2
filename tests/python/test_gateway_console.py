"""The development console: any user is played against an app on the server inside the gateway, by HTTP."""

from __future__ import annotations

import html
import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import folders
from support.gateway import Callback, Gateway, Post, basic, http_answer
from support.process import Process
from support.waiting import PATIENCE, until

ROMEO, BOT = "romeo@example.net/phone", "bot@bot.example.net"
HELLO = "h\u00e9llo \u2603 <script>alert(1)</script>"


class Page:
    """A browser without a script: it keeps the cookie, and names itself as the origin."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.host, self.port = parts.hostname, parts.port
        self.cookie = ""
        status, headers, _ = self.request("GET", f"{parts.path}?{parts.query}")
        assert (status, headers["Location"]) == (303, "/")
        assert "HttpOnly; SameSite=Strict" in headers["Set-Cookie"]
        self.cookie = headers["Set-Cookie"].partition(";")[0]

    def request(
        self, method: str, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, Any, str]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        given = {"Cookie": self.cookie, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if form is not None:
            given = {"Content-Type": "application/x-www-form-urlencoded", **given}
        body = None if form is None else urllib.parse.urlencode(form)
        try:
            connection.request(method, path, body, given)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def do(self, what: str, **fields: str) -> None:
        status, _, said = self.request("POST", "/act", {"user": ROMEO, "to": BOT, "do": what, **fields})
        assert status == 303, said

    def refusal(self, what: str, **fields: str) -> str:
        form = {"user": ROMEO, "to": BOT, "do": what, **fields}
        status, _, said = self.request("POST", "/act", form, Accept="text/plain")
        assert status == 422
        return said

    def shows(self, text: str) -> bool:
        return html.escape(text, quote=False) in self.request("GET", "/")[2]


@pytest.fixture
def callback() -> Iterator[Callback]:
    with Callback() as running:
        running.answer = lambda _: http_answer(200)
        yield running


@pytest.fixture
def gateway(callback: Callback) -> Iterator[Gateway]:
    (port,) = folders.free_ports(1)
    app = {"backend": "dev://bot.example.net", "url": callback.url}
    with Gateway([app], console={"listen": f"127.0.0.1:{port}"}) as running:
        yield running.wait_ready()


@pytest.fixture
def page(gateway: Gateway) -> Page:
    return Page(gateway.process.wait_for_line(r"console: (http://\S+)")[1])


def field(post: Post, name: str) -> str:
    found = re.search(rf'name="{name}"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--'.encode(), post.body, re.DOTALL)
    assert found, post.body
    return found[1].decode()


def test_a_user_chats_with_the_app(gateway: Gateway, callback: Callback, page: Page) -> None:
    page.do("message", type="chat", body=HELLO)
    post = callback.posts.wait()
    assert (post.path, field(post, "body"), field(post, "from")) == ("/_ah/xmpp/message/chat/", HELLO, ROMEO)
    stanza = json.dumps({"kind": "message", "type": "chat", "to": "romeo@example.net", "body": "what? " + HELLO})
    headers = {"Authorization": basic("bot.example.net", "dev"), "Content-Type": "application/json"}
    assert gateway.request("POST", "/rest", stanza, headers).status == 202
    until(lambda: page.shows("what? " + HELLO), what="the app's message on the page")
    shown = page.request("GET", "/")[2]
    assert "<script>alert" not in shown
    assert "&lt;message from=&quot;" in shown, "the XML view"
    _, headers, talk = page.request("GET", "/talk.txt?" + urllib.parse.urlencode({"user": ROMEO}))
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert talk == f"#me {HELLO}\n#bot what? {HELLO}\n"


def test_a_user_has_presence_and_subscribes(callback: Callback, page: Page) -> None:
    page.do("subscribe", accepts="yes")
    assert callback.posts.wait().path == "/_ah/xmpp/subscription/subscribe/"
    until(lambda: page.shows("presence subscribed"), what="the app's consent")
    page.do("presence", show="away", status="zur\u00fcck um 14 Uhr", directed="yes")
    # The first one tells that the user is there at all.
    post = callback.posts.wait(lambda post: b"away" in post.body)
    assert post.path == "/_ah/xmpp/presence/available/"
    assert (field(post, "show"), field(post, "status")) == ("away", "zur\u00fcck um 14 Uhr")
    page.do("probe")
    assert callback.posts.wait(lambda post: "probe" in post.path).path == "/_ah/xmpp/presence/probe/"
    page.do("presence", show="unavailable", directed="yes")
    assert callback.posts.wait(lambda post: "unavailable" in post.path)
    page.do("unsubscribe")
    assert callback.posts.wait(lambda post: "unsubscribe" in post.path)


def test_errors_and_raw_xml(callback: Callback, page: Page) -> None:
    page.do("error", condition="gone", error_text="moved away")
    post = callback.posts.wait()
    assert post.path == "/_ah/xmpp/error/"
    assert "<cli:gone" in field(post, "stanza") or "<gone" in field(post, "stanza")
    page.do("raw", xml=f"<message to='{BOT}' type='chat'><body>raw</body><x xmlns='urn:x'/></message>")
    post = callback.posts.wait()
    assert field(post, "body") == "raw"
    assert "urn:x" in field(post, "stanza")


@pytest.mark.parametrize(
    ("what", "fields", "says"),
    [
        ("message", {"to": "bot@elsewhere.example", "body": "x"}, "anything@bot.example.net"),
        ("message", {"user": "@", "body": "x"}, "@"),
        ("message", {"user": "x@bot.example.net", "body": "x"}, "cannot be a user"),
        ("message", {"body": "\x01"}, "XML cannot carry"),
        ("raw", {"xml": "<message><body>"}, "XML"),
        ("raw", {"xml": "<message/></stream:stream>"}, "XML"),
        ("error", {"condition": "tired"}, "tired"),
        ("dance", {}, "dance"),
    ],
)
def test_what_cannot_be_is_said(page: Page, what: str, fields: dict[str, str], says: str) -> None:
    assert says.lower() in page.refusal(what, **fields).lower()
    # Without the script, the page says it and keeps what was typed.
    status, _, shown = page.request("POST", "/act", {"user": ROMEO, "to": BOT, "do": what, **fields})
    assert status == 422
    assert '<p role="alert" id="wrong"></p>' not in shown
    assert html.escape(fields.get("body", "") + fields.get("xml", "")).replace("\x01", "\ufffd") in shown


def test_strangers_are_refused(gateway: Gateway, page: Page) -> None:
    form = {"user": ROMEO, "to": BOT, "do": "message", "body": "x"}
    own = f"127.0.0.1:{page.port}"
    assert page.request("POST", "/act", form, Origin=f"http://{own}")[0] == 303
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null"):
        assert page.request("POST", "/act", form, Origin=origin)[0] == 403, origin
    for host in ("evil.example", f"evil.example:{page.port}"):
        assert page.request("GET", "/", Host=host)[0] == 403, host
    assert page.request("GET", "/", Host=f"localhost:{page.port}")[0] == 200
    for path in ("/", "/events", "/talk.txt", "/console.js", "/?key=", "/?key=wrong"):
        status, headers, said = page.request("GET", path, Cookie="")
        assert (status, "the key is in it" in said) == (403, True), path
        assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert gateway.request("GET", "/act").status == 404, "the console is on its own port alone"
    key = page.cookie.partition("=")[2]
    log = [line for line in gateway.process.all_output().splitlines() if key in line]
    assert [line.startswith("development console: ") for line in log] == [True], "the key is not logged"


def test_the_page_needs_nothing_from_elsewhere(page: Page) -> None:
    _, headers, shown = page.request("GET", "/")
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for path in re.findall(r'(?:src|href|action)="([^"]+)"', shown):
        assert path.startswith("/"), path
        assert page.request("GET", html.unescape(path))[0] in (200, 405), path
    assert not re.search(r"\son[a-z]+=|style=|<script(?! src)|<style", shown)
    # Each field has a label, and the language is said.
    assert '<html lang="en">' in shown
    fields = re.findall(r"<(?:input|select|textarea)\b", shown)
    assert len(re.findall(r"<label[^>]*>[^<]*<(?:input|select|textarea)\b", shown)) == len(fields)


def test_what_happens_is_told_as_it_does(callback: Callback, page: Page) -> None:
    connection = http.client.HTTPConnection(page.host, page.port, timeout=PATIENCE)
    connection.request("GET", "/events?after=0", headers={"Cookie": page.cookie})
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "text/event-stream"
    page.do("message", type="chat", body="line one\nline two")
    lines = []
    while "line two" not in (line := response.readline().decode()):
        assert line, "the stream ended"
        lines.append(line)
    assert all(re.match(r"(id: \d+|data: .*|:)?\n", line) for line in lines), lines
    connection.close()


def test_the_console_ends_with_the_gateway(gateway: Gateway, page: Page) -> None:
    connection = http.client.HTTPConnection(page.host, page.port, timeout=PATIENCE)
    connection.request("GET", "/events", headers={"Cookie": page.cookie})
    connection.getresponse()
    gateway.process.signal(signal.SIGTERM)
    assert gateway.process.wait() == 0
    connection.close()


def test_appxmpp_dev_has_it_too(tmp_path: Path) -> None:
    (port,) = folders.free_ports(1)
    (tmp_path / "app.yaml").write_text(
        "application: echo\ninbound_services:\n- xmpp_message\nhandlers:\n- url: /_ah/xmpp/.*\n  script: main.app\n"
    )
    (tmp_path / "main.py").write_text(
        "import webapp2\n"
        "from google.appengine.api import xmpp\n"
        "class Chat(webapp2.RequestHandler):\n"
        "    def post(self):\n"
        "        message = xmpp.Message(self.request.POST)\n"
        "        message.reply('You said: ' + message.body)\n"
        "app = webapp2.WSGIApplication([('/_ah/xmpp/message/chat/', Chat)])\n"
    )
    argv = [sys.executable, "-m", "appxmpp", "dev", str(tmp_path), "--port", "none", "--console", f"127.0.0.1:{port}"]
    process = Process(argv, name="dev", cwd=tmp_path)
    page = Page(process.wait_for_line(r"console is at (http://\S+)")[1])
    until(lambda: page.shows("echo.appspotchat.com is connected"), what="the app")
    page.do("message", type="chat", body=HELLO, to="echo@echo.appspotchat.com")
    until(lambda: page.shows("You said: " + HELLO), what="the reply")
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    refused = subprocess.run([*argv[:-1], "0.0.0.0:1"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert refused.returncode == 78
    assert "this machine alone" in refused.stderr


def test_in_a_browser(page: Page, callback: Callback, tmp_path: Path) -> None:
    """The script runs under the policy: what happened before and after it began is on the page."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("NOT TESTED: chromium is not installed")
    page.do("message", type="chat", body=HELLO)
    key = page.cookie.partition("=")[2]
    argv = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--timeout=3000"]
    url = f"http://{page.host}:{page.port}/?key={key}"
    done = subprocess.run([*argv, "--dump-dom", url], capture_output=True, text=True, timeout=PATIENCE * 3, check=True)
    assert html.escape(HELLO, quote=False) in done.stdout
    assert "violates" not in done.stderr
