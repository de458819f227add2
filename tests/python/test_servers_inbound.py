"""What reaches a legacy app from a real client, through a real server."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest

from support.bot import Bot
from support.server import Server
from support.user import CLIENT, User

pytestmark = pytest.mark.servers

CHAT = "/_ah/xmpp/message/chat/"
MakeUser = Callable[..., User]

FULL = "<message to='{to}' type='{type}' id='n1' xml:lang='de'><body>{body}</body>"


@pytest.mark.parametrize("type_", ["chat", "normal", None])
def test_a_message_reaches_the_handler_as_app_engine_posted_it(bot: Bot, user: MakeUser, type_: str | None) -> None:
    alice, to = user(), f"helper@{bot.domain}/desk"
    body = "  Grüße <b>&amp;</b> 漢字 📱\n\tzwei  "
    alice.message(
        to, body, type_, id_="n1", extra="<x xmlns='urn:example:x' a='1&amp;2'><y>t</y>tail</x><thread>t1</thread>"
    )

    delivery = bot.expect(CHAT, from_=alice.jid)

    assert delivery.fields["to"] == to
    assert delivery.fields["body"] == body
    assert list(delivery.fields) == ["from", "to", "body", "stanza"]
    stanza = ET.fromstring(delivery.fields["stanza"])
    assert stanza.tag == CLIENT + "message"
    assert (stanza.get("from"), stanza.get("to"), stanza.get("id")) == (alice.jid, to, "n1")
    assert stanza.get("type") == type_ or (type_ in (None, "normal") and stanza.get("type") in (None, "normal"))
    assert stanza.findtext(CLIENT + "body") == body
    assert stanza.findtext(CLIENT + "thread") == "t1"
    extension = stanza.find("{urn:example:x}x")
    assert extension is not None
    assert extension.get("a") == "1&2"
    assert extension.findtext("{urn:example:x}y") == "t"
    assert extension[0].tail == "tail"


def test_the_request_looks_like_one_of_app_engine(bot: Bot, user: MakeUser) -> None:
    alice = user()
    alice.message(bot.jid, "look at my envelope")
    delivery = bot.expect(CHAT, from_=alice.jid)
    environ = delivery["environ"]
    assert environ["REMOTE_ADDR"] == "0.1.0.10"
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["APPLICATION_ID"] == "s~myapp"
    assert environ["HTTP_HOST"]
    assert re.fullmatch(r'multipart/form-data; boundary="[^"]+"', environ["CONTENT_TYPE"])
    assert delivery.fields["stanza"].startswith("<cli:message "), "legacy code matches on App Engine's prefix"


def test_a_command_is_split_for_the_handler(bot: Bot, user: MakeUser) -> None:
    alice = user()
    alice.message(bot.jid, "/roll 2d6  twice")
    delivery = bot.expect(CHAT, from_=alice.jid)
    assert (delivery["command"], delivery["arg"]) == ("roll", "2d6  twice")


@pytest.mark.parametrize("to", ["myapp@{d}", "myapp@{d}/bot", "any.thing-1_2@{d}", "any.thing-1_2@{d}/x y", "{d}"])
def test_the_reply_comes_from_the_address_written_to(bot: Bot, user: MakeUser, to: str) -> None:
    """A bare address gets App Engine's resource `bot`."""
    alice, to = user(), to.format(d=bot.domain)
    alice.message(to, "who are you?")
    reply = alice.expect("message", from_=to if "/" in to else f"{to}/bot")
    assert (reply.body, reply.type, reply.to) == ("echo: who are you?", "chat", alice.jid)


def test_other_message_types_are_not_delivered(bot: Bot, user: MakeUser) -> None:
    alice = user()
    alice.message(bot.jid, "not for you", "headline")
    alice.message(bot.jid, "nor this", "groupchat")
    alice.raw(
        f"<message to='{bot.jid}' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
    )
    alice.message(bot.jid, "but this")
    assert bot.expect(CHAT, from_=alice.jid).fields["body"] == "but this"
    assert not bot.recorder.deliveries.peek(lambda d: d.fields.get("from") == alice.jid)


def test_order_is_kept_for_each_sender_while_others_wait(bot: Bot, user: MakeUser) -> None:
    alice, bob = user(), user()
    alice.message(bot.jid, "!wait for the gate")
    bot.expect(CHAT, from_=alice.jid)
    for number in range(20):
        alice.message(bot.jid, f"a{number}")
        bob.message(bot.jid, f"b{number}")
    try:
        bobs = [bob.expect("message", from_bare=bot.jid).body for _ in range(20)]
        assert not bot.recorder.deliveries.peek(lambda d: d.fields["from"] == alice.jid), "alice's next had to wait"
    finally:
        bot.post("/gate")
    assert bobs == [f"echo: b{n}" for n in range(20)]
    answers = [alice.expect("message", from_bare=bot.jid).body for _ in range(21)]
    assert answers == ["echo: !wait for the gate"] + [f"echo: a{n}" for n in range(20)]


def test_a_handler_that_raises_is_logged_and_the_bot_goes_on(bot: Bot, user: MakeUser) -> None:
    alice = user()
    alice.message(bot.jid, "!raise a fuss", id_="culprit-1")
    alice.message(bot.jid, "still there?")
    assert alice.expect("message", from_bare=bot.jid).body == "echo: still there?"
    assert "the handler raises, as asked: a fuss" in bot.logs()
    assert "Traceback" in bot.logs()


