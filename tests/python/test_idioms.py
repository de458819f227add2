"""What real applications do with the API; the numbers are those of the survey they were found in."""

import logging
import sys
import types
from unittest import mock

import face
import pytest
import webapp2
from appxmpp.errors import UnavailableError
from google.appengine.api import apiproxy_stub_map, xmpp
from google.appengine.api.xmpp import xmpp_service_stub
from google.appengine.ext.webapp import xmpp_handlers
from google.appengine.ext.webapp.xmpp_handlers import CommandHandler

CHAT = "/_ah/xmpp/message/chat/"


@pytest.fixture
def calls():
    with face.recording() as recorder:
        yield recorder


def post(handler, body="hello", path=CHAT, **fields):
    app = webapp2.WSGIApplication([(CHAT, handler)])
    form = {**face.form(body), **fields}
    return webapp2.Request.blank(path, POST=form).get_response(app)


def test_01_a_subclass_called_message_that_sets_everything_itself():
    class Message(xmpp.Message):
        def __init__(self, vars):
            self.__sender = vars["from"]
            self.__to = vars["to"]
            self.__body = "ignored"
            self.__command = "cmd"
            self.__arg = "the arg"

    message = Message({"from": "a", "to": "b"})
    assert (message.sender, message.to, message.body) == ("a", "b", "ignored")
    assert (message.command, message.arg) == ("cmd", "the arg")

    class Lazy(xmpp.Message):
        def __init__(self):
            self._Message__body = "/foo bar"

    assert (Lazy().command, Lazy().arg) == ("foo", "bar")


def test_02_a_subclass_that_overrides_the_parsing(calls):
    class Shouting(xmpp.Message):
        def __init__(self, vars):
            xmpp.Message.__init__(self, vars)
            self.parsed = True

        @property
        def command(self):
            assert self.parsed
            return "track"

        def reply(self, text, raw_xml=False):
            return xmpp.Message.reply(self, text.upper(), raw_xml=raw_xml)

    message = Shouting(face.form("/other x"))
    assert (message.command, message.arg) == ("track", "x")
    assert message.reply("done") == [xmpp.NO_ERROR]
    assert calls.calls == [("message", [face.USER], "DONE", face.OWN, "chat", False)]


def test_03_the_missing_field_is_element_zero_of_the_exception():
    with pytest.raises(xmpp.InvalidMessageError) as caught:
        xmpp.Message({"from": "a", "to": "b"})
    assert caught.value[0] == "body"
    assert caught.value.message == "body"


def test_04_status_codes_are_named_by_the_enum(calls):
    name = xmpp.xmpp_service_pb.XmppMessageResponse.XmppMessageStatus_Name
    assert list(map(name, xmpp.send_message(["a@b", "c@d"], "x"))) == ["NO_ERROR", "NO_ERROR"]


def test_05_codes_are_plain_ints_in_real_lists_in_order(calls):
    jids = ["a@b", "c@d", "a@b"]
    statuses = xmpp.send_message(jids, "x")
    assert statuses == [xmpp.NO_ERROR] * len(jids)
    assert type(statuses) is list
    assert {type(status) for status in statuses} == {int}
    assert calls.calls[0][1] == jids


def test_06_messages_from_plain_dicts_again_and_again():
    vars = {"from": "a@b", "to": "c@d", "body": ""}
    for _again in range(2):
        assert (xmpp.Message(vars).body, xmpp.Message(vars).command, xmpp.Message(vars).arg) == ("", None, "")


def test_07_super_of_the_imported_class(calls):
    class Handler(CommandHandler):
        def message_received(self, message):
            message.reply("seen")
            super(CommandHandler, self).message_received(message)

        def foo_command(self, message=None):
            message.reply("foo")

    assert post(Handler, "/foo").status_int == 200
    assert calls.bodies == ["seen", "foo"]


def test_08_help_out_of_docstrings():
    class Handler(CommandHandler):
        def foo_command(self, message=None):
            """Does foo."""

    documented = [
        name[: -len("_command")]
        for name in dir(Handler)
        if name.endswith("_command") and getattr(Handler, name).__doc__
    ]
    documented.remove("unhandled")
    assert documented == ["foo"]


