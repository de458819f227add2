"""The `appxmpp` command as an operator starts it, against the server's side of the wire."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request

import pytest
from fake_server import ACCEPT, FakeServer

APP = """
import os, sys, threading, webapp2
from google.appengine.api import xmpp
held = threading.Event()

def let_go():
    # Opening a pipe waits for the test to open its other end.
    open("../pipe").read()
    held.set()
threading.Thread(target=let_go, daemon=True).start()

class Chat(webapp2.RequestHandler):
    def post(self):
        message = xmpp.Message(self.request.POST)
        if message.body == "raise":
            raise ValueError("boom")
        if message.body == "exit":
            sys.exit(3)
        if message.body == "hold":
            message.reply("holding")
            held.wait(60)
        if message.body == "env":
            names = ["APPLICATION_ID", "CURRENT_VERSION_ID", "SERVER_SOFTWARE", "GREETING"]
            message.reply(" ".join(os.environ[name] for name in names))
            return
        message.reply("%s from %s via %s" % (message.body, message.to, self.request.host_url))

class Page(webapp2.RequestHandler):
    def get(self):
        self.response.write("page")

app = webapp2.WSGIApplication([("/_ah/xmpp/message/chat/", Chat), ("/", Page)])
"""

YAML = """\
application: myapp
version: 3
threadsafe: true
inbound_services:
- xmpp_message
handlers:
- url: /.*
  script: main.app
env_variables:
  GREETING: hello
