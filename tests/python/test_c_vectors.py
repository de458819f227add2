"""The vectors that every language passes, from C: made into a C table, run, and what came out compared."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from c_library import ASAN, BUILD, MEMCHECK, ROOT, TESTS, environment, program, run
from c_peer import Peer
from fake_server import ACCEPT

VECTORS = ROOT / "tests" / "vectors"
RESULTS = {
    "InvalidJid": "INVALID_JID",
    "InvalidXml": "INVALID_XML",
    "NoBody": "NO_BODY",
    "InvalidType": "INVALID_TYPE",
    "InvalidShow": "INVALID_SHOW",
    "InvalidStatus": "INVALID_STATUS",
    "TooLarge": "TOO_LARGE",
    "RequestTooLarge": "REQUEST_TOO_LARGE",
    "InvalidSender": "INVALID_SENDER",
}
SHOWS = {None: -1, "": 0, "away": 1, "dnd": 2, "chat": 3, "xa": 4}


def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["cases"]
    assert found
    return found


def c(value: str | bytes | None) -> str:
    """A `struct text` in C."""
    if value is None:
        return "{NULL, 0}"
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    # Short pieces: C99 promises 4095 bytes of one literal, and \\x takes as many digits as follow.
    escaped = '""'.join("".join(f"\\{byte:03o}" for byte in data[at : at + 500]) for at in range(0, len(data), 500))
    return f'{{"{escaped}", {len(data)}}}'


def listed(values: list[str] | None, of: int) -> str:
    values = values or []
    assert len(values) <= of
    return "{" + ", ".join([c(value) for value in values] or [c(None)]) + f"}}, {len(values)}"


def times(case: dict[str, Any], key: str) -> str | None:
    value = case.get(key)
    return None if value is None else str(value) * int(case.get(f"{key}_times", 1))


def table(name: str, rows: list[str]) -> str:
    return f"static const struct {name} {name}_cases[] = {{\n" + ",\n".join(f"    {{{row}}}" for row in rows) + "\n};\n"


def jid_rows() -> list[str]:
    parts = ("localpart", "domainpart", "resourcepart")
    return [
        ", ".join([c(case["jid"]), str(int(case["valid"])), *(c(case.get(part, "")) for part in parts)])
        for case in cases("jid")
    ]


def xml_input(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["hex"]) if "hex" in case else case["xml"].encode("utf-8", "surrogatepass")


def xml_is_accepted(case: dict[str, Any]) -> bool:
    # XML is handed over as what stands in an element.
    return "condition" not in case or case.get("content", False)


def xml_rows() -> list[str]:
    return [f"{c(xml_input(case))}, {int(xml_is_accepted(case))}" for case in cases("xml")]


def send_rows() -> list[str]:
    rows = []
    for case in cases("send"):
        result = f"APPXMPP_{RESULTS[case['error']]}" if "error" in case else "APPXMPP_OK"
        statuses = case.get("statuses", [])
        rows.append(
            ", ".join([
                c(case["call"]),
                listed(case["jids"], 16),
                *(c(times(case, key)) for key in ("body", "from", "type", "show", "status")),
                str(int(case.get("raw_xml", False))),
                result,
                "{" + ", ".join(map(str, statuses or [0])) + f"}}, {len(statuses)}",
            ])
        )  # fmt: skip
    return rows


def route_rows() -> list[str]:
    rows = []
    for case in cases("route"):
        fields = [part for field in case.get("fields", []) for part in field]
        rows.append(
            ", ".join([
                c(case["stanza"]),
                c(case.get("path")),
                listed(fields, 24),
                c(case.get("stanza_field")),
                listed(case.get("inbound"), 4),
                str(int("inbound" in case)),
                str(int(case.get("bodiless_messages", False))),
            ])
        )  # fmt: skip
    return rows


def presence_rows() -> list[str]:
    rows = []
    for case in cases("presence"):
        asks = [
            ", ".join([
                *(c(ask.get(key)) for key in ("jid", "from")),
                *(str(int(value)) for value in (ask["available"], SHOWS[ask["show"]], ask["valid"])),
            ])
            for ask in case["ask"]
        ]  # fmt: skip
        assert len(asks) <= 8
        each = ", ".join(f"{{{ask}}}" for ask in asks)
        rows.append(f"{listed(case['steps'], 8)}, {{{each}}}, {len(asks)}")
    return rows


def roster_rows() -> list[str]:
    return [
        f"APPXMPP_SUBSCRIPTION_{constant(case['state'])}, {int(case['direction'] == 'inbound')}, {c(case['verb'])}, "
        f"{int(case['passes'])}, APPXMPP_SUBSCRIPTION_{constant(case['becomes'])}"
        for case in cases("roster")
    ]


def constant(state: str) -> str:
    return state.upper().replace("+", "_")


def vectors() -> None:
    text = [table(name, rows()) for name, rows in {
        "jid": jid_rows, "xml": xml_rows, "send": send_rows, "route": route_rows, "presence": presence_rows,
        "roster": roster_rows,
    }.items()]  # fmt: skip
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "vectors.inc").write_text("/* Made from tests/vectors. */\n" + "\n".join(text))


def canonical(element: ElementTree.Element) -> str:
    """Without the id, which is made up, and in no namespace of the stream's."""
    element.attrib.pop("id", None)
    element.tail = None
    return ElementTree.canonicalize(ElementTree.tostring(element, encoding="unicode")).replace(
        "jabber:component:accept", ""
    )


