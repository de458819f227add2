"""How the gateway ends: everybody is told, and what is read meanwhile is answered."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fake_server import ACCEPT, FakeServer

from support.gateway import Gateway
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.servers

CONTACTS = 1000
BOT = "bot@bot.localhost"


class LateServer(FakeServer):
    """Says `late` in answer to the first stanza, or to the end of the stream, that `moment` picks."""

    late = ""
    moment = ""

    def _stanza(self, peer: Any, element: ElementTree.Element) -> None:
        if element.tag == ACCEPT + "iq" and element.get("type") == "get":
            # What was written before it is read: it can leave the outbox.
            answer = (
                f"<iq type='result' id='{element.get('id')}' from='{element.get('to')}' to='{element.get('from')}'/>"
            )
            peer.sendall(answer.encode())
            return
        super()._stanza(peer, element)
        if element.get("type") == self.moment:
            self._speak(peer)

    def _end_stream(self, peer: Any) -> None:
        if self.moment == "end":
            self._speak(peer)
        super()._end_stream(peer)

    def _speak(self, peer: Any) -> None:
        late, self.late = self.late, ""
        peer.sendall(late.encode())


@pytest.fixture
def server() -> Iterator[LateServer]:
    with LateServer() as running:
        yield running


def gateway(server: FakeServer, store: str) -> Gateway:
    app = {"backend": server.backend(secret=False), "secret": server.secret}
    return Gateway([app], env={"APPXMPP_STORE_URL": store}, drain_seconds=10)


def subscribe(contact: str) -> str:
    return f"<presence type='subscribe' from='{contact}' to='{BOT}'/>"


def presence(server: FakeServer, type_: str | None, count: int) -> set[str | None]:
    """To whom `count` presences of this type went."""
    told: set[str | None] = set()
    deadline = time.monotonic() + PATIENCE
    while len(told) < count:
        stanza = server.received.get(timeout=max(0.1, deadline - time.monotonic()))
        if stanza.tag == ACCEPT + "presence" and stanza.get("type") == type_:
            told.add(stanza.get("to"))
    return told


def test_every_contact_is_told_that_the_app_is_gone(server: LateServer, tmp_path: Path) -> None:
    contacts = {f"user{number}@example.net" for number in range(CONTACTS)}
    with gateway(server, f"sqlite:{tmp_path}/state.db") as running:
        server.wait_login()
        server.send("".join(map(subscribe, sorted(contacts))))
        assert presence(server, "subscribed", CONTACTS) == contacts
        running.process.signal(signal.SIGTERM)
        assert presence(server, "unavailable", CONTACTS) == contacts
        assert running.process.wait() == 0
        # And after a start of which not even the first round is over, so that the queue is full.
        running.start()
        server.wait_login()
        until(lambda: not server.received.empty(), what="the first greeting")
        running.process.signal(signal.SIGTERM)
        assert presence(server, "unavailable", CONTACTS) == contacts
        assert running.process.wait() == 0


@pytest.mark.parametrize("moment", ["unavailable", "end"])
def test_a_request_that_is_read_during_the_stop_is_answered(server: LateServer, tmp_path: Path, moment: str) -> None:
    with gateway(server, f"sqlite:{tmp_path}/state.db") as running:
        server.wait_login()
        server.send(subscribe("first@example.net"))
        presence(server, "subscribed", 1)
        server.late, server.moment = subscribe("late@example.net"), moment
        assert running.process.stop(30) == 0
        assert not server.late, "the request was made"
        running.start()
        server.wait_login()
        # Before the next start, or by it: what was promised in the store has to be said.
        assert presence(server, "subscribed", 1) == {"late@example.net"}
        running.process.stop(30)
