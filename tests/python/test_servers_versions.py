"""A version of an app that holds its own connection, and App Engine's addresses: `appxmpp run`, `App`, the API."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from appxmpp import _native, backend
from appxmpp.errors import ConfigError, ServiceError

from support.bot import APPS, Bot
from support.server import Server
from support.servers import KINDS
from support.user import User

pytestmark = pytest.mark.servers

DEFAULT, BETA = "myapp.localhost", "beta.latest.myapp.localhost"
CHAT = "/_ah/xmpp/message/chat/"
ADDRESSES = {"APPXMPP_ADDRESSES": "appengine"}


@pytest.fixture(scope="module", params=list(KINDS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if why := KINDS[request.param].missing():
        pytest.fail(why, pytrace=False)
    with KINDS[request.param]({DEFAULT: "s3cret", BETA: "b3ta"}) as running:
        yield running


@pytest.fixture
def beta_app(tmp_path: Path) -> Path:
    """The app `everything`, whose app.yaml says `version: beta`."""
    folder = shutil.copytree(APPS / "everything", tmp_path / "app")
    config = folder / "app.yaml"
    config.write_text(config.read_text().replace("version: 1", "version: beta"))
    return folder


def test_each_version_runs_its_own_app_and_replies_as_itself(
    server: Server, user: Callable[..., User], beta_app: Path
) -> None:
    with Bot(server) as default, Bot(server, beta_app, domain=BETA) as beta:
        alice = user()
        for bot, domain in [(default, DEFAULT), (beta, BETA)]:
            alice.message(f"anything@{domain}", f"to {domain}")
            assert bot.expect(CHAT, body=f"to {domain}").fields["to"] == f"anything@{domain}"
            alice.expect("message", from_bare=f"anything@{domain}", body=f"echo: to {domain}")
            # The same line of code in either.
            bot.call("send_message", alice.jid, f"by {domain}", "myapp@appspot.com")
            alice.expect("message", from_=f"myapp@{domain}/bot", body=f"by {domain}")
        assert not default.recorder.deliveries.peek()
        assert not beta.recorder.deliveries.peek()


def test_an_option_comes_before_what_the_file_says(server: Server, user: Callable[..., User]) -> None:
    alice = user()
    # Its app.yaml says `version: 1`.
    with Bot(server, domain=BETA, env={"APPXMPP_APP_VERSION": "beta", **ADDRESSES}) as beta:
        alice.message(f"news@{BETA}/desk", "hello")
        shown = beta.expect(CHAT, body="hello").fields["to"]
        assert shown == "news@beta.latest.myapp.appspotchat.com/desk"
        # The app's reply, from what it saw.
        alice.expect("message", from_=f"news@{BETA}/desk", body="echo: hello")
    with Bot(server, env={"APPXMPP_APP_VERSION": "beta"}, wait=False) as wrong:
        assert wrong.process.wait() == 78
        assert f"must be called beta.latest.DOMAIN, not {DEFAULT}" in wrong.logs()


def test_the_app_sees_the_addresses_it_had_on_app_engine(server: Server, user: Callable[..., User]) -> None:
    alice = user()
    with Bot(server, env=ADDRESSES) as bot:
        for real, shown in [
            (f"myapp@{DEFAULT}", "myapp@appspot.com"),
            (f"news@{DEFAULT}/desk", "news@myapp.appspotchat.com/desk"),
        ]:
            alice.message(real, f"to {real}")
            fields = bot.expect(CHAT, body=f"to {real}").fields
            assert (fields["from"], fields["to"]) == (alice.jid, shown)
            full = real if "/" in real else f"{real}/bot"
            alice.expect("message", from_=full, body=f"echo: to {real}")
        alice.presence(to=f"myapp@{DEFAULT}", type_="subscribe")
        assert bot.expect("/_ah/xmpp/subscription/subscribe/").fields["to"] == "myapp@appspot.com"


def test_a_worker_with_its_own_connection_can_be_a_version(server: Server, user: Callable[..., User]) -> None:
    alice = user()
    environ = {
        "APPXMPP_BACKEND": server.backend(BETA),
        "APPXMPP_SECRET": "b3ta",
        "APPXMPP_APP_ID": "myapp",
        "APPXMPP_APP_VERSION": "beta",
    }
    embedded = backend.from_environment(environ)
    try:
        assert embedded.send_message([alice.jid], "beta here", f"myapp@{DEFAULT}", "chat", False) == [0]
        alice.expect("message", from_=f"myapp@{BETA}/bot", body="beta here")
        with pytest.raises(ServiceError):
            embedded.send_message([alice.jid], "x", "a@old.latest.myapp.localhost", "chat", False)
    finally:
        embedded.close()


def test_what_cannot_be_is_said(server: Server) -> None:
    for told, words in [
        ({"version": "beta"}, "must be called beta.latest.DOMAIN"),
        ({"version": "a.b"}, "must be called a.b.latest.DOMAIN"),
        ({"addresses": "gae"}, '"appengine" for APP_ID@appspot.com'),
    ]:
        with pytest.raises(ConfigError, match=words):
            _native.App(server.backend(DEFAULT), secret="s3cret", **told)
    with pytest.raises(ConfigError, match="is one address and cannot be the version"):
        _native.App(server.account_backend("bot@localhost"), secret="x", version="beta")