def test_subscription_and_presence_paths(bot: Bot, user: MakeUser) -> None:
    alice, contact = user(), f"friend@{bot.domain}"

    def told(path: str, **fields: str) -> ET.Element:
        """The stanza of the delivery to `path` from alice, on whichever of her addresses."""
        delivery = bot.recorder.deliveries.wait(
            lambda d: (
                d.path == path
                and d.fields["from"].partition("/")[0] == alice.bare
                and fields.items() <= d.fields.items()
            )
        )
        assert delivery.fields["to"].partition("/")[0] == contact
        return ET.fromstring(delivery.fields["stanza"])

    alice.presence(to=contact, type_="subscribe")
    assert told("/_ah/xmpp/subscription/subscribe/").get("type") == "subscribe"
    alice.expect("presence", from_bare=contact, type_="subscribed")
    alice.expect("presence", from_bare=contact, type_=None)
    alice.expect("presence", from_bare=contact, type_="subscribe")
    alice.presence(to=contact, type_="subscribed")
    assert told("/_ah/xmpp/subscription/subscribed/").get("type") == "subscribed"

    alice.presence(show="away", status="zum Mittag")
    available = told("/_ah/xmpp/presence/available/", show="away", status="zum Mittag")
    assert available.get("type") is None
    assert available.findtext(CLIENT + "show") == "away"

    alice.presence(type_="unavailable", status="Feierabend")
    assert told("/_ah/xmpp/presence/unavailable/").get("type") == "unavailable"

    alice.presence()
    assert told("/_ah/xmpp/presence/probe/").get("type") == "probe"
    assert alice.expect("presence", from_bare=contact, type_=None)

    alice.presence(to=contact, type_="unsubscribe")
    assert told("/_ah/xmpp/subscription/unsubscribe/").get("type") == "unsubscribe"
    alice.presence(to=contact, type_="unsubscribed")
    assert told("/_ah/xmpp/subscription/unsubscribed/").get("type") == "unsubscribed"


def test_presence_without_show_has_no_show_field(bot: Bot, user: MakeUser) -> None:
    alice = user()
    alice.presence(to=f"friend@{bot.domain}/x")
    delivery = bot.expect("/_ah/xmpp/presence/available/", from_=alice.jid)
    assert delivery.fields.get("show", "") == ""
    assert delivery.fields["to"] == f"friend@{bot.domain}/x"


def test_an_error_bounce_reaches_the_error_handler(bot: Bot, server: Server) -> None:
    nobody = f"nobody-of-that-name@{server.domain}"
    assert bot.call("send_message", nobody, "is there anybody?") == 0, "accepted is not delivered"
    delivery = bot.expect("/_ah/xmpp/error/", from_=nobody)
    stanza = ET.fromstring(delivery.fields["stanza"])
    assert (stanza.tag, stanza.get("type")) == (CLIENT + "message", "error")
    assert stanza.find(f"{CLIENT}error") is not None


def test_an_error_bounce_falls_back_to_the_path_some_apps_used(server: Server) -> None:
    nobody = f"nobody-of-that-name@{server.domain}"
    with Bot(server, "flaskbot", domain="second.localhost") as flask:
        assert flask.call("send_message", nobody, "is there anybody?", from_jid="x@second.localhost") == 0
        delivery = flask.expect("/_ah/xmpp/message/error/", from_=nobody)
        assert ET.fromstring(delivery.fields["stanza"]).get("type") == "error"


def test_a_flask_app_and_its_inbound_services(server: Server, user: MakeUser) -> None:
    alice = user()
    with Bot(server, "flaskbot", domain="second.localhost") as flask:
        alice.befriend("someone@second.localhost")
        alice.message("someone@second.localhost", "/hello world")
        delivery = flask.expect(CHAT, from_=alice.jid)
        assert (delivery["command"], delivery["arg"]) == ("hello", "world")
        assert alice.expect("message", from_bare="someone@second.localhost").body == "flask: /hello world"
        others = [d.path for d in flask.recorder.deliveries if d.path != CHAT]
        assert not others, "app.yaml enables neither presence nor subscriptions"


def test_outsiders_cannot_post_as_the_service(bot: Bot) -> None:
    import urllib.error

    with pytest.raises(urllib.error.HTTPError) as refused:
        bot.post(CHAT, b"from=a@localhost&to=b&body=forged")
    assert refused.value.code in (401, 403, 404)
    assert bot.get("/") == "hello"
    assert not bot.recorder.deliveries.peek(lambda d: "forged" in d.fields.get("body", ""))


@pytest.mark.parametrize(
    ("query", "children"),
    [
        ("<query xmlns='http://jabber.org/protocol/disco#info'/>", True),
        ("<ping xmlns='urn:xmpp:ping'/>", False),
        ("<query xmlns='jabber:iq:version'/>", True),
        ("<time xmlns='urn:xmpp:time'/>", True),
    ],
)
def test_queries_that_every_entity_answers(bot: Bot, user: MakeUser, query: str, children: bool) -> None:
    answer = user().request(bot.jid, query)
    assert answer.type == "result"
    assert answer.from_ == bot.jid
    assert bool(len(answer.xml) and len(answer.xml[0])) is children


@pytest.mark.parametrize("type_", ["get", "set"])
def test_any_other_query_is_answered_with_service_unavailable(bot: Bot, user: MakeUser, type_: str) -> None:
    answer = user().request(bot.jid, "<query xmlns='urn:example:unheard-of'/>", type_)
    assert (answer.type, answer.condition) == ("error", "service-unavailable")
