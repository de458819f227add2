"""What POST /rest says of a message that the server bounces, and how soon it says that nothing was bounced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.ejabberd import Ejabberd
from support.gateway import Answer, Callback, Gateway, Phone, basic, parse
from support.server import Server
from support.waiting import PATIENCE

pytestmark = pytest.mark.servers

#: A request that really waited for so long would fail.
FOR_EVER = int(PATIENCE * 1000 * 3)
WAYS = ["stream", "strict", "outbox", "account"]


@dataclass
class Sender:
    """Whoever posts messages to a gateway."""

    gateway: Gateway
    user: str = "myapp.localhost"
    secret: str = "s3cret"

    def post(self, to: str, type_: str = "chat", kind: str = "message") -> Answer:
        inner = "<body>x</body>" if kind == "message" else ""
        headers = {
            "Host": self.user.rpartition("@")[2],
            "Authorization": basic(self.user, self.secret),
            "Content-Type": "application/xmpp+xml",
        }
        return self.gateway.request("POST", "/rest", f"<{kind} to='{to}' type='{type_}'>{inner}</{kind}>", headers)


@pytest.fixture(params=WAYS)
def sender(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[Sender]:
    backend, who = server.backend(), ("myapp.localhost", "s3cret")
    if request.param == "account":
        account = server.account("bouncing")
        backend, who = server.account_backend(account.jid, tls="none"), (account.jid, account.password)
    app: dict[str, Any] = {"backend": backend, "secret": who[1], "bounce_wait_ms": FOR_EVER}
    app["strict_mod_rest"] = request.param == "strict"
    url = f"sqlite:{tmp_path}/state.db" if request.param == "outbox" else "memory:"
    with Gateway([app], store={"url": url}) as gateway:
        yield Sender(gateway.wait_ready(), *who)


def test_what_arrives_is_answered_as_soon_as_it_cannot_be_bounced(sender: Sender, server: Server) -> None:
    with ExitStack() as stack:
        phones = [stack.enter_context(Phone(server, server.account("soon"))) for _ in range(5)]
        for phone in phones:
            assert sender.post(phone.bare).status == 202
            phone.heard.wait(lambda stanza: stanza.findtext("{jabber:client}body") == "x")
        assert sender.post(phones[0].bare, "unavailable", "presence").status == 202


@pytest.mark.parametrize(
    ("to", "type_", "kind"),
    [
        ("nobody@localhost", "chat", "message"),
        ("nobody@localhost", "normal", "message"),
        ("a@nowhere.example", "chat", "message"),
        ("bob@other.localhost", "chat", "message"),
        ("nobody@localhost", "bogus", "presence"),
    ],
)
def test_the_servers_own_bounce_is_in_the_answer(sender: Sender, to: str, type_: str, kind: str) -> None:
    for _ in range(2):
        answer = sender.post(to, type_, kind)
        assert answer.status == 200, (to, answer)
        bounce = parse(answer.body)
        assert (bounce.get("from"), bounce.get("type")) == (to, "error")


class Rooms(Ejabberd):
    """With chat rooms, each of which is a process: what it bounces comes behind what the server itself says."""

    def _configure(self) -> None:
        super()._configure()
        text = self._config.read_text()
        self._config.write_text(text.replace("  mod_roster", "  mod_muc: {}\n  mod_roster"))


def test_a_host_that_bounces_late_is_waited_for_from_then_on() -> None:
    with Rooms() as server, Callback() as callback:
        app = {"backend": server.backend(), "secret": "s3cret", "bounce_wait_ms": FOR_EVER}
        with Gateway([{**app, "callback_url": callback.url}]) as gateway:
            sender = Sender(gateway.wait_ready())
            if sender.post("first@conference.localhost", "groupchat").status == 202:
                assert b"error" in callback.posts.wait().body
                assert sender.post("second@conference.localhost", "groupchat").status == 200
            assert not callback.posts.peek()
