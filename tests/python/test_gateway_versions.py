"""Versions of an app behind the gateway: each a component with an app of its own, and App Engine's addresses."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from appxmpp.errors import ServiceError
from appxmpp.gateway_backend import open_backend

from support.gateway import Answer, Gateway, basic, binary
from support.server import Server
from support.servers import KINDS
from support.user import User
from support.waiting import until
from support.webapp import WebApp

pytestmark = pytest.mark.servers

DEFAULT, BETA = "myapp.localhost", "beta.latest.myapp.localhost"
SECRETS = {DEFAULT: "s3cret", BETA: "b3ta"}
CHAT = "/_ah/xmpp/message/chat/"


@pytest.fixture(scope="module", params=list(KINDS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if why := KINDS[request.param].missing():
        pytest.fail(why, pytrace=False)
    with KINDS[request.param](SECRETS) as running:
        yield running


class Versions:
    """The gateway, and the web app of each version."""

    def __init__(self, server: Server, folder: Path, stack: ExitStack, **keys: Any) -> None:
        self._server = server
        self.web, self.beta = (stack.enter_context(WebApp(secret)) for secret in SECRETS.values())
        self.keys = keys
        self.store = {"url": f"sqlite:{folder}/state.db"}
        self.gateway = stack.enter_context(Gateway(self.apps(), store=self.store)).wait_ready()

    def apps(self, **beta: Any) -> list[dict[str, Any]]:
        def app(domain: str, **keys: Any) -> dict[str, Any]:
            backend = self._server.backend(domain)
            return {"id": "myapp", "backend": backend, "secret": SECRETS[domain], **self.keys, **keys}

        return [app(DEFAULT, url=self.web.url), app(BETA, version="beta", **{"url": self.beta.url, **beta})]

    def api(self, domain: str) -> Any:
        """App Engine's API as a worker of that version uses it."""
        return open_backend(f"http://{domain}:{SECRETS[domain]}@127.0.0.1:{self.gateway.port}/")

    def rest(self, domain: str, host: str | None = None, **stanza: str) -> Answer:
        headers = {"Authorization": basic(domain, SECRETS[domain]), "Content-Type": "application/json"}
        if host:
            headers["Host"] = host
        return self.gateway.request("POST", "/rest", json.dumps({"kind": "message", **stanza}), headers)

    def run(self, *arguments: str) -> str:
        """What the command prints, told the gateway's configuration."""
        command = [binary(), *arguments, "--config", str(self.gateway.config)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def versions(server: Server, tmp_path: Path) -> Iterator[Callable[..., Versions]]:
    with ExitStack() as stack:
        yield lambda **keys: Versions(server, tmp_path, stack, **keys)


def chat(web: WebApp, body: str) -> dict[str, str]:
    _, fields, _ = web.forms.wait(lambda form: form[0] == CHAT and form[1]["body"] == body)
    return fields


def test_each_version_gets_its_own_and_answers_as_itself(
    versions: Callable[..., Versions], user: Callable[..., User]
) -> None:
    both, alice = versions(), user()
    alice.message(f"anything@{BETA}", "to beta")
    alice.message(f"anything@{DEFAULT}/desk", "to the default one")
    fields = chat(both.beta, "to beta")
    assert (fields["from"], fields["to"]) == (alice.jid, f"anything@{BETA}")
    assert chat(both.web, "to the default one")["to"] == f"anything@{DEFAULT}/desk"
    assert not both.beta.forms.peek()
    assert not both.web.forms.peek()

    send = both.api(BETA).send_message
    for sender, shown in [
        (fields["to"], f"anything@{BETA}/bot"),
        (None, f"myapp@{BETA}/bot"),
        # The app's own address, as it is written in the code of every version.
        ("myapp@appspot.com", f"myapp@{BETA}/bot"),
        (f"desk@{DEFAULT}/r", f"desk@{BETA}/r"),
        ("desk@beta.latest.myapp.appspotchat.com/r", f"desk@{BETA}/r"),
    ]:
        assert send([alice.jid], f"from {sender}", sender, "chat", False) == [0]
        alice.expect("message", from_=shown, body=f"from {sender}")
    assert both.api(DEFAULT).send_message([alice.jid], "default", "myapp@appspot.com", "chat", False) == [0]
    alice.expect("message", from_=f"myapp@{DEFAULT}/bot", body="default")


def test_only_the_version_sends_from_its_addresses(
    versions: Callable[..., Versions], user: Callable[..., User]
) -> None:
    both, alice = versions(), user()
    for one, other in [(DEFAULT, f"a@{BETA}"), (BETA, "a@old.latest.myapp.localhost")]:
        with pytest.raises(ServiceError):
            both.api(one).send_message([alice.jid], "x", other, "chat", False)
        refused = both.rest(one, one, to=alice.jid, body="x", **{"from": other})
        assert refused.status == 403, refused.body
    # Whom a request speaks for, its Host says, and its credentials have to be that version's.
    assert both.rest(DEFAULT, BETA, to=alice.jid, body="x").status == 403
    assert both.rest(BETA, BETA, to=alice.jid, body="of beta", **{"from": f"a@{BETA}/r"}).status == 202
    alice.expect("message", from_=f"a@{BETA}/r", body="of beta")
    # Any other host is the default version's, as if there were no other.
    assert both.rest(BETA, to=alice.jid, body="x").status == 403
    assert both.rest(DEFAULT, to=alice.jid, body="of the default one").status == 202
    alice.expect("message", from_=DEFAULT, body="of the default one")


def test_what_a_version_knows_of_a_contact_is_its_own(
    versions: Callable[..., Versions], user: Callable[..., User]
) -> None:
    both, alice = versions(), user()
    alice.befriend(f"myapp@{BETA}")
    until(lambda: both.api(BETA).get_presence([alice.bare], None)[0][0], what="alice's presence")
    assert both.api(DEFAULT).get_presence([alice.bare], None)[0][0] is False


def test_the_app_sees_the_addresses_it_had_on_app_engine(
    versions: Callable[..., Versions], user: Callable[..., User]
) -> None:
    both, alice = versions(addresses="appengine"), user()
    for domain, web, real, shown in [
        (DEFAULT, both.web, f"myapp@{DEFAULT}", "myapp@appspot.com"),
        (DEFAULT, both.web, f"news@{DEFAULT}/desk", "news@myapp.appspotchat.com/desk"),
        (BETA, both.beta, f"news@{BETA}/desk", "news@beta.latest.myapp.appspotchat.com/desk"),
    ]:
        alice.message(real, f"to {real}")
        fields = chat(web, f"to {real}")
        assert (fields["from"], fields["to"]) == (alice.jid, shown)
        full = real if "/" in real else f"{real}/bot"
        assert both.api(domain).send_message([fields["from"]], f"reply as {shown}", fields["to"], "chat", False) == [0]
        alice.expect("message", from_=full, body=f"reply as {shown}")
        # The same over mod_rest's interface, whose senders have the resource they are given.
        assert both.rest(domain, domain, to=alice.jid, body=f"rest as {shown}", **{"from": shown}).status == 202
        alice.expect("message", from_=real, body=f"rest as {shown}")
    refused = both.rest(DEFAULT, DEFAULT, to=alice.jid, body="x", **{"from": "news@other.appspotchat.com"})
    assert refused.status == 403
    # A version reaches the default one by the name that it had.
    both.api(BETA).send_message(["myapp@appspot.com"], "from beta", None, "chat", False)
    assert chat(both.web, "from beta")["from"] == f"myapp@{BETA}/bot"


def test_an_operator_tells_them_apart(versions: Callable[..., Versions], user: Callable[..., User]) -> None:
    both, alice = versions(addresses="appengine"), user()
    ready = both.gateway.request("GET", "/readyz").body.decode()
    assert ready == "myapp: ready\nbeta.latest.myapp: ready\n"
    metrics = both.gateway.metrics()
    for name in ("myapp", "beta.latest.myapp"):
        assert f'appxmpp_stream_up{{app="{name}"}} 1' in metrics
    checked = both.run("check")
    assert f"app beta.latest.myapp: {BETA} through" in checked
    assert "addresses as on App Engine: anything@beta.latest.myapp.appspotchat.com" in checked
    for app, domain in [(["--app", "beta.latest.myapp"], BETA), ([], DEFAULT), (["--app", "myapp"], DEFAULT)]:
        assert "sent" in both.run("send", *app, "--body", f"by {app}", alice.jid)
        alice.expect("message", from_=f"myapp@{domain}/bot", body=f"by {app}")
    assert both.run("deadletters", "list", "--app", "beta.latest.myapp") == ""
    # It logs in itself, and Prosody lets one in at a time.
    both.gateway.process.stop(30)
    found = both.run("doctor")
    assert "app beta.latest.myapp\n  ok " in found
    assert f"the server accepts {BETA}" in found


def test_a_version_is_reloaded_for_itself(versions: Callable[..., Versions], user: Callable[..., User]) -> None:
    both, alice = versions(), user()
    with WebApp(SECRETS[BETA]) as moved:
        both.gateway.configure(both.apps(url=moved.url, addresses="appengine"), store=both.store)
        both.gateway.process.signal(signal.SIGHUP)
        both.gateway.process.wait_for_line("restart applies it: addresses", r"reloaded: url.*beta\.latest\.myapp")
        alice.message(f"a@{BETA}", "after the move")
        assert chat(moved, "after the move")["to"] == f"a@{BETA}"
