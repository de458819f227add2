"""``google.appengine.api.xmpp`` beyond the golden records: Python 3's bytes, failures, patching, pickling."""

import copy
import logging
import pickle
import sys
from unittest import mock

import face
import pytest
from appxmpp import backend
from appxmpp.errors import (
    CallTooLargeError,
    ConfigError,
    DeadlineError,
    InternalError,
    NotAuthorizedError,
    OverQuotaError,
    ServiceError,
    UnavailableError,
)
from google.appengine.api import apiproxy_stub_map, xmpp
from google.appengine.api.xmpp import xmpp_service_pb, xmpp_service_stub
from google.appengine.runtime import apiproxy_errors
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def calls():
    with face.recording() as recorder:
        yield recorder


FUNCTIONS = {
    "send_message": lambda: xmpp.send_message("a@b", "hi"),
    "send_presence": lambda: xmpp.send_presence("a@b"),
    "send_invite": lambda: xmpp.send_invite("a@b"),
    "get_presence": lambda: xmpp.get_presence("a@b"),
}


class Text(str):
    pass


class TestText:
    def test_bytes_are_one_recipient_and_utf8(self, calls):
        assert xmpp.send_message("ü@b".encode(), "hé".encode(), from_jid=b"myapp@appspot.com") == 0
        assert calls.calls == [("message", ["ü@b"], "hé", "myapp@appspot.com", "chat", False)]

    def test_bytes_in_a_list(self, calls):
        assert xmpp.send_message([b"a@b", "c@d"], "hi") == [0, 0]
        assert calls.calls[0][1] == ["a@b", "c@d"]

    def test_bytes_everywhere_else(self, calls):
        xmpp.send_presence(b"a@b", b"st", b"myapp@appspot.com", b"probe", b"dnd")
        xmpp.send_invite(b"a@b", b"myapp@appspot.com")
        assert xmpp.get_presence(b"a@b") is True
        assert xmpp.send_message("a@b", "x", message_type=b"normal") == 0
        assert calls.calls == [
            ("presence", "a@b", "probe", "dnd", "st", "myapp@appspot.com"),
            ("invite", "a@b", "myapp@appspot.com"),
            ("ask", ["a@b"], None),
            ("message", ["a@b"], "x", None, "normal", False),
        ]

    def test_subclasses_of_str_are_one_recipient(self, calls):
        assert xmpp.send_message(Text("a@b"), Text("hi")) == 0
        assert xmpp.get_presence(Text("a@b"), get_show=True) == (True, "")
        assert calls.bodies == ["hi"]

    def test_bytes_that_are_not_utf8_are_named(self, calls):
        with pytest.raises(UnicodeDecodeError, match="0xff"):
            xmpp.send_message("a@b", b"\xff")
        assert calls.calls == []

    def test_status_is_measured_as_it_was_given(self, calls):
        xmpp.send_presence("a@b", "☺" * 1024)
        with pytest.raises(xmpp.InvalidStatusError):
            xmpp.send_presence("a@b", ("☺" * 342).encode())
        assert len(calls.calls) == 1

    @pytest.mark.parametrize("empty", ["", b"", None, 0, [], ()])
    def test_falsy_is_absent(self, calls, empty):
        with pytest.raises(xmpp.NoBodyError):
            xmpp.send_message("a@b", empty)
        for call in (xmpp.send_invite, xmpp.send_presence, xmpp.get_presence):
            with pytest.raises(xmpp.InvalidJidError):
                call(empty)
        assert calls.calls == []

    def test_an_empty_from_is_the_default(self, calls):
        xmpp.send_message("a@b", "x", "")
        xmpp.send_presence("a@b", from_jid="")
        xmpp.send_invite("a@b", "")
        xmpp.get_presence("a@b", "")
        assert [call[-1] for call in calls.calls[1:]] == [None, None, None]
        assert calls.calls[0][3] is None

    @pytest.mark.parametrize("body", [5, object(), ["x"], {"a": 1}])
    def test_a_body_that_is_no_text_is_a_type_error(self, body):
        with face.recording():
            backend.set(None)
            with pytest.raises(TypeError):
                xmpp.send_message("a@b", body)

    def test_false_is_no_body(self, calls):
        message = xmpp.Message(face.form())
        with pytest.raises(xmpp.NoBodyError):
            message.reply(False)
        assert calls.calls == []


