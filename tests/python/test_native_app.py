"""The native App against the server's side of the wire."""

import threading

import pytest
from appxmpp import _native, errors
from fake_server import ACCEPT, FakeServer


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server


@pytest.fixture
def app(server):
    app = _native.App(server.backend(), app_id="myapp")
    assert app.wait_ready(20)
    server.wait_login()
    yield app
    app.close(5)


def send(app, *jids, body="hello", sender=None, type="chat", raw_xml=False):
    return app.send_message(list(jids), body, sender, type, raw_xml)


def test_nothing_is_opened_before_it_is_used(server):
    app = _native.App(server.backend(), app_id="myapp")
    assert (app.domain, app.app_id) == ("bot.localhost", "myapp")
    assert server.logins.empty()
    assert app.wait_ready(20)
    server.wait_login()
    app.close(5)


def test_the_app_id_is_the_domains_first_part_unless_given(server):
    assert _native.App(server.backend()).app_id == "bot"


def test_the_secret_may_come_separately(server):
    app = _native.App(server.backend(secret=False), secret=server.secret)
    assert app.wait_ready(20)
    app.close(5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"backend": "component://bot.localhost@127.0.0.1"}, "secret"),
        ({"backend": "stub:"}, "no server"),
        ({"backend": "ftp://x"}, "ftp"),
        ({"backend": "component://b:s@h", "inbound_services": ["xmpp_mesage"]}, "xmpp_mesage"),
        ({"backend": "component://b:s@h", "durable": True}, "no state file"),
        ({"backend": "component://b:s@h", "quotas": {"stanzas": 1}}, "'?\"?stanzas.*api_calls"),
    ],
)
def test_wrong_settings_are_explained(arguments, says):
    with pytest.raises(errors.ConfigError, match=says):
        _native.App(**arguments)


def test_a_state_file_that_cannot_be_opened_is_explained(server, tmp_path):
    app = _native.App(server.backend(), state=str(tmp_path / "no" / "such" / "folder.sqlite"))
    with pytest.raises(errors.Error, match=r"folder\.sqlite"):
        app.wait_ready(20)


def test_a_message_is_written_for_each_recipient(app, server):
    assert send(app, "a@x.example", "not a jid@@", "b@y.example/r", body="<&é☺>") == [0, 1, 0]
    for to in ("a@x.example", "b@y.example/r"):
        stanza = server.next()
        assert (stanza.get("to"), stanza.get("type")) == (to, "chat")
        assert stanza.get("from") == "myapp@bot.localhost/bot"
        assert stanza.findtext(ACCEPT + "body") == "<&é☺>"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"body": "<open>", "raw_xml": True}, 4),
        ({"body": "x" * 102_401}, 7),
        ({"type": "bogus"}, 5),
        ({"sender": "somebody@else.example"}, 2),
        ({"body": ""}, 3),
    ],
)
def test_a_refused_call_has_app_engines_code(app, arguments, code):
    with pytest.raises(errors.ServiceError) as caught:
        send(app, "a@x.example", **arguments)
    assert caught.value.code == code
    assert caught.value.text


def test_a_call_over_one_mebibyte_is_another_error(app):
    with pytest.raises(errors.CallTooLargeError):
        send(app, *(f"{n:0>1000}@x.example" for n in range(1100)))


def test_wrong_types_are_type_errors(app):
    for arguments in (
        (["a@b"], 5, None, "chat", False),
        ("a@b", "x", None, "chat", False),
        ([5], "x", None, "chat", False),
    ):
        with pytest.raises(TypeError):
            app.send_message(*arguments)
    for timeout in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="number of seconds"):
            app.wait_ready(timeout)


def test_without_a_server_a_call_is_unavailable_and_not_lost():
    app = _native.App("component://bot.localhost:s@127.0.0.1:1")
    assert app.wait_ready(0) is False
    assert send(app, "a@x.example", "@@", "b@x.example") == [2, 1, 2]
    app.send_presence("a@x.example", "", "", None, None)
    with pytest.raises(errors.UnavailableError):
        app.send_invite("a@x.example", None)
    app.close(1)


def test_a_refused_secret_is_an_error_of_its_own(server):
    app = _native.App(f"component://bot.localhost:wrong@127.0.0.1:{server.port}")
    with pytest.raises(errors.NotAuthorizedError, match=r"refused the component bot\.localhost"):
        app.wait_ready(60)
    with pytest.raises(errors.NotAuthorizedError):
        app.next_batch(1, 60)


def test_presence_is_known_from_what_arrived(app, server):
    server.send(f"<presence from='a@x.example/r' to='myapp@{server.domain}'><show>dnd</show></presence>")
    (delivery,) = app.next_batch(1, 20)
    assert app.get_presence(["a@x.example", "b@x.example", "@@"], None) == [
        (True, 2, True),
        (False, None, True),
        (False, None, False),
    ]
    app.done(delivery, 200)


def test_a_delivery_is_app_engines_form(app, server):
    server.message("hi &lt;there&gt;", sender="romeo@example.net/orchard", to="anything", id="m1")
    (delivery,) = app.next_batch(8, 20)
    assert delivery.path == "/_ah/xmpp/message/chat/"
    assert delivery.service == "xmpp_message"
    assert delivery.stanza_id == "m1"
    assert delivery.sender == "romeo@example.net"
    fields = dict(delivery.fields)
    assert list(fields) == ["from", "to", "body", "stanza"]
    assert fields["from"] == "romeo@example.net/orchard"
    assert fields["to"] == f"anything@{server.domain}"
    assert fields["body"] == "hi <there>"
    assert fields["stanza"].startswith("<cli:message ")
    assert repr(delivery).startswith("<Delivery ")
    assert "there" not in repr(delivery)
    app.done(delivery, 200)


