"""mod_rest's contract, case by case: the gateway in front of real servers, strict and by default."""

from __future__ import annotations

import base64
import json
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest

from support import folders
from support.gateway import ROOT, Answer, Callback, Gateway, Phone, alike, basic, http_answer, parse, within
from support.server import Account, Server
from support.servers import KINDS

pytestmark = pytest.mark.servers

DOMAINS = ["rest", "restjson", "restform", "resttext", "restdead", "restnocb", "restsel", "resttmpl"]


def vectors(name: str, verdict: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((ROOT / f"tests/vectors/rest-{name}.json").read_text())["cases"]
    return [case for case in cases if case["verdict"] == verdict]


def http_cases(verdict: str) -> list[dict[str, Any]]:
    return [case for case in vectors("http", verdict) if case["profile"] == "component"]


def callback_cases(verdict: str) -> list[dict[str, Any]]:
    return [case for case in vectors("callback", verdict) if not case["component"].startswith("vh2")]


#: "Observed, better not copied": what strict_mod_rest copies all the same.
STRICT = pytest.mark.parametrize("world", [f"{kind}-strict" for kind in KINDS], indirect=True)


def each(cases: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[name_of(case) for case in cases])


def name_of(case: dict[str, Any]) -> str:
    return str(case.get("name") or f"{case['direction']}/{case['input']}")


class World:
    """A server with its components, the gateway in front of it, its callback, and bob."""

    def __init__(self, kind: str, mode: str) -> None:
        self.kind, self.strict = kind, mode == "strict"
        self.server: Server = KINDS[kind]({f"{name}.localhost": "s3cret" for name in DOMAINS})
        for name in ("alice", "bob", "carol"):
            self.server._register(name, "pw" + name)
        self.callback = Callback()
        (self.dead,) = folders.free_ports(1)
        self.gateway = Gateway([self.app(name) for name in DOMAINS], drain_seconds=1)
        self.gateway.wait_ready()
        self.bob = Phone(self.server, Account("bob@localhost", "pwbob"))
        self.bob.reply = self.answer_iq
        self.iq_answer: str | None = None

    def app(self, name: str) -> dict[str, Any]:
        app: dict[str, Any] = {
            "backend": self.server.backend(f"{name}.localhost"),
            "secret": "s3cret",
            "strict_mod_rest": self.strict,
            "iq_timeout_seconds": 3,
            "webhook_deadline_seconds": 0,
            "callback_url": f"{self.callback.url}/{name.removeprefix('rest') or 'xml'}",
        }
        match name:
            case "restjson":
                app["callback_content_type"] = "json"
            case "restform":
                app["callback_content_type"] = "application/x-www-form-urlencoded"
            case "resttext":
                app["callback_content_type"] = "text/plain"
            case "restdead":
                app["callback_url"] = f"http://127.0.0.1:{self.dead}/"
            case "restnocb":
                del app["callback_url"]
            case "restsel":
                app["callback_stanzas"], app["callback_events"] = ["message"], ["bare"]
            case "resttmpl":
                app["callback_url"] = f"{self.callback.url}/tmpl/{{kind}}/{{type}}/{{to}}?from={{from}}"
        return app

    def answer_iq(self, stanza: ET.Element) -> str | None:
        if not stanza.tag.endswith("iq") or stanza.get("type") not in ("get", "set") or self.iq_answer is None:
            return None
        inside = self.iq_answer
        kind = "error" if "<error" in inside else "result"
        return f"<iq type='{kind}' id='{stanza.get('id')}' to='{stanza.get('from')}'>{inside}</iq>"

    def delivered(self) -> list[ET.Element]:
        """What bob heard up to now: everything before a message that is sent now."""
        mark = f"mark-{id(object())}"
        headers = {"Host": "rest.localhost", "Authorization": basic("rest.localhost", "s3cret")}
        xml = f"<message to='{self.bob.jid}' id='{mark}' type='headline'/>"
        answer = self.gateway.request("POST", "/rest", xml, {**headers, "Content-Type": "application/xmpp+xml"})
        assert answer.status == 202
        heard: list[ET.Element] = []
        while True:
            stanza = self.bob.heard.wait()
            if stanza.get("id") == mark:
                return heard
            heard.append(stanza)

    def close(self) -> None:
        self.bob.close()
        self.gateway.close()
        self.callback.close()
        self.server.close()


@pytest.fixture(scope="module", params=[f"{kind}-{mode}" for kind in KINDS for mode in ("strict", "default")])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    kind, _, mode = request.param.partition("-")
    world = World(kind, mode)
    try:
        yield world
    finally:
        world.close()


def body_of(case: dict[str, Any]) -> bytes:
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    if "body_parts" in case:
        parts = case["body_parts"]
        return "".join(p if isinstance(p, str) else p["repeat"] * p["times"] for p in parts).encode()
    return str(case.get("body") or "").encode()


#: Documented: a browser elsewhere may authenticate.
CORS = {"Access-Control-Allow-Headers": "Authorization, Content-Type"}


@each(http_cases("contract"))
def test_http(world: World, case: dict[str, Any]) -> None:
    check_http(world, case)


#: What mod_rest fails at with 500 is refused with 400 in both modes.
CRASHES = {"component/json-unicode-escape"}


@STRICT
@each(http_cases("bug"))
def test_http_to_the_letter(world: World, case: dict[str, Any]) -> None:
    if case["name"] in CRASHES:
        assert case["expect_status"] == 500
        case = {**case, "expect_status": 400}
        del case["html_page_title"]
    check_http(world, case)


def check_http(world: World, case: dict[str, Any]) -> None:
    world.delivered()
    world.callback.answer = lambda _: http_answer(204)
    fixture = case.get("fixture", "")
    world.iq_answer = None
    if "result" in fixture:
        world.iq_answer = ""
    elif "forbidden" in fixture:
        world.iq_answer = (
            "<error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
            "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>go away</text></error>"
        )
    answer = world.gateway.request(case["method"], case["path"], body_of(case), case["headers"])
    assert answer.status == case["expect_status"], answer.body
    for name, value in case["expect_headers_subset"].items():
        if name == "WWW-Authenticate":
            assert sorted(answer.headers[name].split(", ")) == sorted(value.split(", "))
        elif name in CORS and not world.strict:
            assert answer.headers[name] == CORS[name]
        else:
            assert answer.headers[name] == value
    if case.get("expect_body_empty"):
        assert answer.body == b""
    if "html_page_title" in case:
        assert f"<title>{case['html_page_title']}</title>" in answer.body.decode()
    for text in case.get("expect_body_contains", []):
        assert text in answer.body.decode()
    if "expect_json_subset" in case:
        assert within(case["expect_json_subset"], without_lang(world, answer.json(), case)), answer.body
    if "expect_form_subset" in case:
        form = dict(urllib.parse.parse_qsl(answer.body.decode(), keep_blank_values=True))
        assert within(case["expect_form_subset"], form), form
    if "expect_xml" in case:
        assert alike(parse(answer.body), parse(case["expect_xml"]), lang=keeps_lang(world)), answer.body
    if "expect_delivered_to_bob" in case:
        heard = [stanza for stanza in world.delivered() if "rest.localhost" in (stanza.get("from") or "")]
        expected = [parse(xml) for xml in case["expect_delivered_to_bob"]]
        assert len(heard) == len(expected), [ET.tostring(stanza) for stanza in heard]
        for made, wanted in zip(heard, expected, strict=True):
            as_routed(world, wanted)
            assert alike(made, wanted, lang="xml:lang" in case["expect_delivered_to_bob"][0]), ET.tostring(made)


def as_routed(world: World, stanza: ET.Element) -> None:
    """What ejabberd does to stanzas on their way: presence goes to a full address, odd types are dropped."""
    if world.kind != "ejabberd":
        return
    if stanza.tag.endswith("presence"):
        stanza.set("to", world.bob.jid)
    if stanza.tag.endswith("message") and stanza.get("type") in ("normal", "bogus"):
        del stanza.attrib["type"]


def keeps_lang(world: World) -> bool:
    """Prosody writes a stream's language on its stanzas; ejabberd does so for some."""
    return world.kind == "prosody"


def without_lang(world: World, made: Any, case: dict[str, Any]) -> Any:
    if not keeps_lang(world) and isinstance(made, dict):
        return {**made, "lang": case["expect_json_subset"].get("lang")}
    return made


def answer_of(case: dict[str, Any]) -> bytes:
    response = case["callback_response"]
    if "raw" in response:
        return str(response["raw"]).encode()
    return http_answer(response["status"], response["headers"], response["body"])


#: A 2xx that holds no stanza of the kind: by default it says nothing, mod_rest mirrors an empty stanza.
SILENT = {
    "callback/post-message-type-None",
    "callback/post-message-type-groupchat",
    "callback/post-message-type-bogus",
    "callback/post-message-no-body",
    "callback/message-200-empty-noct",
    "callback/message-200-json-kind-presence",
    "callback/message-200-json-array",
    "callback/message-200-json-null",
    "callback/message-200-json-string",
    "callback/message-201-empty",
    "callback/message-299",
    "callback/presence-200-empty",
    "callback/presence-200-message",
}
#: The reply goes to a bare address as groupchat, which both servers refuse from a component.
BOUNCED = {"callback/message-200-xml-groupchat"}
#: The answer's chunks do not add up: it is unreadable, not empty.
UNREADABLE = {"callback/transport-chunked"}


@each(callback_cases("contract"))
def test_callback(world: World, case: dict[str, Any]) -> None:
    check_callback(world, case)


@STRICT
@each(callback_cases("bug"))
def test_callback_to_the_letter(world: World, case: dict[str, Any]) -> None:
    check_callback(world, case)


def check_callback(world: World, case: dict[str, Any]) -> None:
    world.delivered()
    world.callback.posts.clear()
    world.iq_answer = None
    answer = answer_of(case)
    world.callback.answer = lambda _: answer
    world.bob.send(case["inbound"])
    if case["callback_request"]:
        post = world.callback.posts.wait()
        check_post(world, post, case["callback_request"])
    expected = case["sender_sees"]
    if not world.strict and case["name"] in SILENT:
        expected = None
    if case["name"] in UNREADABLE:
        expected = (
            '<message from="bot@rest.localhost" id="m1" to="bob@localhost/phone" type="error"><error type="wait">'
            '<recipient-unavailable xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></error></message>'
        )
    if case["name"] in BOUNCED:
        world.callback.answer = lambda _: http_answer(204)
        bounce = parse(world.callback.posts.wait().body)
        assert (bounce.get("from"), bounce.get("type")) == (parse(expected).get("to"), "error")
        return
    wanted = parse(expected) if expected else None
    heard: list[ET.Element] = []
    if wanted is not None:
        heard = [world.bob.heard.wait(lambda stanza: is_reply(stanza, case))]
    heard += [stanza for stanza in world.delivered() if is_reply(stanza, case)]
    assert len(heard) == (0 if wanted is None else 1), [ET.tostring(stanza) for stanza in heard]
    if wanted is not None:
        as_routed(world, wanted)
        assert alike(heard[0], wanted, lang="xml:lang" in expected), ET.tostring(heard[0])


def is_reply(stanza: ET.Element, case: dict[str, Any]) -> bool:
    """A stanza from the address that bob wrote to."""
    return stanza.get("from") == parse(case["inbound"]).get("to")


def check_post(world: World, post: Any, expected: dict[str, Any]) -> None:
    assert (post.method, post.path) == (expected["method"], expected["path"])
    for name, value in expected["headers_subset"].items():
        if name == "User-Agent" and not world.strict:
            assert post.headers[name].startswith("appxmpp/")
        elif name == "Content-Language" and not keeps_lang(world):
            assert post.headers.get(name, value) == value
        else:
            assert post.headers.get(name) == value, post.headers
    assert post.headers["Appxmpp-Signature"].startswith("t=")
    if "body_xml" in expected:
        wanted = parse(expected["body_xml"])
        if world.kind == "ejabberd" and wanted.get("type") == "bogus":
            del wanted.attrib["type"]
        assert alike(parse(post.body), wanted, lang=keeps_lang(world)), post.body
    elif "body_json" in expected:
        check_members(world, json.loads(post.body), expected["body_json"])
    elif "body_form" in expected:
        form = dict(urllib.parse.parse_qsl(post.body.decode(), keep_blank_values=True))
        check_members(world, form, expected["body_form"])
    else:
        assert post.body.decode() == expected["body_text"]


def check_members(world: World, made: dict[str, Any], expected: dict[str, Any]) -> None:
    if not keeps_lang(world):
        made.pop("lang", None)
        expected = {name: value for name, value in expected.items() if name != "lang"}
    if not world.strict:
        made.pop("xml", None)
    assert made == expected


def echo(world: World, case: dict[str, Any]) -> Answer:
    """What the gateway makes of the case's input in the other format."""
    json_in = case["direction"] == "json2xml"
    medias = ["application/json", "application/xmpp+xml"]
    headers = {
        "Host": "rest.localhost",
        "Authorization": basic("rest.localhost", "s3cret"),
        "Content-Type": medias[not json_in],
        "Accept": medias[json_in],
    }
    sent = json.dumps(case["input"]) if json_in else case["input"]
    return world.gateway.request("POST", "/rest/echo", sent, headers)


FORM = "jabber:x:data"
#: Two inputs of which another stanza is made by default (README, deviations): an error that says which, and a form
#: without fields that ask for nothing.
BY_DEFAULT = {
    "message of type error without an error": (
        {"to": "bob@localhost", "id": "e", "kind": "message", "type": "error", "body": "oops"},
        "<message to='bob@localhost' id='e' type='error'><body>oops</body><error type='cancel'>"
        "<undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>oops</text></error></message>",
    ),
    "archive query": (
        {
            "to": "bob@localhost",
            "id": "e",
            "kind": "iq",
            "type": "set",
            "archive": {"with": "a@b", "max": "5", "queryid": "q"},
        },
        "<iq to='bob@localhost' id='e' type='set'><query xmlns='urn:xmpp:mam:2' queryid='q'>"
        "<set xmlns='http://jabber.org/protocol/rsm'><max>5</max></set>"
        f"<x xmlns='{FORM}' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>"
        "<field var='with'><value>a@b</value></field></x></query></iq>",
    ),
}
#: What is not copied in either mode, because it crashes or loses something, and what is done instead.
NOT_COPIED = {
    "a form's `values` are lost": (
        {
            "to": "bob@localhost",
            "id": "e",
            "kind": "message",
            "dataform": {
                "type": "submit",
                "title": "T",
                "fields": [{"var": "a", "type": "text-single", "values": ["1"]}],
            },
        },
        f"<message to='bob@localhost' id='e'><x xmlns='{FORM}' type='submit'><title>T</title>"
        "<field var='a' type='text-single'><value>1</value></field></x></message>",
    ),
    "an error beside type=error crashes": (
        {
            "to": "bob@localhost",
            "id": "e",
            "kind": "message",
            "type": "error",
            "error": {"type": "cancel", "condition": "item-not-found", "text": "t", "by": "z@y"},
        },
        "<message to='bob@localhost' id='e' type='error'><error type='cancel' by='z@y'>"
        "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>t</text></error></message>",
    ),
    "an error without a condition crashes": (
        {"to": "bob@localhost", "id": "e", "kind": "message", "error": {"type": "cancel"}},
        None,
    ),
    "of several items all but the first are lost in it": (
        {
            "to": "bob@localhost",
            "id": "e",
            "kind": "iq",
            "type": "result",
            "items": [{"jid": "a", "name": "n", "node": "x"}, "plainjid"],
        },
        "<iq to='bob@localhost' id='e' type='result'><query xmlns='http://jabber.org/protocol/disco#items'>"
        "<item jid='a' name='n' node='x'/><item jid='plainjid'/></query></iq>",
    ),
}


def instead(case: dict[str, Any], table: dict[str, tuple[Any, str | None]]) -> dict[str, Any]:
    """The case with what `table` says of its input, if it does."""
    for given, made in table.values():
        if case["input"] == given:
            return {**case, "expect": made, "expect_status": 200 if made else 400}
    return case


def check_echo(world: World, case: dict[str, Any]) -> None:
    answer = echo(world, case)
    assert answer.status == case.get("expect_status", 200), answer.body
    if answer.status != 200:
        return
    if case["direction"] == "json2xml":
        wanted = parse(case["expect"])
        wanted.set("from", "rest.localhost")
        assert alike(parse(answer.body), wanted), answer.body
        return
    made = answer.json()
    if not world.strict:
        made.pop("xml", None)
    assert made == {**case["expect"], "from": "rest.localhost"}


@each(vectors("json", "contract"))
def test_json(world: World, case: dict[str, Any]) -> None:
    check_echo(world, case if world.strict else instead(case, BY_DEFAULT))


@STRICT
@each(vectors("json", "bug"))
def test_json_to_the_letter(world: World, case: dict[str, Any]) -> None:
    check_echo(world, instead(case, NOT_COPIED))


def test_the_named_deviations_are_of_recorded_cases() -> None:
    for table, verdict in ((BY_DEFAULT, "contract"), (NOT_COPIED, "bug")):
        inputs = [case["input"] for case in vectors("json", verdict)]
        assert all(given in inputs for given, _ in table.values())
