"""The backend that speaks HTTP: what its address says, and that nothing it posts goes out twice."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from appxmpp.errors import ConfigError, UnavailableError
from appxmpp.gateway_backend import Address, Gateway, ModRest, open_backend

from support import folders
from support.certs import Authority
from support.gateway import Callback, Post, http_answer
from support.listener import serve_each
from support.waiting import PATIENCE, Inbox, until

SENT = {"statuses": [0]}


@pytest.fixture
def gateway() -> Iterator[Callback]:
    """What answers in a gateway's place."""
    with Callback() as running:
        running.answer = lambda _: http_answer(200, (), json.dumps(SENT))
        yield running


def address(gateway: Callback, more: str = "") -> str:
    return gateway.url.replace("://", "://bot.example:s3cret@") + "/" + more


def send(backend: Any, body: str = "x") -> list[int]:
    return list(backend.send_message(["a@b"], body, None, "chat", False))


def bodies(gateway: Callback) -> list[str]:
    return [json.loads(post.body)["body"] for post in gateway.posts]


def test_a_connection_that_was_closed_meanwhile_is_made_anew(gateway: Callback) -> None:
    backend = open_backend(address(gateway))

    def answer_and_leave(post: Post) -> bytes:
        # Longer than it says, so that the connection ends with it; what the client reads is whole.
        return http_answer(200, (), json.dumps(SENT)) + b" "

    gateway.answer = answer_and_leave
    assert send(backend, "first") == [0]
    until(lambda: not backend._http._is_fresh(), what="the end of the connection")
    gateway.answer = lambda _: http_answer(200, (), json.dumps(SENT))
    assert [send(backend, text) for text in ("second", "third")] == [[0], [0]]
    assert bodies(gateway) == ["first", "second", "third"]


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", http_answer(200, (), b"{}")[:-1]])
def test_what_was_read_and_not_answered_is_not_sent_again(gateway: Callback, cut: bytes) -> None:
    """The gateway may have sent the message before it died."""
    backend = open_backend(address(gateway))
    assert send(backend, "first") == [0]
    gateway.answer = lambda _: cut
    with pytest.raises(UnavailableError, match="may have been"):
        send(backend, "second")
    assert bodies(gateway) == ["first", "second"]
    gateway.answer = lambda _: http_answer(200, (), json.dumps(SENT))
    assert send(backend, "third") == [0]


