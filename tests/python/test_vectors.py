"""The vectors that every language passes, from Python: by the native module, and by ctypes and libappxmpp."""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from appxmpp.errors import CallTooLargeError, Error, ServiceError
from c_peer import Peer
from test_c_vectors import (
    SHOWS,
    cases,
    compare_answers,
    compare_stanzas,
    of_xml,
    times,
    xml_input,
    xml_is_accepted,
)

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = "bot.example.com"
BARRIER = f"<iq from='barrier@example.net' to='shop@{DOMAIN}' type='get' id='b'><ping xmlns='urn:xmpp:ping'/></iq>"
#: App Engine's numbers for what a case calls an error.
CODES = {
    "InvalidJid": 2,
    "InvalidSender": 2,
    "NoBody": 3,
    "InvalidXml": 4,
    "InvalidType": 5,
    "InvalidShow": 6,
    "InvalidStatus": 1,
    "TooLarge": 7,
}
#: The states of roster.json, in the order of their numbers.
STATES = ["none", "none+out", "none+in", "none+out+in", "to", "to+in", "from", "from+out", "both"]


@pytest.fixture(scope="module", params=["_native", "_ctypes"])
def engine(request: pytest.FixtureRequest) -> Any:
    if request.param == "_ctypes":
        subprocess.run(["cargo", "build", "--quiet", "--package", "appxmpp-capi"], cwd=ROOT, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("APPXMPP_LIBRARY", str(target / "debug" / "libappxmpp.so"))
            return importlib.import_module("appxmpp._ctypes")
    return importlib.import_module(f"appxmpp.{request.param}")


class Shop:
    """The app `shop` of the vectors, and the peer it talks to."""

    def __init__(self, engine: Any, peer: Peer, **options: Any) -> None:
        self.peer = peer
        self.app = engine.App(peer.backend(), app_id="shop", **options)
        assert self.app.wait_ready(20)

    def mark(self, text: str) -> None:
        assert self.app.send_message(["mark@peer"], text, None, "chat", False) == [0]

    def hears(self, xml: str) -> None:
        assert self.app.send_message(["write@peer"], xml, None, "chat", False) == [0]

    def settled(self) -> list[Any]:
        """What was delivered before the peer's last word, which this has it say."""
        self.hears(f"<message from='last@example.net' to='shop@{DOMAIN}'><body>last</body></message>")
        found: list[Any] = []
        while not found or found[-1].sender != "last@example.net":
            for delivery in self.app.next_batch(1, 20):
                found.append(delivery)
                self.app.done(delivery, 200)
        return found[:-1]


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(DOMAIN) as running:
        yield running


@pytest.fixture
def shop(engine: Any, peer: Peer) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def make(**options: Any) -> Shop:
        made.append(Shop(engine, peer, **options))
        return made[-1]

    yield make
    for one in made:
        one.app.close(5)


def ran(capsys: pytest.CaptureFixture[str], engine: Any, name: str, count: int) -> None:
    """Says how many cases were run, for `make test` to compare with the other languages."""
    language = {"_native": "python", "_ctypes": "ctypes"}[engine.__name__.rpartition(".")[2]]
    with capsys.disabled():
        print(f"\nvectors {language} {name} {count}")


def raised(call: Callable[[], Any]) -> Any:
    """The value of a call, or App Engine's code, or another error's name."""
    try:
        return call()
    except ServiceError as error:
        return ("code", error.code)
    except (Error, CallTooLargeError, ValueError) as error:
        return ("raised", type(error).__name__)


def test_jid(engine: Any, shop: Callable[..., Shop], peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    one = shop()
    for number, case in enumerate(cases("jid")):
        one.mark(f"jid {number}")
        found = raised(lambda jid=case["jid"]: one.app.send_message([jid], "x", None, "chat", False))
        if not case["valid"]:
            # Nobody at all is no recipient.
            assert found == ([1] if case["jid"] else ("code", 2)), case
            continue
        assert found == [0], case
    one.settled()
    for number, case in enumerate(cases("jid")):
        sent = peer.marked[f"jid {number}"]
        assert len(sent) == case["valid"], case
        if case["valid"]:
            bare, _, resource = sent[0].get("to", "").partition("/")
            local, at, domain = bare.partition("@")
            parts = (local, domain, resource) if at else ("", bare, resource)
            assert parts == tuple(case.get(part, "") for part in ("localpart", "domainpart", "resourcepart")), case
    ran(capsys, engine, "jid", len(cases("jid")))


def test_xml(engine: Any, shop: Callable[..., Shop], peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    one = shop()
    for number, case in enumerate(cases("xml")):
        try:
            text = xml_input(case).decode()
        except UnicodeDecodeError:
            # No text of Python's, so no call can be made with it.
            assert case["condition"] in ("unsupported-encoding", "not-well-formed"), case
            continue
        one.mark(f"xml {number}")
        body = f"<w xmlns=''>{text}</w>"
        found = raised(lambda body=body: one.app.send_message(["a@example.com"], body, None, "chat", True))
        assert found == ([0] if xml_is_accepted(case) else ("code", 4)), case
    one.settled()
    for number, case in enumerate(cases("xml")):
        if "condition" not in case:
            (message,) = peer.marked[f"xml {number}"]
            of_xml(case, message[0])
    ran(capsys, engine, "xml", len(cases("xml")))


def call(app: Any, case: dict[str, Any]) -> Any:
    body, status = times(case, "body") or "", times(case, "status")
    type_ = case.get("type", "chat" if case["call"] == "send_message" else "")
    if case["call"] == "send_message":
        return app.send_message(case["jids"], body, case.get("from"), type_, case.get("raw_xml", False))
    (jid,) = case["jids"]
    if case["call"] == "send_presence":
        return app.send_presence(jid, type_ or "", case.get("show") or "", status, case.get("from"))
    return app.send_invite(jid, case.get("from"))


def test_send(engine: Any, shop: Callable[..., Shop], peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    one = shop()
    for number, case in enumerate(cases("send")):
        one.mark(f"send {number}")
        found = raised(lambda case=case: call(one.app, case))
        if case.get("error") == "RequestTooLarge":
            assert found == ("raised", "CallTooLargeError"), case
        elif "error" in case:
            assert found == ("code", CODES[case["error"]]), case
        elif case["call"] == "send_message" and "statuses" in case:
            assert found == case["statuses"], case
        else:
            assert found in (None, [0] * len(case["jids"])), case
    one.settled()
    compare_stanzas(peer)
    ran(capsys, engine, "send", len(cases("send")))


def test_route(engine: Any, shop: Callable[..., Shop], peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    for number, case in enumerate(cases("route")):
        one = shop(inbound_services=case.get("inbound"), bodiless_messages=case.get("bodiless_messages", False))
        one.mark(f"route {number}")
        one.hears(case["stanza"])
        if "inbound" in case and "xmpp_message" not in case["inbound"]:
            # Nothing tells when a stanza that leads to nothing was dealt with: an answered one behind it does.
            one.hears(BARRIER)
            while (answer := peer.heard.get(timeout=20)).get("id") != "b":
                pass
            peer.marked[f"route {number}"].remove(answer)
            found = one.app.next_batch(1, 20 if "path" in case else 0)
        else:
            found = one.settled()
        assert [delivery.path for delivery in found] == ([case["path"]] if "path" in case else []), case
        for delivery in found:
            *fields, stanza = delivery.fields
            assert [list(field) for field in fields] == case["fields"], case
            assert stanza[0] == "stanza"
            assert stanza[1] == case.get("stanza_field", stanza[1]), case
        one.app.close(5)
    compare_answers(peer)
    ran(capsys, engine, "route", len(cases("route")))


def test_presence(engine: Any, shop: Callable[..., Shop], capsys: pytest.CaptureFixture[str]) -> None:
    for case in cases("presence"):
        one = shop()
        for step in case["steps"]:
            one.hears(step)
        one.settled()
        for ask in case["ask"]:
            show = SHOWS[ask["show"]]
            expected = (ask["available"], None if show < 0 else show, ask["valid"])
            assert one.app.get_presence([ask["jid"]], ask.get("from")) == [expected], case
        one.app.close(5)
    ran(capsys, engine, "presence", len(cases("presence")))


def test_roster(engine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for case in cases("roster"):
        found = engine.subscription_next(STATES.index(case["state"]), case["direction"] == "inbound", case["verb"])
        assert found == (case["passes"], STATES.index(case["becomes"])), case
    with pytest.raises(ServiceError):
        engine.subscription_next(0, True, "probe")
    with pytest.raises((Error, ValueError)):
        engine.subscription_next(9, True, "subscribe")
    ran(capsys, engine, "roster", len(cases("roster")))


def test_a_table_of_each_name_is_run() -> None:
    tables = {path.stem for path in (ROOT / "tests" / "vectors").glob("*.json")}
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    ours = {name for name in tables if not name.startswith("rest-")} - {"golden"}
    assert ours == tested & tables