class TestPositions:
    def test_as_applications_call_them(self, calls):
        xmpp.send_message("a@b", "hi", "myapp@appspot.com", "normal", True)
        xmpp.send_presence("a@b", None, "myapp@appspot.com", xmpp.PRESENCE_TYPE_PROBE)
        assert calls.calls == [
            ("message", ["a@b"], "hi", "myapp@appspot.com", "normal", True),
            ("presence", "a@b", "probe", "", None, "myapp@appspot.com"),
        ]

    def test_everything_is_checked_before_anything_is_sent(self, calls):
        with pytest.raises(xmpp.InvalidJidError):
            xmpp.send_message(["a@b", ""], "hi")
        assert calls.calls == []

    def test_get_show_is_ignored_for_several(self, calls):
        calls.presence = (False, 2, True)
        assert xmpp.get_presence(["a@b"], get_show=False) == [(False, "dnd", True)]


class TestFailures:
    @pytest.mark.parametrize("function", FUNCTIONS)
    def test_the_text_of_the_service_is_kept(self, calls, function):
        calls.error = ServiceError(2, "x@y is not an address of this app")
        with pytest.raises(xmpp.InvalidJidError, match=r"^x@y is not an address of this app$"):
            FUNCTIONS[function]()

    def test_a_body_that_is_too_large(self, calls):
        calls.error = ServiceError(7, "102401 bytes")
        with pytest.raises(xmpp.Error, match="102401") as caught:
            xmpp.send_message("a@b", "hi")
        assert type(caught.value) is xmpp.Error

    @pytest.mark.parametrize("error", [UnavailableError("away"), DeadlineError("late")])
    def test_a_message_that_cannot_leave_is_a_status(self, calls, error, caplog):
        calls.error = error
        with caplog.at_level(logging.WARNING, "appxmpp"):
            assert xmpp.send_message("a@b", "secret words") == xmpp.OTHER_ERROR
            assert xmpp.send_message(["a@b", "c@d"], "secret words") == [xmpp.OTHER_ERROR] * 2
        assert str(error) in caplog.text
        assert "secret words" not in caplog.text
        assert "a@b" not in caplog.text

    def test_nobody_is_available_while_the_server_is_away(self, calls):
        calls.error = UnavailableError("away")
        assert xmpp.get_presence("a@b") is False
        assert xmpp.get_presence("a@b", get_show=True) == (False, None)
        assert xmpp.get_presence(["a@b", "c@d"]) == [(False, None, True)] * 2

    def test_a_presence_is_dropped_and_an_invitation_is_not(self, calls, caplog):
        calls.error = UnavailableError("away")
        xmpp.send_presence("a@b")
        assert "not sent" in caplog.text
        with pytest.raises(xmpp.Error, match="away"):
            xmpp.send_invite("a@b")

    @pytest.mark.parametrize("function", FUNCTIONS)
    @pytest.mark.parametrize("error", [ConfigError("no such domain"), NotAuthorizedError("wrong"), InternalError("x")])
    def test_what_an_operator_must_mend_is_an_error_with_its_text(self, calls, function, error):
        calls.error = error
        with pytest.raises(xmpp.Error, match=str(error)):
            FUNCTIONS[function]()

    def test_a_call_over_one_mebibyte_is_a_transport_error(self, calls):
        calls.error = CallTooLargeError("too large")
        with pytest.raises(apiproxy_errors.RequestTooLargeError, match="too large") as caught:
            xmpp.send_message("a@b", "hi")
        assert not isinstance(caught.value, xmpp.Error)

    @pytest.mark.parametrize("function", FUNCTIONS)
    def test_a_quota_that_is_used_up_is_a_transport_error(self, calls, function):
        calls.error = OverQuotaError("the quota api_calls is used up")
        with pytest.raises(apiproxy_errors.OverQuotaError, match="api_calls") as caught:
            FUNCTIONS[function]()
        assert not isinstance(caught.value, xmpp.Error)

    @pytest.mark.parametrize("registered", [True, False], ids=["stub map", "default stub"])
    def test_the_development_stub_knows_the_limit_of_a_call(self, registered):
        with face.Environment() as stub_map:
            if registered:
                stub_map.RegisterStub("xmpp", xmpp_service_stub.XmppServiceStub(log=len))
            else:
                backend.get().log = len
            assert xmpp.send_message("a@b", "x" * (100 * 1024 + 1)) == xmpp.NO_ERROR
            with pytest.raises(apiproxy_errors.RequestTooLargeError):
                xmpp.send_message("a@b", "x" * (1 << 20))

    def test_failures_carry_no_second_traceback(self, calls):
        calls.error = ServiceError(2, "x")
        with pytest.raises(xmpp.InvalidJidError) as caught:
            xmpp.send_message("a@b", "hi")
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