def test_09_the_case_of_commands_is_kept(calls):
    class Handler(CommandHandler):
        def setGroupName_command(self, message=None):
            message.reply("named " + message.arg)

    post(Handler, "/setGroupName x")
    post(Handler, "/setgroupname x")
    assert calls.bodies == ["named x", "Unknown command"]


def test_10_handlers_are_full_webapp_handlers(calls):
    class Handler(CommandHandler):
        def text_message(self, message=None):
            self.response.out.write(self.request.host_url)
            self.unhandled_command(message)

        def handle_exception(self, exception, debug_mode):
            self.response.set_status(200)
            self.response.out.write("handled")

        def fail_command(self, message=None):
            raise ValueError("x")

    assert post(Handler).text == "http://localhost"
    assert post(Handler, "/fail").text == "handled"
    assert calls.bodies == ["Unknown command"]


def test_11_bodies_in_utf8_bytes(calls):
    xmpp.Message(face.form()).reply("你好".encode())
    xmpp.send_message("a@b", "你好".encode())
    assert calls.bodies == ["你好", "你好"]


def test_12_bodies_that_are_not_strings():
    class Handler(CommandHandler):
        def text_message(self, message=None):
            message.reply(message)

    with face.Environment() as stub_map:
        log = []
        stub_map.RegisterStub("xmpp", xmpp_service_stub.XmppServiceStub(log=log.append))
        assert post(Handler).status_int == 500
        with pytest.raises(xmpp.NoBodyError):
            xmpp.send_message("a@b", "")
    assert log == []


def test_13_jids_of_every_kind(calls):
    class Model:
        def __str__(self):
            return "model@b"

    given = ["U@EXAMPLE.NET", " spaced@b ", str(Model()), types.SimpleNamespace(address="im@b").address]
    assert xmpp.send_message(given, "x") == [0] * 4
    assert calls.calls[0][1] == given


def test_14_a_show_where_a_type_belongs(calls):
    with pytest.raises(xmpp.Error) as caught:
        xmpp.send_presence("a@b", presence_type=xmpp.PRESENCE_SHOW_AWAY)
    assert type(caught.value) is xmpp.InvalidTypeError
    xmpp.send_presence("a@b", status="", presence_show="")
    assert calls.calls == [("presence", "a@b", "", "", None, None)]


def test_15_retrying_for_ever_ends_when_the_server_is_away(calls):
    from google.appengine.api.capabilities import CapabilitySet

    calls.error = UnavailableError("away")
    calls.is_available = lambda: False
    rounds = 0
    while CapabilitySet("xmpp").is_enabled():
        rounds += 1
        assert rounds < 3
    calls.is_available = lambda: True
    while CapabilitySet("xmpp").is_enabled():
        rounds += 1
        assert rounds < 3
        try:
            xmpp.send_message("a@b", "x")
        except xmpp.Error:
            pass
        else:
            break
    assert rounds == 1
    assert CapabilitySet("xmpp").will_remain_enabled_for(60)
    assert CapabilitySet("xmpp").admin_message() == ""


def test_16_presence_of_an_absent_server_does_not_raise(calls):
    calls.error = UnavailableError("away")
    assert xmpp.get_presence("a@b") is False


def test_17_rooms_and_bots(calls):
    message = xmpp.Message(face.form(to="room@myapp.appspotchat.com/x", sender="otherbot@appspot.com/bot"))
    assert message.to.split("@")[0] == "room"
    assert "@appspot.com" in message.sender
    message.reply("hi")
    assert calls.calls[0][3] == "room@myapp.appspotchat.com/x"
    import os

    own = os.environ["APPLICATION_ID"].split("~")[1] + "@appspot.com"
    assert xmpp.send_message(own, "to myself", own) == 0


def test_18_full_jids_are_kept(calls):
    sender = xmpp.Message(face.form()).sender
    jid, resource = sender.split("/", 1)
    assert (jid, resource) == ("romeo@example.net", "orchard")
    assert sender[: sender.find("/")] == jid
    xmpp.send_message(sender, "x")
    xmpp.get_presence(sender)
    assert [call[1] for call in calls.calls] == [[sender], [sender]]


