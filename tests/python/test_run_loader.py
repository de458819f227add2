"""Finding the application that app.yaml names."""

import os
import subprocess
import sys
import textwrap

import pytest

LOAD = """
import cmd, sys
from appxmpp import appyaml, direct, loader, wsgi
from appxmpp.exits import Exit
try:
    config = appyaml.load(sys.argv[1])
    app = wsgi.Application(config, loader.load(config))
except Exit as error:
    print(error)
    sys.exit(error.code)
print(direct.call(app, direct.environ("GET", "/")).body.decode())
"""

APP = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello from %s" % __name__.encode()]
"""


@pytest.fixture
def load(tmp_path):
    """Writes an app and runs it in an interpreter of its own; its exit code and output."""

    def run(script, **files):
        (tmp_path / "app.yaml").write_text(f"handlers:\n- url: .*\n  script: {script}\n")
        for name, text in files.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", LOAD, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        return done.returncode, done.stdout.strip() + done.stderr

    return run


CGI = "from wsgiref.handlers import CGIHandler\n"
UTIL = "from google.appengine.ext.webapp.util import run_wsgi_app, run_bare_wsgi_app\n"
WHEN_MAIN = "if __name__ == '__main__':\n    "

CONFIG = """
def webapp_add_wsgi_middleware(app):
    def wrapped(environ, start_response):
        return [b"wrapped ", *app(environ, start_response)]
    return wrapped
"""

WEBAPP2 = """
import webapp2
class Page(webapp2.RequestHandler):
    def get(self):
        self.response.write("webapp2 ran")
def main():
    webapp2.WSGIApplication([("/", Page)]).run()
"""


@pytest.mark.parametrize(
    ("script", "files", "answer"),
    [
        ("main.app", {"main": APP}, "hello from main"),
        ("bots.echo.app", {"bots__echo": APP}, "hello from bots.echo"),
        ("main.app", {"main": "from helper import app", "helper": APP}, "hello from helper"),
        ("main.app", {"main": APP, "appengine_config": CONFIG}, "wrapped hello from main"),
        ("my-bot.py", {"my-bot": APP}, "hello from my-bot"),
        ("main.py", {"main": APP.replace("app(", "application(")}, "hello from main"),
        # CGI style: with main(), run always, run as __main__ only.
        ("main.py", {"main": APP + CGI + "def main():\n    CGIHandler().run(app)\n"}, "hello from main"),
        ("main.py", {"main": APP + CGI + "CGIHandler().run(app)\n"}, "hello from main"),
        (
            "main.py",
            {"main": APP.replace("app(", "other(") + CGI + WHEN_MAIN + "CGIHandler().run(other)\n"},
            "hello from __main__",
        ),
        (
            "main.py",
            {"main": APP + UTIL + "def main():\n    run_wsgi_app(app)\n", "appengine_config": CONFIG},
            "wrapped hello from main",
        ),
        ("main.py", {"main": APP + UTIL + "def main():\n    run_bare_wsgi_app(app)\n"}, "hello from main"),
        ("main.py", {"main": WEBAPP2}, "webapp2 ran"),
    ],
)
def test_an_application_is_found(load, script, files, answer):
    assert load(script, **files) == (0, answer)


def test_files_and_modules_are_found_from_the_apps_folder(load, tmp_path):
    (tmp_path / "greeting.txt").write_text("read from the app's folder")
    main = "import helper\ndef app(e, s):\n    s('200 OK', [])\n    return [helper.text]\n"
    helper = "text = open('greeting.txt', 'rb').read()\n"
    assert load("main.app", main=main, helper=helper) == (0, "read from the app's folder")


def test_a_script_that_makes_its_application_per_run_is_run_once(load):
    main = """
    from wsgiref.handlers import CGIHandler
    runs = []
    def main():
        runs.append(1)
        def app(environ, start_response):
            start_response("200 OK", [])
            return [b"run %d" % len(runs)]
        CGIHandler().run(app)
    if __name__ == "__main__":
        main()
    """
    assert load("main.py", main=main) == (0, "run 1")


@pytest.mark.parametrize(
    ("script", "files", "code", "says"),
    [
        ("main.app", {}, 78, ["there is no module main in"]),
        ("main", {"main": APP}, 78, ["names no variable", "main.app"]),
        ("main.other", {"main": APP}, 78, ["has no variable other"]),
        ("main.thing", {"main": "thing = 3"}, 78, ["is a int, not a WSGI application"]),
        ("main.py", {}, 78, ["there is no file"]),
        ("main.py", {"main": "x = 1"}, 78, ["neither calls run_wsgi_app"]),
        (
            "main.app",
            {"main": "import nothing_there"},
            1,
            ["Traceback", "import nothing_there", "ModuleNotFoundError"],
        ),
        (
            "main.app",
            {"main": "1 / 0"},
            1,
            ["ZeroDivisionError", "main.py", "could not be imported"],
        ),
        ("main.app", {"main": "import sys; sys.exit(4)"}, 1, ["SystemExit: 4"]),
        ("main.app", {"main": "print 'hello'"}, 1, ["SyntaxError", "Code written for Python 2.7"]),
        (
            "main.app",
            {"main": "from google.appengine.ext import db"},
            1,
            ["pip install appengine-python-standard"],
        ),
        ("cmd.app", {"cmd": APP}, 78, ["is hidden by the module cmd"]),
    ],
)
def test_what_is_wrong_is_said(load, script, files, code, says):
    returned, output = load(script, **files)
    assert returned == code, output
    for text in says:
        assert text in output
    assert "appxmpp/loader.py" not in output
