"""Hostile HTTP, on both sides of the gateway: it neither stops nor swells nor is taken in."""

from __future__ import annotations

import contextlib
import gzip
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gateway import Callback, Gateway, Phone, Post, basic, http_answer
from support.server import Server
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.servers

AUTH = basic("myapp.localhost", "s3cret")
HEAD = f"Host: myapp.localhost\r\nAuthorization: {AUTH}\r\nContent-Type: application/xmpp+xml\r\n"


@pytest.fixture(scope="module")
def callback() -> Iterator[Callback]:
    with Callback() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(server: Server, callback: Callback) -> Iterator[Gateway]:
    app = {
        "backend": server.backend("myapp.localhost"),
        "secret": "s3cret",
        "callback_url": callback.url + "/stanzas",
        "webhook_timeout_seconds": 2,
        "webhook_deadline_seconds": 0,
    }
    http = {"header_timeout_seconds": 2, "body_timeout_seconds": 2, "write_timeout_seconds": 2}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    with Gateway([app], http) as running:
        yield running.wait_ready()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def phone(server: Server, callback: Callback) -> Iterator[Phone]:
    callback.posts.clear()
    callback.answer = lambda _: http_answer(204)
    with Phone(server, server.account("hostile")) as client:
        yield client


def dial(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), PATIENCE)