def test_19_reply_and_broadcast_keep_their_order(calls):
    class Handler(CommandHandler):
        def text_message(self, message=None):
            message.reply("ack")
            xmpp.send_message(["a@b", "c@d"], message.body)
            message.reply("done")

    post(Handler, "news")
    assert calls.bodies == ["ack", "news", "done"]


def test_20_a_message_posted_again_by_a_task_queue(calls):
    class Worker(xmpp_handlers.BaseHandler):
        def message_received(self, message):
            message.reply("worked on " + message.body)

    class Handler(xmpp_handlers.BaseHandler):
        def message_received(self, message):
            params = dict(self.request.POST)
            webapp2.Request.blank("/work", POST=params).get_response(webapp2.WSGIApplication([("/work", Worker)]))

    assert post(Handler, "ünicode & more", stanza="<x/>").status_int == 200
    assert calls.bodies == ["worked on ünicode & more"]


@pytest.mark.parametrize("path", ["/_ah/xmpp/presence/available", "/_ah/xmpp/subscribe", "/_ah/xmpp/message/chat"])
def test_21_paths_without_a_slash_answer_404(calls, path):
    assert post(CommandHandler, path=path).status_int == 404


class TestSuites:
    """22: how test suites replace the API."""

    def test_patching_the_name_in_the_application(self):
        application = types.ModuleType("xmpp_app")
        exec("from google.appengine.api import xmpp\ndef go(): return xmpp.send_message('a@b', 'x')", vars(application))
        with mock.patch.dict(sys.modules, {"xmpp_app": application}):
            with mock.patch("xmpp_app.xmpp") as patched:
                application.go()
        patched.send_message.assert_called_once_with("a@b", "x")

    def test_a_module_in_its_place(self):
        fake = types.ModuleType("fake_xmpp")
        fake.send_message = lambda jids, body: "fake"
        with mock.patch("google.appengine.api.xmpp", fake):
            from google.appengine.api import xmpp as replaced

            assert replaced.send_message("a@b", "x") == "fake"

    def test_registering_the_stub(self):
        with face.Environment() as stub_map:
            log = []
            apiproxy_stub_map.apiproxy.RegisterStub("xmpp", xmpp_service_stub.XmppServiceStub(log=log.append))
            assert apiproxy_stub_map.apiproxy is stub_map
            assert xmpp.send_message("a@b", "x") == xmpp.NO_ERROR
        assert len(log) == 1

    def test_a_stub_of_ones_own(self):
        sent = []

        class Stub(xmpp_service_stub.XmppServiceStub):
            def _Dynamic_SendMessage(self, request, response):
                sent.append((request.jid_list(), request.body()))
                response.add_status(xmpp.OTHER_ERROR)

        with face.Environment() as stub_map:
            stub_map.RegisterStub("xmpp", Stub())
            assert xmpp.send_message("a@b", "x") == xmpp.OTHER_ERROR
        assert sent == [(["a@b"], "x")]


def test_23_reply_keeps_the_function_it_was_made_with(calls):
    with mock.patch("google.appengine.api.xmpp.send_message") as patched:
        xmpp.Message(face.form()).reply("x")
    patched.assert_not_called()
    assert calls.bodies == ["x"]
    captured = mock.Mock(return_value=[0])
    xmpp.Message(face.form()).reply("y", send_message=captured)
    captured.assert_called_once_with([face.USER], "y", from_jid=face.OWN, message_type="chat", raw_xml=False)


@pytest.mark.parametrize(("mode", "apologies"), [("", []), ("classic", ["Oops. Something went wrong."])])
def test_24_the_apology_depends_on_the_runtime(calls, monkeypatch, caplog, mode, apologies):
    class Handler(CommandHandler):
        def text_message(self, message=None):
            raise ValueError("x")

    monkeypatch.setenv("APPXMPP_WEBAPP", mode)
    with caplog.at_level(logging.ERROR):
        assert post(Handler).status_int == 500
    assert calls.bodies == apologies
    assert "x" in caplog.messages
