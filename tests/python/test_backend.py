"""The seam below the API: which backend is used, by which process, for which app."""

import os
import subprocess
import sys
import threading
import types

import face
import pytest
from appxmpp import backend
from appxmpp.app_id import application_id, version_at
from appxmpp.devstub import Stub
from appxmpp.errors import ConfigError, NotAuthorizedError, UnavailableError
from google.appengine.api import xmpp

ADDRESS = "component://bot.example.com@127.0.0.1:5347"


class FakeApp:
    """Stands for the native App: same methods, no server."""

    opened = []

    def __init__(self, address, *, secret, app_id, inbound_services, state, **settings):
        self.arguments = (address, secret, app_id, inbound_services, state)
        self.settings = settings
        self.calls = []
        self.ready = True
        self.error = None
        FakeApp.opened.append(self)

    def wait_ready(self, timeout):
        self.calls.append(("wait_ready", timeout))
        if self.error:
            raise self.error
        return self.ready

    def send_message(self, *arguments):
        self.calls.append(("send_message", *arguments))
        if not self.ready:
            raise UnavailableError("no stream to bot.example.com is up")
        return [0 for _ in arguments[0]]

    def send_presence(self, *arguments):
        self.calls.append(("send_presence", *arguments))

    def send_invite(self, *arguments):
        self.calls.append(("send_invite", *arguments))

    def get_presence(self, *arguments):
        self.calls.append(("get_presence", *arguments))
        return [(True, 2, True) for _ in arguments[0]]

    def close(self, timeout):
        self.calls.append(("close", timeout))


@pytest.fixture
def native(monkeypatch):
    import appxmpp

    module = types.ModuleType("appxmpp._native")
    module.App = FakeApp
    FakeApp.opened = []
    monkeypatch.setitem(sys.modules, "appxmpp._native", module)
    monkeypatch.setattr(appxmpp, "_native", module, raising=False)
    with face.Environment(APPXMPP_BACKEND=ADDRESS, APPXMPP_SECRET="s3cret"):
        yield FakeApp.opened
        # What a test changed is put back while the variables above still stand, and not after them.
        monkeypatch.undo()


class TestApplicationId:
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({"APPXMPP_APP_ID": "a", "APPLICATION_ID": "s~b", "GAE_APPLICATION": "c"}, "a"),
            ({"APPLICATION_ID": "s~b", "GAE_APPLICATION": "c"}, "b"),
            ({"GAE_APPLICATION": "e~example.com:c"}, "c"),
            ({"APPLICATION_ID": "example.com:b"}, "b"),
            ({"APPLICATION_ID": ""}, "bot"),
            ({}, "bot"),
        ],
    )
    def test_first_that_is_set(self, environ, expected):
        assert application_id(environ, domain="bot.example.com") == expected

    def test_nothing_at_all(self):
        assert application_id({}) == ""