def test_an_app_is_told_by_the_status(gateway: Callback, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on App Engine, where a call that came to nothing did not raise: apps repeat for ever what raises."""
    from appxmpp import backend
    from google.appengine.api import xmpp

    gateway.answer = lambda _: b""
    monkeypatch.setenv("APPXMPP_BACKEND", address(gateway))
    before = backend.set(None)
    try:
        assert xmpp.send_message(["a@b", "c@d"], "x") == [xmpp.OTHER_ERROR] * 2
    finally:
        backend.set(before)
    assert len(list(gateway.posts)) == 1


def test_a_question_may_be_asked_again(gateway: Callback) -> None:
    backend = open_backend(address(gateway))
    assert send(backend) == [0]
    answers = [b"", http_answer(200, (), json.dumps({"presence": [{"available": True, "show": 0, "valid": True}]}))]
    gateway.answer = lambda _: answers.pop(0)
    assert backend.get_presence(["a@b"], None) == [(True, 0, True)]
    assert [post.path.rpartition("/")[2] for post in gateway.posts] == ["message", "get_presence", "get_presence"]


class Hasty:
    """Answers the first request of all; cuts the first connection in the second, which it reads in part."""

    def __init__(self) -> None:
        self.whole: Inbox[str] = Inbox("request")
        self._cut = False
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://bot.example:s3cret@127.0.0.1:{self._socket.getsockname()[1]}/"
        serve_each(self._socket, self._serve, "hasty")

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            while head := b"".join(iter(reader.readline, b"\r\n")).decode():
                length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("Content-Length:"))
                if length > 1 << 20 and not self._cut:
                    self._cut = True
                    return
                self.whole.put(json.loads(reader.read(length))["body"])
                connection.sendall(http_answer(200, (), json.dumps(SENT)))

    def close(self) -> None:
        self._socket.close()


def test_what_did_not_go_out_whole_is_sent_again() -> None:
    hasty = Hasty()
    try:
        backend = open_backend(hasty.url)
        long = "x" * (32 << 20)
        assert [send(backend, "first"), send(backend, long)] == [[0], [0]]
        assert list(hasty.whole) == ["first", long]
    finally:
        hasty.close()


@pytest.mark.parametrize(
    ("text", "domain", "host"),
    [
        ("http://gateway.example:5280/", "gateway.example", "gateway.example:5280"),
        ("http://gateway.example", "gateway.example", "gateway.example"),
        ("https://chat.example:5281/rest", "chat.example", "chat.example:5281"),
        ("http://bot.example@127.0.0.1:5280/", "bot.example", "127.0.0.1:5280"),
    ],
)
def test_without_a_domain_the_host_is_the_component(text: str, domain: str, host: str) -> None:
    made = Address(text, "s3cret")
    assert (made.domain, made.place) == (domain, host)
    basic = base64.b64encode(f"{domain}:s3cret".encode()).decode()
    assert made.headers()["Authorization"] == f"Basic {basic}"
    assert made.headers()["Host"] == domain


def test_the_path_says_what_is_spoken() -> None:
    assert isinstance(open_backend("http://h.example:5280/rest", "s"), ModRest)
    assert isinstance(open_backend("https://h.example:5280/rest/", "s"), ModRest)
    assert isinstance(open_backend("http://h.example:5280/", "s"), Gateway)


@pytest.mark.parametrize(
    ("text", "secret", "said"),
    [
        ("http://gateway.example:5280/rest", None, "APPXMPP_SECRET"),
        ("http://127.0.0.1:5280/", "s", "names no DOMAIN"),
        ("http://[::1]:5280/", "s", "names no DOMAIN"),
        ("http+unix:///run/appxmpp.sock", "s", "names no DOMAIN"),
        ("http://d:s@/x", None, "names no host"),
        ("http://d:s@h/?ca=/x", None, "not encrypted"),
        ("https://d:s@h/?pin=x", None, r"\?ca=FILE"),
        ("https://d:s@h/?ca=", None, r"\?ca=FILE"),
        ("https://d:s@h/?ca=/nowhere.pem", None, "/nowhere.pem"),
    ],
)
def test_an_address_that_will_not_do_says_why(text: str, secret: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_backend(text, secret)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = folders.folder("backend-tls")
    yield made
    folders.remove(made)


def test_https_goes_to_whom_the_named_authority_vouches_for(folder: Path) -> None:
    authority, other = Authority(folder), Authority(folder, "other")
    with Callback(authority.server("DNS:localhost"), "localhost") as gateway:
        gateway.answer = lambda _: http_answer(200, (), json.dumps(SENT))
        for more, path in [("", "/appxmpp/v1/message"), ("rest", "/rest")]:
            backend = open_backend(address(gateway, f"{more}?ca={authority.certificate}"))
            if more:
                gateway.answer = lambda _: http_answer(202)
            assert [send(backend), send(backend)] == [[0], [0]]
            assert {post.path for post in gateway.posts} == {path}
            gateway.posts.clear()
        for ca in ("", f"?ca={other.certificate}"):
            with pytest.raises(UnavailableError, match=r"is not trusted.*\?ca=FILE"):
                send(open_backend(address(gateway, ca)))
    with Callback(authority.server("DNS:elsewhere.example"), "localhost") as gateway:
        with pytest.raises(UnavailableError, match="is not trusted"):
            send(open_backend(address(gateway, f"?ca={authority.certificate}")))
        assert not list(gateway.posts)


def test_a_gateway_that_does_not_answer_is_waited_for_only_so_long(
    gateway: Callback,
) -> None:
    go = threading.Event()

    def hang(_: Post) -> bytes:
        go.wait(PATIENCE)
        return b""

    backend = open_backend(address(gateway))
    assert send(backend) == [0]
    gateway.answer = hang
    backend._http._link.connection.sock.settimeout(0.2)
    with pytest.raises(UnavailableError, match="did not answer"):
        send(backend)
    assert len(list(gateway.posts)) == 2
    go.set()
