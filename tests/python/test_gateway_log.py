"""What people write, and what opens doors, is not in the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support import folders
from support.gateway import Callback, Gateway, Phone, basic, http_answer
from support.server import Server
from support.servers import KINDS

pytestmark = pytest.mark.servers

DOMAIN, SECRET = "myapp.localhost", "component-PRIVATE"
#: In every text and every secret of these tests.
MARK = "PRIVATE"
AUTH = {"Host": DOMAIN, "Authorization": basic(DOMAIN, SECRET)}
XML = {**AUTH, "Content-Type": "application/xmpp+xml"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One kind will do: what is tested here is on this side of the stream."""
    with KINDS["prosody"]({DOMAIN: SECRET}) as running:
        yield running


def everything(server: Server, form: str, log: dict[str, str]) -> str:
    """The log of a gateway that sent, refused, delivered and failed, each with a marked text."""
    (dead,) = folders.free_ports(1)
    with Callback() as callback:
        app: dict[str, Any] = {
            "backend": server.backend(DOMAIN),
            "secret": SECRET,
            "webhook_secret": "hook-PRIVATE",
            "credentials": ["Bearer token-PRIVATE"],
            "webhook_timeout_seconds": 1,
            "webhook_deadline_seconds": 0,
            form: callback.url,
        }
        with Gateway([app], log=log, drain_seconds=1) as gateway, Phone(server, server.account("log")) as phone:
            gateway.wait_ready()
            requests(gateway, phone)
            deliveries(callback, phone)
            app[form] = f"http://127.0.0.1:{dead}"
            gateway.configure([app], log=log, drain_seconds=1)
            gateway.process.signal(1)
            gateway.process.wait_for_line(f"reloaded: {form}")
            say(phone)
            gateway.process.wait_for_line("webhook failed: .*refused")
        return gateway.process.all_output()


def requests(gateway: Gateway, phone: Phone) -> None:
    message = f"<message to='{phone.bare}' type='chat'><body>{MARK}</body></message>"
    nobody = message.replace(phone.bare, "nobody@localhost")
    wrong = {**XML, "Authorization": basic(DOMAIN, "wrong-PRIVATE")}
    private = {**AUTH, "Content-Type": "application/json"}
    call = json.dumps({"jids": [phone.bare, "a@b@c"], "body": MARK})
    for status, path, body, headers in [
        (202, "/rest", message, XML),
        (202, "/rest", message, {**XML, "Authorization": "Bearer token-PRIVATE"}),
        (200, "/rest", nobody, XML),
        (200, "/rest/echo", message, XML),
        (400, "/rest", message[:-3], XML),
        (422, "/rest", message.replace("message", "massage"), XML),
        (403, "/rest", message, wrong),
        (401, "/rest", message, {**XML, "Authorization": "Bearer wrong-PRIVATE"}),
        (415, "/rest", message, {**XML, "Content-Type": f"text/x-{MARK}"}),
        (202, f"/rest/message/chat/{phone.bare}", MARK, {**AUTH, "Content-Type": "text/plain"}),
        (200, "/appxmpp/v1/message", call, private),
        (422, "/appxmpp/v1/message", json.dumps({"jids": ["a@b"], "body": f"<{MARK}", "raw_xml": True}), private),
        (400, "/appxmpp/v1/message", f'{{"{MARK}"', private),
    ]:
        assert gateway.request("POST", path, body, headers).status == status, (path, body)
    assert gateway.request("GET", f"/rest/{MARK}/x?{MARK}={MARK}", None, AUTH).status == 422


def say(phone: Phone) -> None:
    phone.send(f"<message to='bot@{DOMAIN}' type='chat'><body>{MARK}</body></message>")


def deliveries(callback: Callback, phone: Phone) -> None:
    text = [("Content-Type", "text/plain")]
    for answer in [
        http_answer(204),
        http_answer(200, text, MARK),
        http_answer(404, text, f"no {MARK}"),
        http_answer(500, text, f"Traceback {MARK}"),
        http_answer(302, [("Location", f"http://elsewhere.example/{MARK}")]),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + MARK.encode(),
        MARK.encode() + b" is no HTTP\r\n\r\n",
        b"",
        http_answer(204),
    ]:
        callback.answer = lambda _, answer=answer: answer  # type: ignore[misc]
        say(phone)
        # One sender's are delivered one after the other.
        callback.posts.wait()


@pytest.mark.parametrize("form", ["url", "callback_url"])
def test_no_body_and_no_secret_is_in_the_log(server: Server, form: str) -> None:
    log = everything(server, form, {"format": "text"})
    for said in ["the stream is up", "webhook failed"] + ["the app refused a delivery"] * (form == "url"):
        assert said in log, log
    assert [line for line in log.splitlines() if MARK in line] == []