class TestExceptions:
    def test_they_can_be_indexed_and_have_a_message(self):
        with pytest.raises(xmpp.InvalidMessageError) as caught:
            xmpp.Message({"from": "a"})
        error = caught.value
        assert error[0] == error.args[0] == error.message == "to"
        assert xmpp.Error().message == ""
        with pytest.raises(IndexError):
            xmpp.Error()[0]

    @pytest.mark.parametrize(
        "error",
        [xmpp.InvalidMessageError("body"), xmpp.NondefaultModuleError(), xmpp.NoBodyError(), ServiceError(5, "text")],
        ids=lambda error: type(error).__name__,
    )
    def test_they_survive_pickling(self, error):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert again.args == error.args
        assert str(again) == str(error)

    def test_they_name_the_module_that_applications_know(self):
        names = [name for name in vars(xmpp) if name.endswith("Error")]
        assert len(names) == 9
        assert {getattr(xmpp, name).__module__ for name in names} == {"google.appengine.api.xmpp"}


class TestNames:
    def test_functions_are_plain_and_at_home(self):
        for name in FUNCTIONS:
            function = getattr(xmpp, name)
            assert type(function).__name__ == "function"
            assert function.__module__ == "google.appengine.api.xmpp"
            assert function.__qualname__ == name
            assert function.__doc__

    def test_functions_pickle_by_name(self, calls):
        # As deferred.defer(xmpp.send_message, jids=..., body=...) does.
        task = pickle.dumps((xmpp.send_message, (), {"jids": "a@b", "body": "later"}))
        function, args, keywords = pickle.loads(task)
        assert function is xmpp.send_message
        assert function(*args, **keywords) == 0
        assert calls.bodies == ["later"]

    def test_autospec(self):
        with mock.patch("google.appengine.api.xmpp.send_message", autospec=True) as patched:
            xmpp.send_message("a@b", "hi", from_jid="c@d")
            with pytest.raises(TypeError):
                xmpp.send_message("a@b", "hi", nobody="c@d")
        patched.assert_called_once_with("a@b", "hi", from_jid="c@d")
        message = mock.create_autospec(xmpp.Message(face.form()))
        message.reply("x")
        with pytest.raises(TypeError):
            message.reply()

    def test_star_import_gives_what_the_original_gave(self):
        names = {}
        exec("from google.appengine.api.xmpp import *", names)
        assert {"apiproxy_stub_map", "apiproxy_errors", "xmpp_service_pb", "Message", "NO_ERROR"} <= set(names)
        assert names["apiproxy_errors"] is apiproxy_errors

    def test_every_form_of_import(self):
        forms = [
            "from google.appengine.api import xmpp as x; assert x.send_message",
            "import google.appengine.api.xmpp; assert google.appengine.api.xmpp.send_message",
            "import google.appengine.api.xmpp as x; assert x.send_message",
            "from google.appengine.api.xmpp import send_message, Message, InvalidMessageError",
            "from google.appengine.api.xmpp import xmpp_service_pb, xmpp_service_stub",
            "from google.appengine.ext.webapp import xmpp_handlers; assert xmpp_handlers.CommandHandler",
            "from google.appengine.ext.webapp.xmpp_handlers import CommandHandler",
            "import google.appengine.ext.webapp.xmpp_handlers as h; assert h.BaseHandler",
            "from google.appengine.ext.webapp.util import run_wsgi_app, login_required",
        ]
        for form in forms:
            exec(form, {})

    def test_importing_takes_no_module_of_the_application(self, tmp_path, run_python):
        for name in ("xmpp", "main", "config", "db", "models", "mail", "oauth", "appengine_config", "handlers", "text"):
            (tmp_path / f"{name}.py").write_text("raise SystemExit('imported ' + __name__)")
        run_python(
            "from google.appengine.api import xmpp; from google.appengine.ext.webapp import xmpp_handlers, util;"
            "assert xmpp.send_message('a@b', 'hi') == 0",
            cwd=tmp_path,
        )

    def test_importing_starts_nothing(self, run_python):
        run_python(
            "import sys, threading, os; os.environ['APPXMPP_BACKEND'] = 'component://a:b@192.0.2.1:1';"
            "from google.appengine.api import xmpp;"
            "assert 'appxmpp._native' not in sys.modules; assert threading.active_count() == 1"
        )