"""


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    os.mkfifo(tmp_path / "pipe")
    (folder / "app.yaml").write_text(YAML)
    (folder / "main.py").write_text(textwrap.dedent(APP))
    return folder


class Run:
    """A running `appxmpp run`."""

    def __init__(self, folder, server, *arguments, **environ):
        self.home = home = folder.parent
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "appxmpp", "run", str(folder), "--port", "0", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            cwd=home,
            env={
                **os.environ,
                "HOME": str(home),
                "XDG_STATE_HOME": str(home / "state"),
                "APPXMPP_BACKEND": server.backend(secret=False),
                "APPXMPP_SECRET": server.secret,
                **environ,
            },
        )
        self.log = ""

    def read_until(self, pattern):
        """Log lines up to the one that matches; the match."""
        for line in iter(self.process.stderr.readline, ""):
            self.log += line
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line matches {pattern!r} in:\n{self.log}")

    def port(self):
        return int(self.read_until(r"serving http://127\.0\.0\.1:(\d+)/")[1])

    def let_go(self):
        """End the handlers of `hold`."""
        (self.home / "pipe").write_text("go")

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.end()

    def end(self):
        _, rest = self.process.communicate(timeout=90)
        self.log += rest
        return self.process.returncode


@pytest.fixture
def run(folder, server):
    running = []

    def start(*arguments, **environ):
        running.append(Run(folder, server, *arguments, **environ))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.communicate()


def get(port, path="/"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return answer.read().decode()


def test_a_bot_answers_and_serves_its_pages(run, server, folder):
    bot = run()
    port = bot.port()
    server.wait_login()
    server.message("hello", to="anything")
    reply = server.next()
    assert (reply.get("to"), reply.get("from")) == ("romeo@example.net/orchard", "anything@bot.localhost/bot")
    assert reply.findtext(ACCEPT + "body") == f"hello from anything@bot.localhost via http://127.0.0.1:{port}"
    server.message("env")
    assert re.fullmatch(r"s~myapp 3\.1 appxmpp/\S+ hello", server.next_body())
    assert get(port) == "page"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(port, "/_ah/xmpp/message/chat/")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(port, "/nothing")
    assert (folder.parent / "state" / "appxmpp" / "bot.localhost.sqlite").exists()
    assert (folder.parent / "state" / "appxmpp").stat().st_mode & 0o077 == 0
    assert bot.stop() == 0
    # Neither the secret nor what was said is in the log.
    assert server.secret not in bot.log
    assert "hello" not in bot.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_handlers_finish_and_says_goodbye(run, server, number):
    bot = run()
    bot.port()
    server.wait_login()
    server.message("hold")
    assert server.next_body() == "holding"
    bot.process.send_signal(number)
    bot.read_until("finishing what is at work")
    bot.let_go()
    assert server.next_body().startswith("hold from bot@bot.localhost")
    assert bot.end() == 0
    assert server.ends.get(timeout=20) is True


def test_a_second_signal_ends_it_at_once(run, server):
    bot = run()
    bot.port()
    server.wait_login()
    server.message("hold")
    assert server.next_body() == "holding"
    bot.process.send_signal(signal.SIGTERM)
    bot.read_until("once more to stop at once")
    assert bot.stop(signal.SIGTERM) == -signal.SIGTERM


def test_a_handler_that_never_ends_is_left_after_the_drain(run, server):
    bot = run("--drain", "1")
    bot.port()
    server.wait_login()
    server.message("hold")
    assert server.next_body() == "holding"
    assert bot.stop() == 0
    assert "some handlers did not finish within 1 seconds" in bot.log
    assert server.ends.get(timeout=20) is True


def test_a_handler_that_raises_is_logged_and_the_process_lives(run, server):
    bot = run()
    bot.port()
    server.wait_login()
    for body in ("raise", "exit"):
        server.message(body, id=f"id-{body}")
    server.message("still here")
    assert server.next_body().startswith("still here")
    assert bot.stop() == 0
    assert "ValueError: boom" in bot.log
    assert "500 in" in bot.log
    assert "'id-raise'" in bot.log
    assert "'id-exit'" in bot.log


def test_order_of_each_sender_with_many_senders(run, server):
    bot = run("--log-level", "warning", "--port", "none")
    server.wait_login()
    senders = [f"user{n}@example.net" for n in range(20)]
    for number in range(20):
        for sender in senders:
            server.message(str(number), sender=sender + "/r")
    seen = {}
    for _ in range(400):
        reply = server.next()
        seen.setdefault(reply.get("to"), []).append(int(reply.findtext(ACCEPT + "body").split()[0]))
    assert seen == {sender + "/r": list(range(20)) for sender in senders}
    assert bot.stop() == 0


def test_deliveries_run_side_by_side(run, server):
    bot = run()
    bot.port()
    server.wait_login()
    for n in range(4):
        server.message("hold", sender=f"user{n}@example.net/r")
    assert [server.next_body() for _ in range(4)] == ["holding"] * 4
    bot.let_go()
    assert sorted(server.next().get("to") for _ in range(4)) == [f"user{n}@example.net/r" for n in range(4)]
    assert bot.stop() == 0


def test_it_comes_back_when_the_server_does(run, server):
    bot = run()
    bot.port()
    server.wait_login()
    server.drop()
    server.wait_login(60)
    server.message("again")
    assert server.next_body().startswith("again")
    assert bot.stop() == 0


def test_the_public_url_is_what_the_app_sees(run, server):
    bot = run("--public-url", "https://bot.example.com")
    bot.port()
    server.wait_login()
    server.message("hello")
    assert server.next_body().endswith("via https://bot.example.com")
    assert bot.stop() == 0


def test_a_refused_secret_ends_it_with_77(run, server):
    bot = run(APPXMPP_SECRET="wr0ng")
    assert bot.end() == 77
    assert "refused the component bot.localhost twice" in bot.log
    assert "wr0ng" not in bot.log


def test_the_secret_may_be_in_a_file(run, server, tmp_path):
    (tmp_path / "secret").write_text(server.secret + "\n")
    bot = run(APPXMPP_SECRET="", APPXMPP_SECRET_FILE=str(tmp_path / "secret"))
    server.wait_login()
    bot.port()
    assert bot.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "says"),
    [
        (["--backend", "component://bot.localhost:s3cret@127.0.0.1"], {}, 2, "a secret stands in the command line"),
        (["--backend=component+unix://bot.localhost:s3:c@ret@/x"], {}, 2, "APPXMPP_SECRET_FILE"),
        ([], {"APPXMPP_BACKEND": ""}, 78, "APPXMPP_BACKEND is not set"),
        ([], {"APPXMPP_BACKEND": "stub:"}, 78, "appxmpp dev"),
        ([], {"APPXMPP_BACKEND": "component://bot.localhost@127.0.0.1", "APPXMPP_SECRET": ""}, 78, "no secret"),
        ([], {"APPXMPP_BACKEND": "ftp://x"}, 78, "no backend has the scheme"),
        ([], {"APPXMPP_SECRET": "", "APPXMPP_SECRET_FILE": "/no/such/file"}, 78, "/no/such/file"),
        (["--port", "99999"], {}, 2, "is no number from 0 to 65535"),
        (["--workers", "0"], {}, 2, "is no number from 1 to 1000"),
        (["--log-level", "loud"], {}, 2, "is none of debug, info"),
        (["--public-url", "bot.example.com"], {}, 78, "must be http://HOST"),
        ([], {"APPXMPP_WORKERS": "many"}, 2, "'many' is no number"),
        (["--state", "/no/such/folder/state.sqlite"], {}, 1, "/no/such/folder/state.sqlite"),
    ],
)
def test_what_is_wrong_is_said(run, arguments, environ, code, says):
    bot = run(*arguments, **environ)
    assert bot.end() == code, bot.log
    assert says in bot.log
    assert "s3cret" not in bot.log
    assert "Traceback" not in bot.log


def test_a_wrong_app_is_explained(run, folder):
    (folder / "main.py").write_text("import no_such_module\n")
    bot = run()
    assert bot.end() == 1
    assert "import no_such_module" in bot.log
    assert "appxmpp: Traceback" in bot.log
    (folder / "app.yaml").write_text("handlers: [\n")
    bot = run()
    assert bot.end() == 78
    assert "is not valid YAML" in bot.log


def test_it_works_without_configuration_for_help_and_version():
    for arguments in (["--help"], ["run", "--help"], ["dev", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-m", "appxmpp", *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert done.stdout.startswith(("usage: appxmpp", "appxmpp 0."))
    done = subprocess.run([sys.executable, "-m", "appxmpp"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2


def test_without_extras_it_says_what_to_install(folder, server):
    code = "import sys; sys.modules['yaml'] = None; from appxmpp.cli import main; sys.exit(main(['run', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert "pip install 'appxmpp[run]'" in done.stderr
