"""Ordinary HTTP, and the door in front of it."""

import http.client
import socket
import threading

import pytest
from appxmpp.exits import RUNTIME, Exit
from appxmpp.http import Server, is_loopback
from appxmpp.wsgi import Outside

from support.waiting import until


def test_loopback():
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.0.2.1", "example.com"]))


def test_an_address_in_use_is_explained():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Exit, match=f"cannot listen at 127.0.0.1:{port}.*--port none") as caught:
            Server(("127.0.0.1", port))
    assert caught.value.code == RUNTIME


def echo(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode("latin-1"), environ["wsgi.input"].read()]


@pytest.fixture
def served():
    servers = []

    def start(app):
        server = Server(("127.0.0.1", 0))
        server.start(app, threads=2)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(5)


def test_stopping_is_safe_however_the_threads_meet(monkeypatch):
    """What another thread is asked to do may be done before its wake-up is written."""
    server = Server(("127.0.0.1", 0))
    server.start(echo, threads=2)
    trigger = server._server.trigger

    def pull(thunk):
        with trigger.lock:
            trigger.thunks.append(thunk)
        trigger._physical_pull()
        until(lambda: not trigger.thunks, what="that another wake-up brought it")
        trigger._physical_pull()

    monkeypatch.setattr(trigger, "pull_trigger", pull)
    server.stop(5)
    assert not server._thread.is_alive()
    assert trigger._closed


def raw(server, target):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as peer:
        peer.sendall(f"GET {target} HTTP/1.0\r\nX-AppEngine-Fake-Is-Admin: 1\r\n\r\n".encode("latin-1"))
        return b"".join(iter(lambda: peer.recv(65536), b""))


def test_routes_are_served_and_internal_paths_are_not(served):
    server = served(Outside(echo))
    assert raw(server, "/about").startswith(b"HTTP/1.0 200")
    for target in [
        "/_ah/xmpp/message/chat/",
        "/%5fah/x",
        "//_ah/x",
        "/a/..//_AH/x",
        "http://x/_ah/x",
        "/%255Fah/",
    ]:
        assert raw(server, target).split(b"\r\n")[0] == b"HTTP/1.0 403 Forbidden", target


def test_a_request_at_work_is_finished_before_the_end():
    entered, go = threading.Event(), threading.Event()

    def slow(_environ, start_response):
        entered.set()
        assert go.wait(20)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    server = Server(("127.0.0.1", 0))
    server.start(slow, threads=2)
    answers = []

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/")
        answers.append(connection.getresponse().read())

    asking = threading.Thread(target=ask)
    asking.start()
    assert entered.wait(20)
    stopping = threading.Thread(target=server.stop, args=(20,))
    stopping.start()
    go.set()
    stopping.join(20)
    asking.join(20)
    assert answers == [b"done"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)