class TestChoice:
    @pytest.mark.parametrize("value", [None, "", " ", "stub:"])
    def test_the_development_stub_prints_on_standard_error(self, value, capsys):
        with face.Environment(**({} if value is None else {"APPXMPP_BACKEND": value})):
            assert type(backend.get()) is Stub
            assert xmpp.send_message("a@b", "hé", "x@myapp.appspotchat.com") == 0
        out, err = capsys.readouterr()
        assert out == ""
        assert err == (
            "Sending an XMPP Message:\n    From:\n       x@myapp.appspotchat.com/bot\n    Body:\n       hé\n"
            "    Type:\n       chat\n    Raw Xml:\n       False\n    To JIDs:\n       a@b\n"
        )

    def test_none_fails_every_call(self):
        with face.Environment(APPXMPP_BACKEND="none:"):
            for call in (xmpp.get_presence, xmpp.send_invite, xmpp.send_presence):
                with pytest.raises(AssertionError, match='No api proxy found for service "xmpp"'):
                    call("a@b")
            assert not backend.get().is_available()

    @pytest.mark.parametrize("value", ["gopher://bot:s3cret@host", "s3cret", "stub", "stub:x"])
    def test_what_is_not_understood_is_refused_without_the_secret(self, value):
        with face.Environment(APPXMPP_BACKEND=value):
            with pytest.raises(xmpp.Error, match="component://DOMAIN:SECRET@HOST") as caught:
                xmpp.send_message("a@b", "x")
        assert "host" not in str(caught.value)
        assert ":s3cret" not in str(caught.value)

    def test_a_wheel_for_another_python_is_explained(self, monkeypatch):
        import appxmpp

        monkeypatch.delattr(appxmpp, "_native", raising=False)
        monkeypatch.setitem(sys.modules, "appxmpp._native", None)
        with face.Environment(APPXMPP_BACKEND=ADDRESS):
            with pytest.raises(ConfigError, match="install a wheel of appxmpp made for this Python"):
                xmpp.send_message("a@b", "x")

    def test_one_for_the_process_until_it_is_replaced(self):
        with face.Environment():
            first = backend.get()
            assert backend.get() is first
            other = face.Recorder()
            assert backend.set(other) is first
            assert backend.get() is other
            assert backend.set(None) is other
            assert backend.get() is not first

    def test_threads_that_ask_at_once_get_the_same(self, native):
        barrier, seen = threading.Barrier(8), []

        def ask():
            barrier.wait()
            seen.append(backend.get())

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 8
        assert len(set(seen)) == 1
        assert len(native) == 1


DEFAULTS = {"durable": False, "quotas": None, "keepalive": None, "version": None, "addresses": None}


class TestEmbedded:
    def test_how_it_is_opened(self, native, monkeypatch):
        monkeypatch.setenv("APPXMPP_STATE", "/var/lib/bot.sqlite")
        monkeypatch.setenv("APPXMPP_DURABLE", "1")
        assert xmpp.send_message("a@b", "x") == 0
        assert [app.settings for app in native] == [{**DEFAULTS, "durable": True}]
        assert [app.arguments for app in native] == [(ADDRESS, "s3cret", "myapp", [], "/var/lib/bot.sqlite")]

    def test_the_app_id_is_left_to_the_domain_where_nothing_names_it(self, native, monkeypatch):
        monkeypatch.delenv("APPLICATION_ID")
        backend.get()
        assert native[0].arguments[2] is None

    def test_what_it_is_asked(self, native):
        xmpp.send_message(["a@b"], b"x", None, "normal", raw_xml=1)
        xmpp.send_presence("a@b", "st", presence_show="dnd")
        xmpp.send_invite("a@b", "myapp@appspot.com")
        assert xmpp.get_presence("a@b", get_show=True) == (True, "dnd")
        assert backend.get().is_available()
        backend.get().close(2)
        assert native[0].calls == [
            ("wait_ready", backend.FIRST_CALL_WAIT),
            ("send_message", ["a@b"], "x", None, "normal", True),
            ("send_presence", "a@b", "", "dnd", "st", None),
            ("send_invite", "a@b", "myapp@appspot.com"),
            ("get_presence", ["a@b"], None),
            ("wait_ready", 0),
            ("close", 2),
        ]

    def test_only_the_first_call_waits_for_a_server_that_is_away(self, native):
        backend.get().app.ready = False
        assert [xmpp.send_message("a@b", "x") for _ in range(3)] == [xmpp.OTHER_ERROR] * 3
        assert [call[0] for call in native[0].calls] == ["wait_ready"] + ["send_message"] * 3
        assert not backend.get().is_available()

    def test_refused_credentials_are_an_error_and_no_capability(self, native):
        backend.get().app.error = NotAuthorizedError("the server refused the secret of bot.example.com")
        with pytest.raises(xmpp.Error, match="refused the secret"):
            xmpp.send_message("a@b", "x")
        assert not backend.get().is_available()