def expected(xml: str) -> str:
    element = ElementTree.fromstring(f"<s xmlns='{ACCEPT[1:-1]}'>{xml}</s>")[0]
    return canonical(element)


def of_xml(case: dict[str, Any], parent: ElementTree.Element) -> None:
    """What a case says about the one element in `parent`."""
    (element,) = parent
    namespace, _, name = element.tag[1:].rpartition("}") if element.tag[0] == "{" else ("", "", element.tag)
    if "name" in case:
        assert name == case["name"], case
    if "ns" in case:
        assert namespace == case["ns"], case
    if "text" in case:
        assert (element.text or "") == case["text"], case
    for attribute, value in case.get("attributes", {}).items():
        assert element.get(attribute) == value, case


def compare_stanzas(peer: Peer) -> None:
    """What the peer got for each case of send.json, after its mark."""
    for number, case in enumerate(cases("send")):
        sent = [canonical(element) for element in peer.marked[f"send {number}"]]
        if "error" in case:
            assert sent == [], case
        elif "stanzas" in case:
            assert sent == [expected(xml) for xml in case["stanzas"]], case
        else:
            assert len(sent) == case.get("statuses", [0]).count(0), case


def compare_answers(peer: Peer) -> None:
    """What the peer got for each case of route.json, after its mark."""
    for number, case in enumerate(cases("route")):
        iqs = [element for element in peer.marked[f"route {number}"] if element.tag == ACCEPT + "iq"]
        texts = [canonical(element) for element in iqs]
        if "utc" in case:
            # The clock is the library's here: only the rest can be compared.
            clock = re.compile(r"utc>[^<]+<")
            assert [clock.sub("", text) for text in texts] == [clock.sub("", expected(case["answer"]))], case
        elif "answer" in case:
            assert texts == [expected(case["answer"])], case
        elif "answer_has" in case:
            (answer,) = (re.sub(r"\bns\d+:", "", text) for text in texts)
            assert [part for part in case["answer_has"] if part not in answer] == [], case
        else:
            assert texts == [], case


@pytest.mark.timeout(600)
@pytest.mark.parametrize("under", ["plain", "memcheck", "asan"])
def test_vectors(under: str, capsys: pytest.CaptureFixture[str]) -> None:
    vectors()
    flags = ("-Wno-overlength-strings", "-Wno-missing-field-initializers", *(ASAN if under == "asan" else ()))
    built = program(TESTS / "test_vectors.c", *flags, name=f"test_vectors-{under}")
    with Peer("bot.example.com") as peer:
        prefix = MEMCHECK if under == "memcheck" else ()
        done = run(*prefix, built, env=environment(peer.backend()), timeout=500)
    lines = done.stdout.splitlines()
    counted = [line for line in lines if line.startswith("vectors c ")]
    names = ("jid", "xml", "send", "route", "presence", "roster")
    assert counted == [f"vectors c {name} {len(cases(name))}" for name in names]
    if under == "plain":
        with capsys.disabled():
            print("", *counted, sep="\n")

    accepted = {
        int(number): bytes.fromhex(text).decode()
        for number, text in (line.split()[1:] for line in lines if line.startswith("xml "))
    }
    assert accepted.keys() == {number for number, case in enumerate(cases("xml")) if xml_is_accepted(case)}
    for number, case in enumerate(cases("xml")):
        if "condition" not in case:
            of_xml(case, ElementTree.fromstring(f"<w>{accepted[number]}</w>")[0])
    compare_stanzas(peer)
    compare_answers(peer)
