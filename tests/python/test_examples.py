"""The examples in examples/python, on the test double and on the embedded server."""

import subprocess
import sys
from pathlib import Path

import pytest
from appxmpp import demo, talk
from appxmpp.testing import Bot

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/app.yaml"))


def test_all_examples_are_here():
    assert NAMES == ["commands_webapp2", "echo_webapp2", "guestbook_flask", "presence_webapp2"]
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"| `{name}` |" in readme for name in NAMES)


@pytest.fixture
def bot(request):
    with Bot(EXAMPLES / request.param / "app.yaml", me="romeo@example.net/console") as bot:
        yield bot


@pytest.mark.parametrize("bot", NAMES, indirect=True)
def test_the_conversation_on_the_test_double(bot, request):
    bot.presence()
    name = request.node.callspec.params["bot"]
    for line in talk.parse((EXAMPLES / name / "talk.txt").read_text()):
        if line.who == "me":
            assert bot.push(line.text) == 200
        else:
            assert bot.pop() == line.text
    with pytest.raises(AssertionError, match=r"no .* message"):
        bot.pop()


@pytest.mark.parametrize("name", [*NAMES, "demo"])
def test_the_conversation_on_the_embedded_server(name):
    arguments = ["demo"] if name == "demo" else ["dev", "--port", "0", str(EXAMPLES / name / "app.yaml")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "appxmpp", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    folder = Path(demo.__path__[0]) if name == "demo" else EXAMPLES / name
    lines = talk.parse((folder / "talk.txt").read_text())
    assert [(line.who, line.text) for line in talk.parse(done.stdout)] == [(line.who, line.text) for line in lines]


@pytest.mark.parametrize("bot", ["presence_webapp2"], indirect=True)
def test_subscriptions_presence_and_errors_reach_their_handlers(bot, caplog):
    for kind in ("subscribe", "subscribed", "unsubscribe", "unsubscribed"):
        assert bot.subscription(kind) == 200
    assert [(sent.kind, sent.to, sent.type, sent.status) for sent in bot.sent] == [
        ("presence", "romeo@example.net", "", "at your service"),
        ("presence", "romeo@example.net", "unavailable", None),
    ]
    bot.presence("away", "lunch")
    bot.presence(type="probe")
    assert (bot.sent[-1].to, bot.sent[-1].status) == ("romeo@example.net/console", "at your service")
    bot.push("/who")
    assert bot.pop() == "romeo@example.net (away)"
    bot.presence(type="unavailable")
    bot.push("/who")
    assert bot.pop() == "Nobody is online."
    bot.push("hello")
    assert bot.pop() == "I see you are away."
    assert bot.error("item-not-found") == 200
    assert "item-not-found" in caplog.text
    bot.push("/log")
    assert bot.pop().splitlines()[-1] == "error romeo@example.net"


@pytest.mark.parametrize("bot", ["guestbook_flask"], indirect=True)
def test_what_was_said_by_chat_is_on_the_web_page(bot):
    from main import app

    bot.push("<i>hello</i>")
    page = app.test_client().get("/").text
    assert "&lt;i&gt;hello&lt;/i&gt;" in page