@pytest.fixture
def run_python(tmp_path):
    import os
    import subprocess
    from pathlib import Path

    import appxmpp

    def run(code, cwd=tmp_path):
        path = [str(cwd), str(Path(appxmpp.__file__).parent.parent)]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path)}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


class TestMessage:
    def test_bytes_in_the_form_become_text(self):
        message = xmpp.Message({"from": b"a@b", "to": b"c@d", "body": "/é x".encode()})
        assert (message.sender, message.body, message.command, message.arg) == ("a@b", "/é x", "é", "x")

    def test_only_key_errors_are_translated(self):
        class Angry:
            def __getitem__(self, key):
                raise RuntimeError(key)

        with pytest.raises(RuntimeError):
            xmpp.Message(Angry())

    @pytest.mark.parametrize(
        ("body", "command", "arg"),
        [
            ("/foo bar baz  qux", "foo", "bar baz  qux"),
            ("\\foo bar", "foo", "bar"),
            ("\\/foo", "/foo", ""),
            ("\\\\foo", "\\foo", ""),
            ("/foo\nbar", "foo\nbar", ""),
            (" /foo bar", None, "/foo bar"),
            ("   ", None, ""),
            ("/ё x", "ё", "x"),
            ("/foo\u00a0bar", "foo\u00a0bar", ""),
        ],
    )
    def test_commands(self, body, command, arg):
        message = xmpp.Message(face.form(body))
        assert (message.command, message.arg, message.body) == (command, arg, body)

    @given(st.text())
    def test_a_body_is_a_command_exactly_if_it_begins_with_a_slash(self, body):
        message = xmpp.Message(face.form(body))
        assert message.body == body
        assert (message.command is not None) == body.startswith(("/", "\\"))
        assert message.arg == message.arg.strip()
        assert " " not in (message.command or "")

    @given(st.text().filter(lambda text: " " not in text), st.text())
    def test_what_was_put_together_is_taken_apart(self, command, arg):
        for slash in "/\\":
            message = xmpp.Message(face.form(f"{slash}{command} {arg}"))
            assert (message.command, message.arg) == (command, arg.strip())

    @given(st.text().filter(lambda text: not text.startswith(("/", "\\"))))
    def test_without_a_command_all_is_argument(self, body):
        message = xmpp.Message(face.form(body))
        assert (message.command, message.arg) == (None, body.strip())

    def test_copies_are_equal_in_every_part(self):
        message = copy.deepcopy(pickle.loads(pickle.dumps(xmpp.Message(face.form("/a b")))))
        assert (message.sender, message.to, message.command, message.arg) == (face.USER, face.OWN, "a", "b")


class TestServiceMessages:
    def test_accessors(self):
        request = xmpp_service_pb.XmppMessageRequest()
        assert (request.type(), request.raw_xml(), request.has_body(), request.jid_size()) == ("chat", False, False, 0)
        missing = []
        assert not request.IsInitialized(missing)
        assert missing == ["Required field: body not set."]
        request.add_jid("a@b")
        request.set_body("hi")
        assert (request.jid(0), request.jid_list(), request.body(), request.has_body()) == ("a@b", ["a@b"], "hi", True)
        request.clear_body()
        request.clear_jid()
        assert request == xmpp_service_pb.XmppMessageRequest()

    def test_wire_format_and_size_agree(self):
        request = xmpp_service_pb.XmppMessageRequest()
        request.add_jid("ü@b")
        request.set_body("x" * 300)
        request.set_raw_xml(True)
        request.set_type("chat")
        assert request.Encode() == b"\x0a\x04\xc3\xbc@b\x12\xac\x02" + b"x" * 300 + b"\x18\x01\x22\x04chat"
        response = xmpp_service_pb.BulkPresenceResponse()
        response.add_presence_response().set_is_available(True)
        response.mutable_presence_response(0).set_presence(3)
        assert response.Encode() == b"\x0a\x04\x08\x01\x10\x03"
        for message in (request, response):
            assert message.ByteSize() == len(message.SerializeToString())

    def test_text_form(self):
        response = xmpp_service_pb.BulkPresenceResponse()
        response.add_presence_response().set_is_available(True)
        assert str(response) == "presence_response <\n  is_available: true\n>\n"
        request = xmpp_service_pb.PresenceRequest()
        request.set_jid("\"é'\n\t\\")
        assert str(request) == 'jid: "\\"\\303\\251\\\'\\n\\t\\\\"\n'

    def test_copies_share_nothing(self):
        one = xmpp_service_pb.BulkPresenceResponse()
        one.add_presence_response().set_is_available(True)
        two = xmpp_service_pb.BulkPresenceResponse()
        two.CopyFrom(one)
        assert one == two
        two.mutable_presence_response(0).set_is_available(False)
        assert one != two

    def test_names_of_numbers(self):
        names = xmpp_service_pb.XmppMessageResponse.XmppMessageStatus_Name
        assert [names(status) for status in (0, 1, 2, 99)] == ["NO_ERROR", "INVALID_JID", "OTHER_ERROR", ""]
        assert xmpp_service_pb.XmppServiceError.ErrorCode_Name(7) == "EXCEEDED_MAX_SIZE"
        assert xmpp_service_pb.PresenceResponse.SHOW_Name(2) == "DO_NOT_DISTURB"


