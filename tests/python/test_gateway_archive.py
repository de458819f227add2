"""An archive's answer is several stanzas (XEP-0313): they are one HTTP response."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest

from support.gateway import Callback, Gateway, Phone, basic
from support.server import Server

pytestmark = pytest.mark.servers

MAM = "urn:xmpp:mam:2"


@pytest.fixture(scope="module")
def callback() -> Iterator[Callback]:
    with Callback() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(server: Server, callback: Callback) -> Iterator[Gateway]:
    app = {"backend": server.backend("myapp.localhost"), "secret": "s3cret", "callback_url": callback.url}
    with Gateway([app]) as running:
        yield running.wait_ready()


@pytest.fixture
def archive(server: Server, callback: Callback) -> Iterator[Phone]:
    """A client that answers like an archive: two messages, one of another query between them, and the end."""
    callback.posts.clear()
    with Phone(server, server.account("archive")) as phone:

        def answer(stanza: ET.Element) -> str | None:
            query = stanza.find(f"{{{MAM}}}query")
            if query is None or stanza.get("type") != "set":
                return None
            to, own = stanza.get("from"), query.get("queryid")
            results = "".join(
                f"<message to='{to}'><result xmlns='{MAM}' id='{number}' queryid='{name}'>"
                "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='juliet@example.net'"
                f" type='chat'><body>letter {number}</body></message></forwarded></result></message>"
                for number, name in ((1, own), (2, "another"), (3, own))
            )
            fin = f"<fin xmlns='{MAM}' complete='true'/>"
            return f"{results}<iq type='result' id='{stanza.get('id')}' to='{to}'>{fin}</iq>"

        phone.reply = answer
        yield phone


def ask(gateway: Gateway, phone: Phone, accept: str) -> Any:
    iq = f"<iq type='set' to='{phone.jid}' id='a1'><query xmlns='{MAM}' queryid='q1'/></iq>"
    headers = {"Authorization": basic("myapp.localhost", "s3cret"), "Content-Type": "application/xmpp+xml"}
    answer = gateway.request("POST", "/rest", iq, {**headers, "Accept": accept})
    assert (answer.status, answer.headers["Content-Type"]) == (200, accept)
    return answer.body


def test_in_xml(gateway: Gateway, callback: Callback, archive: Phone) -> None:
    answer = ET.fromstring(ask(gateway, archive, "application/xmpp+xml"))
    assert answer.tag == "xmpp"
    assert [child.tag for child in answer] == ["message", "message", "iq"]
    ids = [child.find(f"{{{MAM}}}result").get("id") for child in answer[:2]]  # type: ignore[union-attr]
    assert ids == ["1", "3"]
    assert [body.text for body in answer.iter("{jabber:client}body")] == ["letter 1", "letter 3"]
    assert answer[2].find(f"{{{MAM}}}fin") is not None
    # What answers another query is a message like any other.
    assert b"letter 2" in callback.posts.wait().body


def test_in_json(gateway: Gateway, callback: Callback, archive: Phone) -> None:
    answer = json.loads(ask(gateway, archive, "application/json"))
    assert [stanza["kind"] for stanza in answer["xmpp"]] == ["message", "message", "iq"]
    first, _, end = answer["xmpp"]
    assert first["archive"]["id"] == "1"
    assert first["archive"]["forward"]["message"]["body"] == "letter 1"
    assert (end["type"], "result" in end) == ("result", True)
    assert b"letter 2" in callback.posts.wait().body


def test_a_form_cannot_hold_them(gateway: Gateway, archive: Phone) -> None:
    assert ask(gateway, archive, "application/x-www-form-urlencoded") == b""


def test_without_messages_the_end_stands_alone(gateway: Gateway, archive: Phone) -> None:
    archive.reply = lambda stanza: (
        f"<iq type='result' id='{stanza.get('id')}' to='{stanza.get('from')}'><fin xmlns='{MAM}'/></iq>"
        if stanza.get("type") == "set"
        else None
    )
    assert ET.fromstring(ask(gateway, archive, "application/xmpp+xml")).tag == "iq"