def test_deliveries_of_a_sender_come_one_after_the_other(app, server):
    for body in ("1", "2"):
        server.message(body, sender="romeo@example.net/a")
    server.message("3", sender="juliet@example.net/a")
    taken = {}
    while len(taken) < 2:
        taken.update((dict(d.fields)["body"], d) for d in app.next_batch(8, 20))
    assert sorted(taken) == ["1", "3"]
    assert app.next_batch(8, 0) == []
    app.done(taken["1"], 500)
    (second,) = app.next_batch(8, 20)
    assert dict(second.fields)["body"] == "2"


def test_only_the_services_asked_for_are_delivered(server):
    app = _native.App(server.backend(), inbound_services=["xmpp_message"])
    assert app.wait_ready(20)
    server.wait_login()
    server.send(f"<presence from='a@x.example/r' to='bot@{server.domain}'/>")
    server.message("after")
    (delivery,) = app.next_batch(8, 20)
    assert delivery.service == "xmpp_message"
    app.done(delivery, 200)
    app.close(5)


def test_closing_says_goodbye_once_and_ends_what_waits(app, server):
    waiting = threading.Thread(target=lambda: ends.append(_outcome(app)))
    ends = []
    waiting.start()
    app.close(10)
    assert server.ends.get(timeout=20) is True
    app.close(10)
    waiting.join(20)
    assert ends == ["closed"]
    assert send(app, "a@x.example") == [2]


def _outcome(app):
    try:
        return "closed" if app.next_batch(1, 600) == [] else "a delivery"
    except errors.UnavailableError:
        return "closed"


def test_waiting_leaves_the_interpreter_to_others(app):
    app_waits = threading.Event()
    done = threading.Event()

    def wait():
        app_waits.set()
        _outcome(app)
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert app_waits.wait(20)
    # This thread would not come here if the other one kept the interpreter.
    assert not done.is_set()
    app.close(5)
    thread.join(20)
    assert done.is_set()


def test_many_threads_send_through_one_app(app, server):
    def work(name):
        for n in range(50):
            assert send(app, f"{name}@x.example", body=str(n)) == [0]

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    seen = {}
    for _ in range(8 * 50):
        stanza = server.next()
        seen.setdefault(stanza.get("to"), []).append(int(stanza.findtext(ACCEPT + "body")))
    for thread in threads:
        thread.join(20)
    assert seen == {f"{name}@x.example": list(range(50)) for name in "abcdefgh"}


def test_the_numbers_count(app, server):
    send(app, "a@x.example")
    server.next()
    stats = app.stats()
    assert all(type(value) is int for value in stats.values())
    assert stats["connects"] == 1
    assert stats["stanzas_out"] >= 1


def test_a_lost_connection_comes_back(app, server):
    server.drop()
    server.wait_login(60)
    assert app.wait_ready(60)
    assert send(app, "a@x.example", body="again") == [0]
    assert server.next_body() == "again"


def test_a_panic_is_an_ordinary_exception(capfd):
    with pytest.raises(errors.InternalError, match=r"a fault in appxmpp \(on purpose\)"):
        _native._panic("on purpose")
    capfd.readouterr()


def test_surrogates_cannot_be_sent(app):
    with pytest.raises(UnicodeEncodeError):
        send(app, "a@x.example", body="\ud800")


def test_a_durable_message_is_safe_before_there_is_a_server(server, tmp_path):
    state = str(tmp_path / "state")
    app = _native.App("component://bot.localhost:s@127.0.0.1:1", state=state, durable=True)
    assert send(app, "a@x.example", body="kept") == [0]
    app.send_invite("b@x.example", None)
    stats = app.stats()
    assert (stats["outbox_waiting"], stats["ready"]) == (2, 0)
    app.close(5)

    app = _native.App(server.backend(), state=state, durable=True)
    assert app.wait_ready(20)
    assert server.next_body() == "kept"
    asked = server.next("presence")
    assert (asked.get("to"), asked.get("type")) == ("b@x.example", "subscribe")
    app.close(5)


def test_a_quota_that_is_used_up_refuses_and_is_counted(server):
    app = _native.App(server.backend(), quotas={"recipients_messaged": 2})
    assert app.wait_ready(20)
    assert send(app, "a@x.example") == [0]
    with pytest.raises(errors.OverQuotaError, match="recipients_messaged"):
        send(app, "a@x.example", "b@x.example")
    stats = app.stats()
    assert (stats["today_recipients_messaged"], stats["quota_recipients_messaged"]) == (1, 2)
    assert stats["today_api_calls"] == 1
    assert "quota_api_calls" not in stats
    assert "outbox_waiting" not in stats
    app.close(5)


def test_a_silent_server_is_asked_as_soon_as_it_is_set(server):
    app = _native.App(server.backend(), keepalive=0.1)
    assert app.wait_ready(20)
    asked = server.next("iq")
    assert asked.find("{urn:xmpp:ping}ping") is not None
    app.close(5)