class TestStubMap:
    def test_a_registered_stub_is_used_and_hooks_see_the_call(self):
        with face.Environment() as stub_map:
            log, seen = [], []
            stub_map.RegisterStub("xmpp", xmpp_service_stub.XmppServiceStub(log=log.append))
            stub_map.GetPreCallHooks().Append("note", lambda s, c, rq, rs: seen.append((s, c, rq.jid_list())), "xmpp")
            assert xmpp.send_message(["a@b"], "hi") == [0]
        assert seen == [("xmpp", "SendMessage", ["a@b"])]
        assert "To JIDs:\n       a@b" in log[0]

    def test_a_stub_can_be_told_to_fail(self):
        with face.Environment() as stub_map:
            stub = xmpp_service_stub.XmppServiceStub(log=len)
            stub_map.RegisterStub("xmpp", stub)
            stub.SetError(apiproxy_errors.OverQuotaError("q"))
            with pytest.raises(apiproxy_errors.OverQuotaError):
                xmpp.send_message("a@b", "hi")
            stub.SetError(None)
            assert xmpp.send_message("a@b", "hi") == 0

    def test_a_stub_registered_twice_is_refused(self):
        with face.Environment() as stub_map:
            stub_map.RegisterStub("xmpp", xmpp_service_stub.XmppServiceStub())
            with pytest.raises(AssertionError, match="xmpp"):
                stub_map.RegisterStub("xmpp", xmpp_service_stub.XmppServiceStub())

    def test_the_single_presence_call_works_too(self):
        with face.Environment() as stub_map:
            stub_map.RegisterStub("xmpp", xmpp_service_stub.XmppServiceStub(log=len))
            request = xmpp_service_pb.PresenceRequest()
            request.set_jid("z@b")
            response = xmpp_service_pb.PresenceResponse()
            apiproxy_stub_map.MakeSyncCall("xmpp", "GetPresence", request, response)
            assert (response.is_available(), response.presence(), response.valid()) == (False, 1, True)

    def test_the_default_log_is_the_root_logger(self, caplog):
        with face.Environment() as stub_map, caplog.at_level(logging.INFO):
            stub_map.RegisterStub("xmpp", xmpp_service_stub.XmppServiceStub())
            xmpp.send_invite("a@b")
        assert caplog.messages == ["Sending an XMPP Invite:\n    From:\n       myapp@appspot.com/bot\n    To: a@b"]

    @pytest.mark.parametrize(
        ("jid", "status"),
        [("a@", 0), ("a@b/", 0), ("a@b/r", 0), ("a b@c", 0), (" a@b", 0)]
        + [("@b", 1), ("a@b/r/s", 1), ("a@b@c", 1), ("a,b@c", 1), ("b.com", 1), ("a@b/x@y", 1)],
    )
    def test_odd_rules_for_jids(self, jid, status):
        with face.Environment():
            backend.get().log = len
            assert xmpp.send_message(jid, "x") == status
            assert xmpp.get_presence([jid, "a@b"])[0][2] is (status == 0)
