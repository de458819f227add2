"""What a legacy app's calls do at a real client, through a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.bot import Bot, ServiceFailure
from support.server import Server
from support.user import CLIENT, User
from support.waiting import until

pytestmark = pytest.mark.servers

MakeUser = Callable[..., User]
NO_ERROR, INVALID_JID, OTHER_ERROR = 0, 1, 2


def test_a_message_arrives_as_it_was_written(bot: Bot, user: MakeUser) -> None:
    alice, body = user(), '  <b>fett</b> & "Grüße" \' 漢字 📱\n\tzwei ]]>  '
    assert bot.call("send_message", alice.jid, body) == NO_ERROR
    message = alice.expect("message", from_bare=bot.jid)
    assert (message.body, message.type, message.from_) == (body, "chat", f"{bot.jid}/bot")


@pytest.mark.parametrize(
    ("from_jid", "seen"),
    [
        (None, "myapp@{d}/bot"),
        ("", "myapp@{d}/bot"),
        ("myapp@{d}", "myapp@{d}/bot"),
        ("sales@{d}/room 1", "sales@{d}/room 1"),
        ("myapp@appspot.com", "myapp@{d}/bot"),
        ("myapp@appspot.com/x", "myapp@{d}/x"),
        ("sales@myapp.appspotchat.com", "sales@{d}/bot"),
    ],
)
def test_senders_and_their_aliases(bot: Bot, user: MakeUser, from_jid: str | None, seen: str) -> None:
    alice = user()
    sender = from_jid.format(d=bot.domain) if from_jid else from_jid
    assert bot.call("send_message", alice.jid, "hi", from_jid=sender) == NO_ERROR
    assert alice.expect("message", body="hi").from_ == seen.format(d=bot.domain)


@pytest.mark.parametrize("from_jid", ["somebody@localhost", "other@appspot.com", "myapp@other.appspotchat.com", "a@@b"])
def test_a_foreign_sender_is_refused_and_the_stream_lives(bot: Bot, user: MakeUser, from_jid: str) -> None:
    alice = user()
    with pytest.raises(ServiceFailure) as refused:
        bot.call("send_message", alice.jid, "forged", from_jid=from_jid)
    assert refused.value.kind == "InvalidJidError"
    assert bot.call("send_message", alice.jid, "genuine") == NO_ERROR
    assert alice.expect("message", from_bare=bot.jid).body == "genuine"


@pytest.mark.parametrize("type_", ["chat", "normal", "headline", "groupchat", "error", ""])
def test_message_types(bot: Bot, user: MakeUser, type_: str) -> None:
    alice = user()
    assert bot.call("send_message", alice.jid, f"as {type_}", message_type=type_) == NO_ERROR
    if type_ == "error":
        return  # a message of type error without an error is the server's to judge
    message = alice.expect("message", from_bare=bot.jid)
    assert message.body == f"as {type_}"
    assert (message.type or "normal") == (type_ or "normal"), "no type means normal (RFC 6121 section 5.2.2)"


def test_ten_recipients_one_of_them_invalid(bot: Bot, user: MakeUser) -> None:
    people = [user() for _ in range(9)]
    recipients = [person.jid for person in people]
    recipients.insert(4, "no@t@valid")
    assert bot.call("send_message", recipients, "to all") == [NO_ERROR] * 4 + [INVALID_JID] + [NO_ERROR] * 5
    for person in people:
        message = person.expect("message", from_bare=bot.jid)
        assert (message.body, message.to) == ("to all", person.jid)


@pytest.mark.parametrize("local", ["bad..dots", "o'brien", "üser", "a\\20b", "x" * 60])
def test_the_stubs_odd_rules_do_not_hold_over_a_real_server(bot: Bot, server: Server, local: str) -> None:
    to = f"{local}@{server.domain}".replace("'", "\\27")
    assert bot.call("send_message", to, "are you there?") == NO_ERROR
    assert bot.expect("/_ah/xmpp/error/", from_=to)


def test_raw_xml_with_two_siblings_arrives_as_two_children(bot: Bot, user: MakeUser) -> None:
    alice = user()
    xml = "<body>plain</body><html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'><b>b</b></body></html>"
    assert bot.call("send_message", [alice.jid], xml, raw_xml=True) == [NO_ERROR]
    message = alice.expect("message", from_bare=bot.jid)
    children = [child.tag for child in message.xml]
    assert sorted(children) == ["{http://jabber.org/protocol/xhtml-im}html", CLIENT + "body"], "ejabberd reorders them"
    assert message.body == "plain"
    assert message.xml.findtext(".//{http://www.w3.org/1999/xhtml}b") == "b"


@pytest.mark.parametrize(
    "xml",
    [
        "<body>open",
        "<body>a</wrong>",
        "</message><message to='evil@localhost'><body>x</body>",
        "<body/></message></stream:stream>",
        "</stream:stream>",
        "<!DOCTYPE x [<!ENTITY e 'boom'>]><body>&e;</body>",
        "<body>&undefined;</body>",
        "<!-- comment --><body>x</body>",
        "<?pi data?><body>x</body>",
        "<body>\u0001</body>",
        "<unbound:body>x</unbound:body>",
        "<body a='1' a='2'/>",
    ],
)
def test_bad_raw_xml_raises_and_sends_nothing(bot: Bot, user: MakeUser, xml: str) -> None:
    alice = user()
    with pytest.raises(ServiceFailure) as refused:
        bot.call("send_message", alice.jid, xml, raw_xml=True)
    assert refused.value.kind == "InvalidXmlError"
    assert bot.call("send_message", alice.jid, "after") == NO_ERROR
    assert alice.expect("message").body == "after"


def test_sizes(bot: Bot, user: MakeUser) -> None:
    alice = user()
    largest = "é" * (50 * 1024)  # 100 KB in UTF-8
    assert bot.call("send_message", alice.jid, largest) == NO_ERROR
    assert alice.expect("message", from_bare=bot.jid).body == largest
    with pytest.raises(ServiceFailure) as refused:
        bot.call("send_message", alice.jid, largest + "x")
    assert refused.value.kind == "Error"
    with pytest.raises(ServiceFailure) as refused:
        bot.call("send_message", [alice.jid] * 60_000, "over 1 MiB in all")
    assert refused.value.kind == "RequestTooLargeError"
    assert bot.call("send_message", alice.jid, "after") == NO_ERROR
    assert alice.expect("message", from_bare=bot.jid).body == "after"


@pytest.mark.parametrize(
    ("show", "status"), [("", None), ("away", "à table"), ("dnd", None), ("xa", "x" * 1024), ("chat", "")]
)
def test_presence_that_the_app_sends(bot: Bot, user: MakeUser, show: str, status: str | None) -> None:
    alice = user()
    bot.call("send_presence", alice.jid, status, None, "", show)
    presence = alice.expect("presence", from_=f"{bot.jid}/bot", type_=None)
    assert (presence.show or "", presence.status or None) == (show, status or None)
    bot.call("send_presence", alice.jid, "bye", None, "unavailable")
    assert alice.expect("presence", from_=f"{bot.jid}/bot", type_="unavailable").status == "bye"


def test_an_invitation_is_a_subscription_request(bot: Bot, user: MakeUser) -> None:
    alice = user()
    bot.call("send_invite", alice.bare, f"inviter@{bot.domain}")
    request = alice.expect("presence", type_="subscribe")
    assert request.from_ == f"inviter@{bot.domain}", "subscriptions are between bare addresses (RFC 6121 section 3.1)"
    alice.presence(to=f"inviter@{bot.domain}", type_="subscribed")
    bot.recorder.deliveries.wait(
        lambda d: d.path == "/_ah/xmpp/subscription/subscribed/" and d.fields["from"].startswith(alice.bare)
    )
    until(lambda: bot.call("get_presence", alice.bare, f"inviter@{bot.domain}"), what="presence after the invitation")


def presence_of(bot: Bot, who: str | list[str], **options: Any) -> Any:
    answer = bot.call("get_presence", who, **options)
    if isinstance(who, list):
        return [tuple(entry) for entry in answer]
    return tuple(answer) if isinstance(answer, list) else answer


@pytest.mark.parametrize("show", [None, "away", "chat", "dnd", "xa"])
def test_get_presence_follows_the_client(bot: Bot, user: MakeUser, show: str | None) -> None:
    alice, seen = user(), show or ""
    assert presence_of(bot, alice.bare) is False, "no subscription, no presence"
    alice.befriend(bot.jid)
    alice.presence(show=show)
    until(lambda: presence_of(bot, alice.bare, get_show=True) == (True, seen), what=f"presence {show} of {alice.bare}")
    assert presence_of(bot, alice.bare) is True
    assert presence_of(bot, [alice.bare]) == [(True, seen, True)]
    alice.presence(type_="unavailable")
    until(lambda: presence_of(bot, alice.bare) is False, what="absence")
    assert presence_of(bot, alice.bare, get_show=True)[0] is False


def test_the_app_is_told_after_the_book_is_right(bot: Bot, user: MakeUser) -> None:
    alice = user()
    alice.befriend(bot.jid)
    for show in ("away", "dnd", "xa", "chat"):
        alice.presence(show=show)
        bot.expect("/_ah/xmpp/presence/available/", from_=alice.jid, show=show)
        assert presence_of(bot, alice.bare, get_show=True) == (True, show)
    alice.disconnect()
    bot.expect("/_ah/xmpp/presence/unavailable/", from_=alice.jid)
    assert presence_of(bot, alice.bare) is False


def test_several_contacts_in_one_question(bot: Bot, user: MakeUser, server: Server) -> None:
    alice, bob, absent = user(), user(), f"absent@{server.domain}"
    for person in (alice, bob):
        person.befriend(bot.jid)
    bob.presence(show="dnd")
    until(lambda: presence_of(bot, bob.bare, get_show=True) == (True, "dnd"), what="bob")
    until(lambda: presence_of(bot, alice.bare), what="alice")
    answer = presence_of(bot, [alice.bare, absent, "no@t@valid", bob.bare, alice.bare])
    assert [entry[0] for entry in answer] == [True, False, False, True, True]
    assert [entry[2] for entry in answer] == [True, True, False, True, True]
    assert answer[3][1] == "dnd"
    with pytest.raises(ServiceFailure) as refused:
        presence_of(bot, ["no@t@valid"])
    assert refused.value.kind == "InvalidJidError"


def test_two_resources_are_one_contact(bot: Bot, user: MakeUser) -> None:
    phone = user()
    phone.befriend(bot.jid)
    desk = user(phone.account, resource="desk")
    desk.presence(show="dnd", priority=5)
    phone.presence(show="away", priority=1)
    until(lambda: presence_of(bot, phone.bare, get_show=True) == (True, "dnd"), what="the resource of higher priority")
    desk.disconnect()
    until(lambda: presence_of(bot, phone.bare, get_show=True) == (True, "away"), what="the resource that is left")
    phone.disconnect()
    until(lambda: presence_of(bot, phone.bare) is False, what="nobody left")
