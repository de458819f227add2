"""Routing by app.yaml, static files, and the door for strangers."""

import threading

import pytest
from appxmpp import appyaml, direct
from appxmpp.wsgi import ADMIN, Application, Outside, is_internal


def answering(name):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [name.encode(), b" ", environ["PATH_INFO"].encode("latin-1")]

    return app


def application(tmp_path, handlers, scripts=("main.app", "bot.app"), extra=""):
    config = appyaml.parse(f"{extra}handlers:\n{handlers}", str(tmp_path / "app.yaml"))
    return Application(config, {script: answering(script) for script in scripts})


def get(app, path, method="GET", **extra):
    environ = direct.environ(method, path)
    environ.update(extra)
    return direct.call(app, environ)


TWO = "- url: /bot/.*\n  script: bot.app\n- url: /\n  script: main.app\n"


def test_the_first_handler_that_matches_the_whole_path_gets_the_request(tmp_path):
    app = application(tmp_path, TWO)
    assert get(app, "/bot/x").body == b"bot.app /bot/x"
    assert get(app, "/").body == b"main.app /"
    assert get(app, "/other").status == 404
    assert get(app, "/bot").status == 404


def test_login_is_refused_to_strangers_and_not_to_the_service(tmp_path):
    app = application(tmp_path, "- url: /.*\n  script: main.app\n  login: admin\n")
    refused = get(app, "/admin")
    assert refused.status == 403
    assert b"login: admin" in refused.body
    assert get(app, "/admin", **{ADMIN: True}).status == 200


def test_static_files(tmp_path):
    public = tmp_path / "public"
    public.mkdir()
    (public / "style.css").write_text("body {}")
    (public / "é.txt").write_text("accent")
    (tmp_path / "main.py").write_text("secret = 1")
    (public / "link").symlink_to("/etc/hostname")
    app = application(
        tmp_path,
        "- url: /static\n  static_dir: public\n- url: /(.*\\.css)\n  static_files: public/\\1\n  upload: x\n",
    )
    found = get(app, "/static/style.css")
    assert (found.status, found.body) == (200, b"body {}")
    assert dict(found.headers)["Content-Type"].startswith("text/css")
    assert get(app, "/style.css").body == b"body {}"
    assert get(app, "/static/é.txt").body == b"accent"
    assert get(app, "/static/style.css", "HEAD").body == b""
    assert get(app, "/static/style.css", "POST").status == 405
    for path in [
        "/static/../main.py",
        "/static/link",
        "/static/none",
        "/static//etc/hostname",
        "/static/a\0b",
        "/static/",
    ]:
        assert get(app, path).status == 404, path


INTERNAL = [
    "/_ah/xmpp/message/chat/",
    "/_ah/",
    "/_ah",
    "//_ah/xmpp",
    "/./_ah/x",
    "/a/../_ah/x",
    "/_ah/../public",
    "/_AH/xmpp/message/chat/",
    "/%5fah/x",
    "/%5Fah/x",
    "/%255fah/x",
    "/_a%68/x",
    "/\\_ah\\x",
    "/%5c_ah/x",
    "/..;/_ah/x",
    "/_ah;v=1/x",
    "/x/..%2f_ah/x",
    "/%2e%2e/_ah/x",
    "/_ah%00/x",
    "/ _ah/x",
    "/\t_ah/x",
    "_ah/x",
    "/%" + "25" * 100000 + "41",
]


@pytest.mark.parametrize("path", INTERNAL, ids=range(len(INTERNAL)))
def test_every_spelling_of_an_internal_path_is_refused(tmp_path, path):
    app = Outside(application(tmp_path, "- url: .*\n  script: main.app\n"))
    assert get(app, path).status == 403


@pytest.mark.parametrize("path", ["/", "", "/about", "/x/_ah/y", "/_ahoy", "/caf%C3%A9", "/100%", "/a..b/_ah"])
def test_other_paths_pass(path):
    assert not is_internal(path)


def test_strangers_cannot_pretend_to_be_app_engine():
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        start_response("200 OK", [])
        return []

    get(
        Outside(app),
        "/",
        HTTP_X_APPENGINE_FAKE_IS_ADMIN="1",
        HTTP_X_APPENGINE_TASKNAME="t",
        HTTP_X_OTHER="kept",
    )
    assert not [name for name in seen if "APPENGINE" in name]
    assert seen["HTTP_X_OTHER"] == "kept"
    assert ADMIN not in seen


def test_an_app_that_is_not_threadsafe_gets_one_request_at_a_time(tmp_path):
    entered, go = threading.Event(), threading.Event()
    at_work = []
    most = []

    def app(_environ, start_response):
        start_response("200 OK", [])
        at_work.append(1)
        most.append(len(at_work))
        entered.set()
        assert go.wait(20)
        # A generator does its work after the call has returned.
        yield b"done"
        at_work.pop()

    config = appyaml.parse("threadsafe: false\nhandlers:\n- url: .*\n  script: m.app\n", str(tmp_path / "app.yaml"))
    one = Application(config, {"m.app": app})
    threads = [threading.Thread(target=get, args=(one, "/")) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert entered.wait(20)
    go.set()
    for thread in threads:
        thread.join(20)
    assert most == [1, 1, 1, 1]