def say(gateway: Gateway, data: bytes | str) -> bytes:
    """Everything the gateway answers until it closes the connection."""
    with dial(gateway) as connection:
        # It may have closed before all was written.
        with contextlib.suppress(OSError):
            connection.sendall(data.encode() if isinstance(data, str) else data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
        return answer


def statuses(answer: bytes) -> list[int]:
    return [int(line.split(b" ")[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def rss(gateway: Gateway) -> int:
    """Resident memory in KiB."""
    text = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))


def message(to: str, text: str = "x") -> str:
    return f"<message to='{to}' type='chat'><body>{text}</body></message>"


def post(body: str, extra: str = "", target: str = "/rest") -> str:
    return f"POST {target} HTTP/1.1\r\n{HEAD}{extra}Content-Length: {len(body.encode())}\r\n\r\n{body}"


def test_pipelined_requests_are_answered_in_order(gateway: Gateway, phone: Phone) -> None:
    requests = [post(message(phone.bare, str(number))) for number in range(3)]
    last = post("<garbage", "Connection: close\r\n")
    assert statuses(say(gateway, "".join([*requests, last]))) == [202, 202, 202, 400]
    for number in range(3):
        assert phone.heard.wait(lambda stanza: stanza.tag.endswith("message"))[0].text == str(number)


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        ("GARBAGE\r\n\r\n", [400]),
        ("POST /rest HTTP/1.1\r\nHost: a\r\nHeader without colon\r\n\r\n", [400]),
        ("POST /rest HTTP/1.1\r\nHost: a\r\nX: " + "x" * 70000 + "\r\n\r\n", [431]),
        ("POST /rest HTTP/1.1\r\n" + "".join(f"X{n}: y\r\n" for n in range(500)) + "\r\n", [431]),
        ("POST /" + "x" * 70000 + " HTTP/1.1\r\nHost: a\r\n\r\n", [414, 431]),
        (f"POST /rest HTTP/1.1\r\n{HEAD}Content-Length: x\r\n\r\n", [400]),
        (f"POST /rest HTTP/1.1\r\n{HEAD}Content-Length: -1\r\n\r\n", [400]),
        (f"POST /rest HTTP/1.1\r\n{HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", [400]),
        (f"POST /rest HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", [400]),
        (f"POST /rest HTTP/1.1\r\n{HEAD}Transfer-Encoding: gzip\r\n\r\nx", [400]),
        (f"POST /rest HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", [400]),
        ("POST /rest HTTP/1.1\r\nAuthorization: x\r\nConnection: close\r\n\r\n", [400]),
        ("GET /rest/ping/%ff HTTP/1.1\r\n" + HEAD + "Connection: close\r\n\r\n", [400]),
        (post("x" * 300_000, "Connection: close\r\n"), [413]),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else None,
)
def test_what_is_no_proper_request_is_refused(gateway: Gateway, request_text: str, expected: list[int]) -> None:
    got = statuses(say(gateway, request_text))
    assert len(got) == 1, got
    assert got[0] in expected
    assert gateway.is_ready()


def test_a_request_cannot_be_smuggled_in_another(gateway: Gateway, phone: Phone) -> None:
    """Of two lengths the one that proxies go by counts, and nothing after it is a request."""
    hidden = post(message(phone.bare, "smuggled"))
    for head in (
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        f"Content-Length: {len(hidden) + 5}\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5 \r\n , 6\r\n",
    ):
        answer = say(gateway, f"POST /rest HTTP/1.1\r\n{HEAD}{head}\r\n0\r\n\r\n{hidden}")
        assert 202 not in statuses(answer), (head, answer)
    assert gateway.request("POST", "/rest", message(phone.bare, "last"), headers()).status == 202
    heard = phone.heard.wait(lambda stanza: stanza.tag.endswith("message"))
    assert heard[0].text == "last"


def test_a_body_that_nobody_reads_is_no_request(gateway: Gateway, phone: Phone) -> None:
    hidden = post(message(phone.bare, "smuggled"))
    query = f"GET /rest/ping/{phone.bare} HTTP/1.1\r\n{HEAD}Content-Length: {len(hidden)}\r\n\r\n{hidden}"
    got = statuses(say(gateway, query + post("<garbage", "Connection: close\r\n")))
    assert got[0] == 200
    assert 202 not in got


def headers(**more: str) -> dict[str, str]:
    return {"Host": "myapp.localhost", "Authorization": AUTH, "Content-Type": "application/xmpp+xml", **more}


def test_who_dawdles_is_let_go(gateway: Gateway) -> None:
    with dial(gateway) as head, dial(gateway) as body, dial(gateway) as idle:
        head.sendall(b"POST /rest HTTP/1.1\r\nHost: my")
        body.sendall(f"POST /rest HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\n<mess".encode())
        # A head that never ends, or never begins, is not worth an answer.
        assert head.recv(1000) == b""
        assert idle.recv(1000) == b""
        assert statuses(body.recv(65536)) == [408]


def test_ten_thousand_idle_connections_do_not_keep_others_out(gateway: Gateway, phone: Phone) -> None:
    before = rss(gateway)
    with contextlib.ExitStack() as stack:
        for _ in range(10_000):
            stack.enter_context(dial(gateway))
        assert gateway.request("POST", "/rest", message(phone.bare), headers()).status == 202
        assert rss(gateway) - before < 200_000
    text = until(lambda: gateway.metrics() if "appxmpp_http_connections 1\n" in gateway.metrics() else "", what="idle")
    assert text


def test_who_does_not_read_is_shown_the_door(gateway: Gateway, phone: Phone) -> None:
    before = rss(gateway)
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: myapp.localhost\r\n\r\n" * 1000
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(dial(gateway))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while client.send(asked):
                    pass
        assert gateway.request("POST", "/rest", message(phone.bare), headers()).status == 202
        until(lambda: "appxmpp_http_connections 1\n" in gateway.metrics(), what="the end of those who do not read")
        assert rss(gateway) - before < 50_000


def test_the_stanza_cannot_be_escaped_from(gateway: Gateway, phone: Phone) -> None:
    for body in (f"x</body></message><message to='{phone.bare}'><body>y", "&lt;/message&gt;", "]]>"):
        answer = gateway.request(
            "POST", "/rest/message/chat/" + phone.bare, body, headers(**{"Content-Type": "text/plain"})
        )
        assert answer.status == 202
        heard = phone.heard.wait(lambda stanza: stanza.tag.endswith("message"))
        assert (heard[0].text, heard.get("from")) == (body, "myapp.localhost")


@pytest.mark.parametrize(
    ("inside", "status"),
    [
        ("</message><message from='carol@elsewhere'>", 400),
        ("</message></stream:stream>", 400),
        ("<stream:x/>", 400),
        ("<x", 400),
        ("<!--", 400),
        ("&entity;", 400),
        ("<x>" * 200 + "</x>" * 200, 413),
        (f"<body>{'x' * 600_000}</body>", 413),
    ],
)
def test_xml_cannot_break_out_of_its_stanza(gateway: Gateway, phone: Phone, inside: str, status: int) -> None:
    body = f"<message to='{phone.bare}'>{inside}</message>"
    assert gateway.request("POST", "/rest", body, headers()).status == status
    assert gateway.request("POST", "/rest", message(phone.bare, "after it"), headers()).status == 202
    phone.heard.wait(lambda stanza: stanza.tag.endswith("message") and stanza[0].text == "after it")


MULTIPART = (
    b"",
    b"--x",
    b"--x\r\n",
    b"--x\r\nContent-Disposition: form-data; name=body\r\n\r\nno end",
    b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\n--x--",
    b"--x\r\n\r\n--x--\r\n" * 1000,
)


@pytest.mark.parametrize("body", MULTIPART, ids=range(len(MULTIPART)))
@pytest.mark.parametrize(
    "media", ["multipart/form-data", "multipart/form-data; boundary=x", "multipart/mixed; boundary="]
)
def test_multipart_is_no_body_for_it(gateway: Gateway, phone: Phone, body: bytes, media: str) -> None:
    refused = gateway.request("POST", "/rest", body, headers(**{"Content-Type": media}))
    assert refused.status == 415
    assert gateway.request("POST", "/rest", message(phone.bare), headers()).status == 202


def test_a_stanza_cannot_add_headers_to_its_callback(
    gateway: Gateway, callback: Callback, phone: Phone, server: Server
) -> None:
    lang = "en&#13;&#10;X-Injected: 1"
    phone.send(f"<message to='bot@myapp.localhost' id='h' xml:lang='{lang}' type='chat'><body>x</body></message>")
    posts = []
    # ejabberd refuses such a language itself.
    if server.kind == "prosody":
        posts.append(callback.posts.wait())
    with Phone(server, server.account("plain")) as other:
        other.send("<message to='bot@myapp.localhost' id='p' type='chat'><body>plain</body></message>")
        posts.append(callback.posts.wait())
    assert b"<body>plain</body>" in posts[-1].body
    assert all("X-Injected" not in post.headers for post in posts)


ANSWERS = {
    "redirect": (http_answer(302, [("Location", "http://127.0.0.1:1/")]), "undefined-condition"),
    "bomb": (
        http_answer(
            404, [("Content-Encoding", "gzip"), ("Content-Type", "application/json")], gzip.compress(bytes(1 << 26))
        ),
        "item-not-found",
    ),
    "flood": (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x" * (12 << 20), "recipient-unavailable"),
    "headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n", "recipient-unavailable"),
    "garbage": (b"\0" * 100 + b"\r\n\r\n", "recipient-unavailable"),
    "nothing": (b"", "recipient-unavailable"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_hostile_callback_becomes_an_error(gateway: Gateway, callback: Callback, phone: Phone, kind: str) -> None:
    answer, condition = ANSWERS[kind]
    callback.answer = lambda _: answer
    phone.send(f"<message to='bot@myapp.localhost' id='{kind}' type='chat'><body>x</body></message>")
    error = phone.heard.wait(lambda stanza: stanza.get("id") == kind and stanza.get("type") == "error")
    assert error.find(f".//{{urn:ietf:params:xml:ns:xmpp-stanzas}}{condition}") is not None


def provoke(phone: Phone, id: str) -> str:
    """The condition of the error that the sender of a message gets."""
    phone.send(f"<message to='bot@myapp.localhost' id='{id}' type='chat'><body>x</body></message>")
    error = phone.heard.wait(lambda stanza: stanza.get("id") == id and stanza.get("type") == "error")
    return next(child.tag for child in error.iter() if "xmpp-stanzas" in child.tag).partition("}")[2]


@pytest.mark.parametrize("kind", ["bomb", "flood", "headers", "garbage"])
def test_hostile_answers_leave_nothing_behind(gateway: Gateway, callback: Callback, phone: Phone, kind: str) -> None:
    """What the first ones take, the allocator may keep; each further one takes nothing."""
    answer, condition = ANSWERS[kind]
    callback.answer = lambda _: answer
    for number in range(10):
        assert provoke(phone, f"{kind}-{number}") == condition
    before = rss(gateway)
    for number in range(10, 60):
        assert provoke(phone, f"{kind}-{number}") == condition
    # Of a flood 10 MiB are read, and a bomb is 64 MiB: one that stays would show.
    assert rss(gateway) - before < 8_000
    callback.posts.clear()


def test_a_callback_that_drips_is_given_up_in_time(gateway: Gateway, callback: Callback, phone: Phone) -> None:
    """Each byte is progress, and the answer as a whole has its time."""
    left = threading.Event()
    pace = threading.Event()

    def drip(_: Post) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n"
        try:
            while not pace.wait(0.05):
                yield b"x"
        finally:
            left.set()

    callback.answer = drip
    began = time.monotonic()
    assert provoke(phone, "drip") == "recipient-unavailable"
    assert 1.5 < time.monotonic() - began < 8
    # It does not read on in the background either.
    assert left.wait(PATIENCE)
    pace.set()


def test_heads_that_drip_are_given_up_too(gateway: Gateway, callback: Callback, phone: Phone) -> None:
    pace = threading.Event()

    def drip(_: Post) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nX: "
        while not pace.wait(0.05):
            yield b"x"

    callback.answer = drip
    before = rss(gateway)
    assert provoke(phone, "head") == "recipient-unavailable"
    assert rss(gateway) - before < 8_000
    pace.set()


def test_a_callback_that_hangs_holds_up_only_its_sender(
    gateway: Gateway, callback: Callback, phone: Phone, server: Server
) -> None:
    hang = threading.Event()

    def answer(post: Post) -> bytes:
        if b"hang" in post.body:
            hang.wait(PATIENCE)
        return http_answer(200, [("Content-Type", "text/plain")], "done")

    callback.answer = answer
    phone.send("<message to='bot@myapp.localhost' id='hang' type='chat'><body>hang</body></message>")
    with Phone(server, server.account("other")) as other:
        other.send("<message to='bot@myapp.localhost' id='o' type='chat'><body>quick</body></message>")
        assert other.heard.wait(lambda stanza: stanza.tag.endswith("message"))[0].text == "done"
    error = phone.heard.wait(lambda stanza: stanza.get("id") == "hang")
    assert error.get("type") == "error"
    hang.set()
