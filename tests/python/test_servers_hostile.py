"""Stanzas with which a stranger ends or aborts other XMPP programs. Here the bot answers the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.bot import Bot
from support.component import EchoComponent
from support.raw import RawClient
from support.server import Server
from support.user import User
from support.waiting import until

pytestmark = pytest.mark.servers

MakeUser = Callable[..., User]
CHAT = "/_ah/xmpp/message/chat/"


@pytest.fixture
def stranger(server: Server) -> Iterator[RawClient]:
    with RawClient(server) as client:
        yield client


def nested(depth: int) -> str:
    return "<a xmlns='urn:x'>" + "<a>" * (depth - 1) + "</a>" * depth


HOSTILE = {
    "unknown message type": "<message to='{to}' type='foo'><body>x</body></message>",
    "priority out of range": "<presence to='{to}'><priority>300</priority></presence>",
    "priority of words": "<presence to='{to}'><priority>very high</priority></presence>",
    "unknown show": "<presence to='{to}'><show>busy</show></presence>",
    "two shows": "<presence to='{to}'><show>away</show><show>dnd</show></presence>",
    "attribute of 9,000 bytes": "<message to='{to}' type='chat' x='" + "a" * 9_000 + "'><body>x</body></message>",
    "attribute of 200,000 bytes": "<message to='{to}' type='chat' x='" + "a" * 200_000 + "'><body>x</body></message>",
    "body over 100 KB": "<message to='{to}' type='chat'><body>" + "a" * 110_000 + "</body></message>",
    "300 levels deep": "<message to='{to}' type='chat'><body>x</body>" + nested(300) + "</message>",
    "2,000 levels deep": "<iq to='{to}' type='get' id='d'>" + nested(2_000) + "</iq>",
    "2,000 attributes": "<message to='{to}'><body>x</body><x xmlns='urn:x' "
    + " ".join(f"a{n}=''" for n in range(2_000))
    + "/></message>",
    "20,000 children": "<message to='{to}'><body>x</body><x xmlns='urn:x'>" + "<y/>" * 20_000 + "</x></message>",
    "prefixed stanza": "<c:message xmlns:c='jabber:client' to='{to}' type='chat'><c:body>x</c:body></c:message>",
    "numeric references": "<message to='{to}' type='chat'><body>&#x1F4F1;&#60;/body&#62;&amp;lt;</body></message>",
    "two bodies": "<message to='{to}' type='chat'><body>one</body><body>two</body></message>",
    "two errors": "<message to='{to}' type='error'><error type='cancel'/><error/></message>",
    "unasked result": "<iq to='{to}' type='result' id='never-asked'/>",
    "unasked error": "<iq to='{to}' type='error' id='never-asked'><error type='cancel'><conflict/></error></iq>",
    "roster push": "<iq to='{to}' type='set' id='r'><query xmlns='jabber:iq:roster'>"
    "<item jid='evil@localhost' subscription='both'/></query></iq>",
    "address of a stream": "<message to='{to}'><body>&lt;/stream:stream&gt;</body></message>",
    "subscribed unasked": "<presence to='{to}' type='subscribed'/>",
    "long resource": "<message to='{to}/" + "r" * 1023 + "'><body>x</body></message>",
}


def still_answers(bot: Bot, client: RawClient) -> None:
    """The very next message on the same stream is answered."""
    client.send(f"<message to='{bot.jid}' type='chat' id='after'><body>after it</body></message>")
    client.read_until(r"<body>echo: after it</body>")


@pytest.mark.parametrize("name", list(HOSTILE))
def test_the_bot_answers_the_next_message(bot: Bot, stranger: RawClient, name: str) -> None:
    connected = bot.process.all_output().lower().count("connected")
    stranger.send(HOSTILE[name].replace("{to}", bot.jid))
    still_answers(bot, stranger)
    assert bot.process.running()
    assert bot.process.all_output().lower().count("connected") == connected, "the stream was not given up for it"


def test_nesting_that_overflows_a_recursive_reader(bot: Bot, server: Server, stranger: RawClient) -> None:
    if server.kind == "ejabberd":
        return  # it takes minutes for such a stanza itself, and passes nothing on meanwhile
    stranger.send(f"<message to='{bot.jid}' type='chat'><body>x</body>{nested(35_000)}</message>")
    still_answers(bot, stranger)


def test_a_stanza_larger_than_any_we_take(bot: Bot, user: MakeUser, stranger: RawClient) -> None:
    """It may cost the stream, which is opened again; it does not cost memory or the process."""
    alice = user()
    stranger.send(f"<message to='{bot.jid}' type='chat' x='{'a' * 600_000}'><body>x</body></message>")

    def answered() -> bool:
        alice.message(bot.jid, "are you well?")
        try:
            return bool(alice.expect("message", body="echo: are you well?", timeout=1))
        except AssertionError:
            return False

    until(answered, what="an answer after the large stanza")
    assert bot.process.running()


def test_an_emoji_in_a_resource_is_delivered_as_it_is(bot: Bot, server: Server, stranger: RawClient) -> None:
    if server.kind == "ejabberd":
        return  # it refuses such addresses itself
    stranger.send(f"<message to='{bot.jid}/📱' type='chat'><body>to a phone</body></message>")
    delivery = bot.expect(CHAT, body="to a phone", from_=stranger.jid)
    assert delivery.fields["to"] == f"{bot.jid}/📱"
    with EchoComponent(server, "second.localhost") as other:
        other.raw(
            f"<message from='x@second.localhost/📱' to='{bot.jid}' type='chat'><body>from a phone</body></message>"
        )
        assert bot.expect(CHAT, body="from a phone").fields["from"] == "x@second.localhost/📱"
    still_answers(bot, stranger)


def test_a_flood_of_queries_is_answered_and_the_bot_lives(bot: Bot, stranger: RawClient) -> None:
    stranger.send("".join(f"<iq to='{bot.jid}' type='get' id='q{n}'><x xmlns='urn:x'/></iq>" for n in range(500)))
    stranger.read_until(r"q499")
    still_answers(bot, stranger)
