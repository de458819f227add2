"""Handlers over webapp2, and inbound requests read by other frameworks."""

import io
import logging
import sys
import types
from unittest import mock

import face
import pytest
import webapp2
from google.appengine.api import xmpp
from google.appengine.ext import webapp
from google.appengine.ext.webapp import util, xmpp_handlers

CHAT = "/_ah/xmpp/message/chat/"
FIELDS = [
    ("from", face.USER),
    ("to", "ä-room@myapp.appspotchat.com/x"),
    ("body", "/foo Grüße ☺\nzwei"),
    ("stanza", "<x/>"),
]


@pytest.fixture
def calls():
    with face.recording() as recorder:
        yield recorder


class Bot(xmpp_handlers.CommandHandler):
    def foo_command(self, message=None):
        message.reply(message.arg)

    def boom_command(self, message=None):
        raise ValueError("boom")


def post(app, fields=FIELDS, path=CHAT, **environ):
    kind, body = face.multipart(fields)
    request = webapp2.Request.blank(path, environ=environ, method="POST", content_type=kind, body=body)
    return request.get_response(app)


def app_of(handler):
    return webapp2.WSGIApplication([(CHAT, handler)])


class TestWebapp2:
    def test_the_layout_that_app_engine_posted(self, calls):
        assert post(app_of(Bot)).status_int == 200
        assert calls.calls == [
            ("message", [face.USER], "Grüße ☺\nzwei", "ä-room@myapp.appspotchat.com/x", "chat", False)
        ]

    def test_urlencoded_too(self, calls):
        response = webapp2.Request.blank(CHAT, POST=face.form("/foo bar")).get_response(app_of(Bot))
        assert response.status_int == 200
        assert calls.bodies == ["bar"]

    @pytest.mark.parametrize("path", [CHAT.rstrip("/"), "/_ah/xmpp/presence/available/"])
    def test_other_paths_are_not_found(self, calls, path):
        assert post(app_of(Bot), path=path).status_int == 404

    def test_order_of_classes(self):
        mro = [cls.__name__ for cls in xmpp_handlers.CommandHandler.__mro__]
        assert mro == ["CommandHandler", "CommandHandlerMixin", "BaseHandler", "RequestHandler", "object"]
        assert webapp.RequestHandler is webapp2.RequestHandler

    def test_base_handler_demands_message_received(self, calls):
        assert post(app_of(xmpp_handlers.BaseHandler)).status_int == 500

    def test_an_exception_is_a_500_and_no_apology(self, calls):
        assert post(app_of(Bot), [*FIELDS[:2], ("body", "/boom")]).status_int == 500
        assert calls.calls == []

    def test_an_apology_in_classic_mode(self, calls, monkeypatch):
        monkeypatch.setenv("APPXMPP_WEBAPP", "classic")
        assert post(app_of(Bot), [*FIELDS[:2], ("body", "/boom")]).status_int == 500
        assert calls.bodies == ["Oops. Something went wrong."]

    def test_no_apology_for_a_failure_before_the_message(self, calls, monkeypatch):
        monkeypatch.setenv("APPXMPP_WEBAPP", "classic")
        with mock.patch.object(xmpp_handlers.xmpp, "Message", side_effect=RuntimeError("early")):
            assert post(app_of(Bot)).status_int == 500
        assert calls.calls == []

    def test_classic_mode_shows_the_traceback_in_debug(self, calls, monkeypatch):
        monkeypatch.setenv("APPXMPP_WEBAPP", "classic")
        response = post(webapp2.WSGIApplication([(CHAT, Bot)], debug=True), [*FIELDS[:2], ("body", "/boom")])
        assert response.status_int == 500
        assert response.content_type == "text/plain"
        assert "ValueError: boom" in response.text

    def test_a_command_may_have_any_letters(self, calls):
        assert post(app_of(Bot), [*FIELDS[:2], ("body", "/ünbekannt x")]).status_int == 200
        assert calls.bodies == ["Unknown command"]


