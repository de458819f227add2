"""What of HTTP the gateway does that mod_rest's contract does not say, or says otherwise."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.gateway import XML_HEADERS as HEADERS
from support.gateway import Gateway, Phone
from support.server import Server
from support.servers import KINDS
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One kind will do: what is tested here is on this side of the stream."""
    with KINDS["prosody"]() as running:
        yield running


@pytest.fixture(scope="module", params=[False, True], ids=["default", "strict"])
def gateway(request: pytest.FixtureRequest, server: Server) -> Iterator[Gateway]:
    def app(name: str) -> dict[str, Any]:
        return {"backend": server.backend(f"{name}.localhost"), "secret": server.components[f"{name}.localhost"]}

    strict = {"strict_mod_rest": request.param, "bounce_wait_ms": int(PATIENCE * 3000)}
    with Gateway([{**app("myapp"), **strict}, {**app("second"), **strict}]) as running:
        yield running.wait_ready()


@pytest.fixture
def phone(server: Server) -> Iterator[Phone]:
    with Phone(server, server.account("http")) as client:
        yield client


def test_head_is_get_without_the_body(gateway: Gateway) -> None:
    got = gateway.request("GET", "/rest/ping/localhost", headers=HEADERS)
    head = gateway.request("HEAD", "/rest/ping/localhost", headers=HEADERS)
    assert (got.status, head.status) == (200, 200)
    assert head.headers["Content-Type"] == got.headers["Content-Type"]
    assert head.body == b""
    assert gateway.request("HEAD", "/rest/ping/localhost", headers={"Host": "myapp.localhost"}).status == 401


@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
def test_a_browser_can_read_that_its_host_is_unknown(gateway: Gateway, method: str) -> None:
    answer = gateway.request(method, "/rest", headers={**HEADERS, "Host": "nobody.example"})
    assert answer.status == 404
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    known = gateway.request("OPTIONS", "/rest", headers=HEADERS)
    name = "Access-Control-Allow-Headers"
    assert answer.headers[name] == known.headers[name]


def test_an_iq_may_have_the_id_of_a_message_that_is_under_way(gateway: Gateway, server: Server, phone: Phone) -> None:
    # Nothing comes back from a server that stands still, so that the message waits for its bounce.
    server.pause()
    try:
        message = f"<message to='{phone.bare}' id='same' type='chat'><body>x</body></message>"
        waiting = threading.Thread(target=gateway.request, args=("POST", "/rest", message, HEADERS))
        waiting.start()
        until(lambda: 'appxmpp_iq_pending{app="myapp"} 1' in gateway.metrics(), what="the message that waits")
        iq = f"<iq to='{phone.bare}' id='same' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
        answer = gateway.request("POST", "/rest", iq, {**HEADERS, "Prosody-Rest-Timeout": "0"})
        assert answer.status == 500
        assert b"IQ stanza timed out" in answer.body
    finally:
        server.resume()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def exchange(gateway: Gateway, head: str, body: bytes) -> bytes:
    """What is answered to a request whose framing is its own."""
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
        lines = [f"{name}: {value}" for name, value in HEADERS.items()]
        text = "\r\n".join(["POST /rest HTTP/1.1", *lines, head, "Connection: close", "", ""])
        connection.sendall(text.encode() + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def test_bodies_may_come_in_chunks_and_after_a_question(gateway: Gateway, phone: Phone) -> None:
    message = f"<message to='{phone.bare}' type='chat'><body>x</body></message>".encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (message[:9], message[9:])) + b"0\r\n\r\n"
    assert exchange(gateway, "Transfer-Encoding: chunked", chunks).startswith(b"HTTP/1.1 202 ")
    asked = exchange(gateway, f"Expect: 100-continue\r\nContent-Length: {len(message)}", message)
    assert asked.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")


def test_json_of_the_wrong_type_is_refused_unless_strictly(gateway: Gateway, phone: Phone) -> None:
    headers = {**HEADERS, "Content-Type": "application/json"}
    answer = gateway.request("POST", "/rest/echo", f'{{"to": "{phone.bare}", "body": 5}}', headers)
    strict = gateway.request("OPTIONS", "/rest", headers=HEADERS).headers["Access-Control-Allow-Headers"]
    assert answer.status == (400 if "Authorization" in strict else 200)