class TestSecret:
    def test_a_file(self, native, monkeypatch, tmp_path):
        (tmp_path / "secret").write_text("from-file\n")
        monkeypatch.delenv("APPXMPP_SECRET")
        monkeypatch.setenv("APPXMPP_SECRET_FILE", str(tmp_path / "secret"))
        backend.get()
        assert native[0].arguments[1] == "from-file"

    def test_the_variable_wins(self, native, monkeypatch):
        monkeypatch.setenv("APPXMPP_SECRET_FILE", "/nonexistent")
        backend.get()
        assert native[0].arguments[1] == "s3cret"

    @pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), (b"\n", "is empty"), (b"\xff", "read")])
    def test_a_file_that_is_no_use(self, native, monkeypatch, tmp_path, content, words):
        path = tmp_path / "secret"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.delenv("APPXMPP_SECRET")
        monkeypatch.setenv("APPXMPP_SECRET_FILE", str(path))
        with pytest.raises(ConfigError, match=f"APPXMPP_SECRET_FILE names .*{words}"):
            backend.get()
        assert native == []


def in_child(function):
    """What `function` returns, as text, in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            answer = repr(function())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestFork:
    def test_a_child_opens_a_connection_of_its_own(self, native):
        first = backend.get()
        answer = in_child(lambda: (backend.get() is first, backend.get() is backend.get(), len(native)))
        assert answer == "(False, True, 2)"
        assert backend.get() is first

    def test_a_child_does_not_use_one_that_was_given(self, native):
        backend.set(backend.Embedded(FakeApp(ADDRESS, secret=None, app_id=None, inbound_services=None, state=None)))
        backend.get()
        answer = in_child(lambda: xmpp.send_message("a@b", "x"))
        assert answer.startswith("ConfigError: this process was forked")
        assert "appxmpp.backend.set()" in answer
        assert xmpp.send_message("a@b", "x") == 0

    def test_a_child_given_another_uses_it(self, native):
        backend.set(
            backend.Embedded(
                native[0] if native else FakeApp("", secret=None, app_id=None, inbound_services=None, state=None)
            )
        )

        def child():
            backend.set(face.Recorder())
            return xmpp.send_message("a@b", "x")

        assert in_child(child) == "0"

    def test_backends_without_threads_are_shared(self):
        with face.Environment():
            first = backend.get()
            assert in_child(lambda: backend.get() is first) == "True"

    def test_a_lock_held_by_another_thread_does_not_stop_the_child(self, native):
        with backend._current.lock:
            assert in_child(lambda: type(backend.get()).__name__) == "'Embedded'"


def test_the_stub_can_print_what_the_terminal_cannot_show():
    code = "from google.appengine.api import xmpp; assert xmpp.send_message('a@b', '\\u263a') == 0"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "APPXMPP_BACKEND": "stub:"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "\\u263a" in done.stderr) == (0, True), done.stderr


class TestSettings:
    def test_there_are_none_by_default(self):
        assert backend.settings({}) == DEFAULTS

    def test_the_environment_makes_them(self):
        environ = {
            "APPXMPP_DURABLE": "1",
            "APPXMPP_QUOTAS": "api_calls=10, invitations_sent=0",
            "APPXMPP_KEEPALIVE": "2.5",
            "APPXMPP_APP_VERSION": "beta",
            "APPXMPP_ADDRESSES": "appengine",
        }
        quotas = {"api_calls": 10, "invitations_sent": 0}
        expected = {"durable": True, "quotas": quotas, "keepalive": 2.5, "version": "beta", "addresses": "appengine"}
        assert backend.settings(environ) == expected

    def test_an_app_yaml_names_the_version_where_the_component_is_called_after_it(self):
        assert version_at("beta.latest.bot.example", "beta") == "beta"
        assert version_at("beta.latest.bot.example", "Beta") == "Beta"
        for domain, configured in [("bot.example", "1"), ("beta.latest.bot.example", "1"), ("xbeta.latest.b", "beta")]:
            assert version_at(domain, configured) is None

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("APPXMPP_DURABLE", "perhaps"),
            ("APPXMPP_QUOTAS", "api_calls"),
            ("APPXMPP_QUOTAS", "api_calls=-1"),
            ("APPXMPP_KEEPALIVE", "often"),
            ("APPXMPP_KEEPALIVE", "-1"),
        ],
    )
    def test_what_makes_no_sense_is_named(self, name, value):
        with pytest.raises(ConfigError, match=value):
            backend.settings({name: value})
