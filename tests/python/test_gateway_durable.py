"""With a store that lasts, what an app did not take is not lost."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gateway import Answer, Callback, Gateway, Phone, Post, basic, binary, http_answer
from support.proxy import Proxy
from support.server import Server
from support.servers import KINDS
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.servers

PATH = "/_ah/xmpp/message/chat/"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One kind will do: what is tested here is on this side of the stream."""
    with KINDS["prosody"]() as running:
        yield running


@pytest.fixture
def web() -> Iterator[Callback]:
    with Callback() as running:
        yield running


@pytest.fixture(params=["url", "callback_url"])
def gateway(request: pytest.FixtureRequest, server: Server, web: Callback, tmp_path: Path) -> Iterator[Gateway]:
    app = {
        "backend": server.backend("myapp.localhost"),
        "secret": "s3cret",
        request.param: web.url,
        "webhook_deadline_seconds": 0,
    }
    with Gateway([app], env={"APPXMPP_STORE_URL": f"sqlite:{tmp_path}/state.db"}, drain_seconds=1) as running:
        yield running.wait_ready()


@pytest.fixture
def phone(server: Server) -> Iterator[Phone]:
    with Phone(server, server.account("durable")) as client:
        yield client


def letters(gateway: Gateway, *args: str) -> str:
    argv = [binary(), "deadletters", "-c", str(gateway.config), *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


def say(phone: Phone, text: str) -> None:
    phone.send(f"<message to='bot@myapp.localhost' type='chat' id='{text}'><body>{text}</body></message>")


def test_what_was_given_up_can_be_replayed_and_purged(gateway: Gateway, web: Callback, phone: Phone) -> None:
    web.answer = lambda _: http_answer(503)
    for text in ("one", "two", "three"):
        say(phone, text)
    first, second, third = until(
        lambda: lines if len(lines := letters(gateway, "list").splitlines()) == 3 else [], what="dead letters"
    )
    assert "  unavailable  " in first
    assert first.endswith(phone.jid)
    web.posts.clear()
    web.answer = lambda _: http_answer(204)
    assert letters(gateway, "replay", second.split()[0]) == "replayed: 1\n"
    assert b"two" in web.posts.wait().body
    assert letters(gateway, "list").splitlines() == [first, third]
    assert letters(gateway, "purge", first.split()[0]) == "purged: 1\n"
    assert letters(gateway, "replay", "--all") == "replayed: 1\n"
    assert b"three" in web.posts.wait().body
    assert letters(gateway, "list") == ""
    with pytest.raises(subprocess.CalledProcessError):
        letters(gateway, "purge", "12345")


@pytest.mark.parametrize("end", ["crash", "stop"])
def test_what_was_not_delivered_goes_on_after_the_next_start(
    gateway: Gateway, web: Callback, phone: Phone, end: str
) -> None:
    release = threading.Event()

    def answer(_: Post) -> bytes:
        release.wait(PATIENCE)
        return http_answer(204)

    web.answer = answer
    say(phone, "first")
    say(phone, "second")
    before = web.posts.wait()
    # Both are in the store; the second waits behind the first.
    until(lambda: 'appxmpp_queue_depth{app="myapp"} 2' in gateway.metrics(), what="both messages")
    if end == "crash":
        gateway.process.kill()
    else:
        assert gateway.process.stop(30) == 0
    release.set()
    web.posts.clear()
    gateway.start()
    gateway.wait_ready()
    again, after = web.posts.take(2)
    assert (b"first" in again.body, b"second" in after.body) == (True, True)
    assert again.headers["Appxmpp-Delivery"] == before.headers["Appxmpp-Delivery"]
    assert again.headers["Appxmpp-Delivery"] != after.headers["Appxmpp-Delivery"]
    assert letters(gateway, "list") == ""
    # What was delivered does not come a third time.
    say(phone, "last")
    assert b"last" in web.posts.wait().body
    assert gateway.process.stop(30) == 0
    gateway.start()
    gateway.wait_ready()
    say(phone, "new")
    assert b"new" in web.posts.wait().body


def test_a_restart_gives_a_delivery_no_more_time(server: Server, web: Callback, phone: Phone, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    app = {"backend": server.backend("myapp.localhost"), "secret": "s3cret", "url": web.url}
    web.answer = lambda _: http_answer(503)
    with Gateway([app], env={"APPXMPP_STORE_URL": f"sqlite:{state}"}, drain_seconds=1) as gateway:
        gateway.wait_ready()
        say(phone, "late")
        web.posts.wait()
        assert gateway.process.stop(30) == 0
        # As if the gateway had been down, and up, for ten minutes.
        with contextlib.closing(sqlite3.connect(state)) as rows, rows:
            assert rows.execute("UPDATE inbox SET came = came - 600000 WHERE came > 600000").rowcount == 1
        gateway.start()
        gateway.wait_ready()
        error = phone.heard.wait(lambda stanza: stanza.get("type") == "error")
        assert error.get("id") == "late"
        assert letters(gateway, "list").splitlines()[0].endswith(phone.jid)
        # Delivered once more, it has all its time again.
        web.posts.clear()
        assert letters(gateway, "replay", "--all") == "replayed: 1\n"
        web.posts.take(2)
        assert letters(gateway, "list") == ""


def test_what_is_accepted_while_the_server_is_away_arrives_when_it_is_back(server: Server, tmp_path: Path) -> None:
    with Proxy(server.component_port) as proxy, Phone(server, server.account("durable")) as phone:
        app = {"backend": f"component://myapp.localhost@127.0.0.1:{proxy.port}", "secret": "s3cret"}
        env = {"APPXMPP_STORE_URL": f"sqlite:{tmp_path}/state.db", "APPXMPP_STORE_OUTBOX_MESSAGES": "2"}
        with Gateway([app], env=env) as gateway:
            gateway.wait_ready()
            proxy.refuse()
            until(lambda: not gateway.is_ready(), what="the end of the stream")
            headers = {"Authorization": basic("myapp.localhost", "s3cret"), "Content-Type": "text/plain"}

            def post(kind: str, body: str) -> Answer:
                return gateway.request("POST", f"/rest/{kind}/{phone.bare}", body, headers)

            assert [post("message/chat", body).status for body in ("one", "two")] == [202, 202]
            full = post("message/chat", "three")
            assert (full.status, full.headers["Retry-After"]) == (503, "30")
            iq = {**headers, "Content-Type": "application/xmpp+xml"}
            ping = f"<iq type='get' to='{phone.bare}'><ping xmlns='urn:xmpp:ping'/></iq>"
            assert gateway.request("POST", "/rest", ping, iq).status == 503, "nobody would hear the answer"
            gateway.process.kill()
            proxy.accept()
            gateway.start()
            bodies = [
                phone.heard.wait(lambda stanza: stanza.tag.endswith("message")).findtext("{jabber:client}body")
                for _ in range(2)
            ]
            assert bodies == ["one", "two"]
            until(lambda: 'state="waiting"} 0' in gateway.metrics(), what="the server's acknowledgement")