class TestPatching:
    def test_globals_of_the_module(self, calls):
        message = mock.Mock()
        with mock.patch("google.appengine.ext.webapp.xmpp_handlers.xmpp") as patched:
            patched.Message.return_value = message
            patched.InvalidMessageError = xmpp.InvalidMessageError
            message.command = "foo"
            message.arg = "bar"
            assert post(app_of(Bot)).status_int == 200
        message.reply.assert_called_once_with("bar")
        assert calls.calls == []

    def test_logging(self, calls):
        with mock.patch("google.appengine.ext.webapp.xmpp_handlers.logging") as patched:
            assert post(app_of(Bot), FIELDS[:1]).status_int == 200
        assert patched.error.call_args.args == ("Invalid XMPP request: Missing required field %s", "to")

    def test_the_module_has_them(self):
        assert xmpp_handlers.logging is logging
        assert xmpp_handlers.xmpp is xmpp
        assert xmpp_handlers.webapp is webapp


class TestOtherFrameworks:
    def test_flask(self, calls):
        import flask

        app = flask.Flask("bot")

        @app.post(CHAT)
        def chat():
            xmpp.Message(flask.request.form).reply("form")
            xmpp.Message(flask.request.values).reply(flask.request.form["stanza"])
            return ""

        kind, body = face.multipart(FIELDS)
        assert app.test_client().post(CHAT, data=body, content_type=kind).status_code == 200
        assert [call[1:4] for call in calls.calls] == [
            ([face.USER], "form", FIELDS[1][1]),
            ([face.USER], "<x/>", FIELDS[1][1]),
        ]

    def test_flask_names_the_missing_field(self, calls):
        import flask

        with flask.Flask("bot").test_request_context(method="POST", data={"from": "a", "to": "b"}):
            with pytest.raises(xmpp.InvalidMessageError) as caught:
                xmpp.Message(flask.request.form)
        assert caught.value.args == ("body",)

    def test_bottle(self, calls):
        import bottle

        app = bottle.Bottle()

        @app.post(CHAT)
        def chat():
            message = xmpp.Message(bottle.request.POST)
            assert message.sender == face.USER
            message.reply(message.body)
            with pytest.raises(xmpp.InvalidMessageError):
                xmpp.Message(bottle.request.GET)

        assert post(app).status_int == 200
        assert calls.bodies == [FIELDS[2][1]]

    def test_django(self, calls):
        from django.conf import settings

        if not settings.configured:
            settings.configure()
        from django.core.handlers.wsgi import WSGIRequest

        kind, body = face.multipart(FIELDS)
        request = WSGIRequest(
            {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": CHAT,
                "CONTENT_TYPE": kind,
                "CONTENT_LENGTH": str(len(body)),
                "wsgi.input": io.BytesIO(body),
            }
        )
        message = xmpp.Message(request.POST)
        assert (message.sender, message.to, message.body) == tuple(value for _, value in FIELDS[:3])
        with pytest.raises(xmpp.InvalidMessageError, match="from"):
            xmpp.Message(request.GET)

    def test_the_command_mixin_needs_no_webapp(self, calls):
        class Handler(xmpp_handlers.CommandHandlerMixin):
            def hi_command(self, message):
                message.reply("hello")

        Handler().message_received(xmpp.Message(face.form("/hi")))
        Handler().message_received(xmpp.Message(face.form("no command")))
        assert calls.bodies == ["hello"]


class TestUtil:
    @pytest.fixture
    def cgi(self, monkeypatch):
        """Runs an application as a CGI script and returns what it printed."""

        def run(runner, app, method="GET", path="/hello"):
            monkeypatch.setenv("REQUEST_METHOD", method)
            monkeypatch.setenv("PATH_INFO", path)
            monkeypatch.setenv("SERVER_NAME", "localhost")
            monkeypatch.setenv("SERVER_PORT", "80")
            monkeypatch.setenv("SERVER_PROTOCOL", "HTTP/1.1")
            out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
            monkeypatch.setattr(sys, "stdout", out)
            runner(app)
            out.flush()
            return out.buffer.getvalue().decode()

        return run

    @pytest.fixture
    def app(self):
        class Hello(webapp.RequestHandler):
            def get(self):
                self.response.out.write("hello")

        return webapp.WSGIApplication([("/hello", Hello)])

    def test_run_wsgi_app(self, cgi, app):
        printed = cgi(util.run_wsgi_app, app)
        assert printed.startswith("Status: 200 OK\r\n")
        assert printed.endswith("\r\n\r\nhello")

    def test_webapp2s_own_run_goes_the_same_way(self, cgi, app):
        assert webapp2._webapp_util is util
        assert cgi(lambda app: app.run(), app).endswith("hello")
        assert cgi(lambda app: app.run(bare=True), app).endswith("hello")

    def test_middleware_of_the_application(self, cgi, app, monkeypatch):
        config = types.ModuleType("appengine_config")

        def shout(inner):
            return lambda environ, start: [part.upper() for part in inner(environ, start)]

        config.webapp_add_wsgi_middleware = shout
        monkeypatch.setitem(sys.modules, "appengine_config", config)
        assert cgi(util.run_wsgi_app, app).endswith("HELLO")
        assert cgi(util.run_bare_wsgi_app, app).endswith("hello")
        del config.webapp_add_wsgi_middleware
        assert util.add_wsgi_middleware(app) is app

    def test_a_broken_configuration_is_not_hidden(self, app, tmp_path, monkeypatch):
        (tmp_path / "appengine_config.py").write_text("import no_such_module_anywhere\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(ImportError, match="no_such_module_anywhere"):
            util.add_wsgi_middleware(app)

    def test_login_required(self, monkeypatch):
        users = types.ModuleType("google.appengine.api.users")
        users.get_current_user = lambda: None
        users.create_login_url = lambda uri: "/login?continue=" + uri
        import google.appengine.api

        monkeypatch.setitem(sys.modules, "google.appengine.api.users", users)
        monkeypatch.setattr(google.appengine.api, "users", users, raising=False)

        class Page(webapp.RequestHandler):
            @util.login_required
            def get(self, name):
                self.response.out.write("hello " + name)

            post = get

        app = webapp.WSGIApplication([("/(.*)", Page)])
        response = webapp2.Request.blank("/page").get_response(app)
        assert (response.status_int, response.location) == (
            302,
            "http://localhost/login?continue=http://localhost/page",
        )
        users.get_current_user = lambda: "romeo"
        assert webapp2.Request.blank("/page").get_response(app).text == "hello page"
        assert webapp2.Request.blank("/page", POST={}, method="POST").get_response(app).status_int == 500

    def test_login_required_says_what_is_missing(self):
        class Page:
            request = types.SimpleNamespace(method="GET")

        with pytest.raises(ImportError, match="pip install appengine-python-standard"):
            util.login_required(lambda self: None)(Page())


class TestTemplate:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        (tmp_path / "base.html").write_text("<p>{% block text %}{% endblock %}</p>")
        (tmp_path / "page.html").write_text("{% extends 'base.html' %}{% block text %}{{ text }}{% endblock %}")
        return tmp_path

    def test_render(self, folder):
        from google.appengine.ext.webapp import template

        rendered = template.render(str(folder / "page.html"), {"text": "<Grüße>"})
        assert rendered == "<p>&lt;Grüße&gt;</p>"
        assert template.load(str(folder / "base.html")).render(template.Context({})) == "<p></p>"

    def test_debug_rereads_the_file(self, folder):
        from google.appengine.ext.webapp import template

        page = str(folder / "base.html")
        assert template.render(page, {}, debug=True) == "<p></p>"
        (folder / "base.html").write_text("new")
        assert template.render(page, {}, debug=True) == "new"

    def test_libraries_of_the_application(self, folder, monkeypatch):
        from google.appengine.ext.webapp import template

        (folder / "bot_filters.py").write_text(
            "from google.appengine.ext.webapp import template\n"
            "register = template.create_template_register()\n"
            "@register.filter\ndef shout(value):\n    return value.upper()\n"
        )
        monkeypatch.syspath_prepend(str(folder))
        template.register_template_library("bot_filters")
        (folder / "loud.html").write_text("{{ text|shout }}")
        assert template.render(str(folder / "loud.html"), {"text": "hey"}) == "HEY"


def test_frameworks_that_are_missing_are_named(monkeypatch):
    for name, module, advice in (
        ("webapp2", "google.appengine.ext.webapp", r"pip install 'appxmpp\[run\]'"),
        ("django.template", "google.appengine.ext.webapp.template", "pip install django"),
    ):
        with monkeypatch.context() as patch:
            for loaded in list(sys.modules):
                if loaded.startswith(
                    ("google.appengine.ext.webapp", "appxmpp.appengine.webapp", "appxmpp.appengine.templ")
                ):
                    patch.delitem(sys.modules, loaded)
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ImportError, match=advice):
                __import__(module)
