"""An app with an ordinary account, and components behind TLS: with real servers, clients and certificates."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import certs
from support.bot import Bot, ServiceFailure
from support.gateway import Callback, Gateway, basic
from support.prosody import Prosody
from support.proxy import Proxy
from support.server import Account, Server
from support.terminator import Terminator
from support.user import User
from support.waiting import until

pytestmark = pytest.mark.servers

MakeUser = Callable[..., User]
CHAT = "/_ah/xmpp/message/chat/"
NO_ERROR = 0
REFUSED, CONFIG = 77, 78


@dataclass
class Accounts:
    """Starts apps that have an account of their own."""

    server: Server
    stack: ExitStack

    def backend(self, account: Account, port: int | None = None, **options: str) -> str:
        trusted = {} if {"ca", "pin", "tls"} & options.keys() else {"ca": str(self.server.certificate.certificate)}
        return self.server.account_backend(account.jid, port, **trusted, **options)

    def start(self, account: Account | None = None, *, secret: str | None = None, **options: Any) -> Bot:
        account = account or self.server.account("bot")
        wait, port = options.pop("wait", True), options.pop("port", None)
        told = {
            "APPXMPP_BACKEND": self.backend(account, port, **options),
            "APPXMPP_SECRET": secret or account.password,
        }
        bot = self.stack.enter_context(Bot(None, domain=self.server.domain, env=told, wait=wait))
        bot.jid = account.jid
        if wait:
            until(lambda: self.server.delivers_to(account), what="that the server knows it is available")
        return bot


@pytest.fixture
def accounts(server: Server) -> Iterator[Accounts]:
    with ExitStack() as stack:
        yield Accounts(server, stack)


def ends(bot: Bot, status: int, *words: str) -> None:
    """The app ends by itself, with this status, and says why in one place."""
    assert bot.process.wait(timeout=60) == status, bot.logs()
    for word in words:
        assert word in bot.logs()
    assert bot.environment["APPXMPP_SECRET"] not in bot.logs()


@pytest.mark.parametrize("tls", ["starttls", "direct"])
def test_the_same_handlers_answer_over_an_account(accounts: Accounts, user: MakeUser, tls: str) -> None:
    ca = str(accounts.server.certificate.certificate)
    alice, bot = user(), accounts.start(tls=tls, ca=ca)
    alice.message(bot.jid, "hello <there> & 'you' 漢字")
    answer = alice.expect("message", from_bare=bot.jid)
    assert (answer.body, answer.type) == ("echo: hello <there> & 'you' 漢字", "chat")
    delivery = bot.expect(CHAT, from_=alice.jid)
    assert delivery.fields["to"].partition("/")[0] == bot.jid
    assert "<cli:body>" in delivery.fields["stanza"]


def test_towards_this_machine_it_need_not_be_encrypted(accounts: Accounts, user: MakeUser) -> None:
    alice, bot = user(), accounts.start(tls="none")
    assert bot.call("send_message", alice.jid, "in the clear") == NO_ERROR
    assert alice.expect("message", from_bare=bot.jid).body == "in the clear"


def test_who_asks_is_accepted_and_asked_back_and_seen(accounts: Accounts, user: MakeUser) -> None:
    alice, bot = user(), accounts.start()
    assert bot.call("get_presence", alice.bare) is False
    alice.befriend(bot.jid)
    until(lambda: bot.call("get_presence", alice.bare), what="alice's presence")
    alice.presence(show="away")
    bot.expect("/_ah/xmpp/presence/available/", from_=alice.jid, show="away")
    alice.disconnect()
    until(lambda: not bot.call("get_presence", alice.bare), what="that alice is gone")


def test_the_roster_is_the_server_s(accounts: Accounts, user: MakeUser) -> None:
    account = accounts.server.account("bot")
    alice, bot = user(), accounts.start(account)
    alice.befriend(bot.jid)
    until(lambda: bot.call("get_presence", alice.bare), what="alice's presence")
    assert bot.stop() == 0
    alice.expect("presence", from_bare=bot.jid, type_="unavailable")
    # Another machine, with no state of its own.
    elsewhere = accounts.start(account)
    until(lambda: elsewhere.call("get_presence", alice.bare), what="alice's presence, without a new request")
    alice.expect("presence", from_bare=bot.jid, type_=None)


def test_an_invitation_is_the_account_s(accounts: Accounts, user: MakeUser) -> None:
    alice, bot = user(), accounts.start()
    bot.call("send_invite", alice.bare)
    assert alice.expect("presence", type_="subscribe").bare == bot.jid
    alice.presence(to=bot.jid, type_="subscribed")
    until(lambda: bot.call("get_presence", alice.bare), what="alice's presence")


def test_presence_for_one_contact_is_told_to_that_one(accounts: Accounts, user: MakeUser) -> None:
    alice, bot = user(), accounts.start()
    bot.call("send_presence", alice.jid, status="busy with <you>", presence_show="dnd")
    told = alice.expect("presence", from_bare=bot.jid)
    assert (told.show, told.status) == ("dnd", "busy with <you>")


@pytest.mark.parametrize("from_jid", ["sales@localhost", "localhost", "user@example.org", "any@myapp.appspotchat.com"])
def test_an_account_cannot_send_as_somebody_else(accounts: Accounts, user: MakeUser, from_jid: str) -> None:
    alice, bot = user(), accounts.start()
    with pytest.raises(ServiceFailure) as refused:
        bot.call("send_message", alice.jid, "forged", from_jid=from_jid)
    assert refused.value.kind == "InvalidJidError"
    assert bot.call("send_message", alice.jid, "genuine", from_jid=bot.jid + "/anything") == NO_ERROR
    assert alice.expect("message", from_bare=bot.jid).body == "genuine"


def test_a_wrong_password_is_an_end_and_not_a_loop(accounts: Accounts) -> None:
    with Proxy(accounts.server.c2s_port) as proxy:
        bot = accounts.start(secret="not-the-password", port=proxy.port, wait=False)
        ends(bot, REFUSED, "refused the log-in", "not-authorized")
        assert proxy.accepted == 1


class PlainProsody(Prosody):
    """One that knows no SCRAM."""

    def _configure(self) -> None:
        super()._configure()
        scram = 'disable_sasl_mechanisms = { "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS" }'
        self._config.write_text(f"{scram}\n{self._config.read_text()}")


def test_the_password_itself_is_sent_only_where_that_is_allowed() -> None:
    with PlainProsody() as server, ExitStack() as stack:
        accounts, alice = Accounts(server, stack), stack.enter_context(User(server, tls=True))
        ca = str(server.certificate.certificate)
        ends(accounts.start(wait=False), CONFIG, "offers: PLAIN", "PLAIN where TLS is used")
        ends(accounts.start(tls="none", wait=False), CONFIG, "offers: PLAIN")
        bot = accounts.start(ca=ca, plain="yes")
        assert bot.call("send_message", alice.jid, "plain") == NO_ERROR
        assert alice.expect("message", from_bare=bot.jid).body == "plain"


def test_a_certificate_that_nobody_vouches_for_is_an_end(accounts: Accounts) -> None:
    account = accounts.server.account("bot")
    bot = accounts.start(account, tls="starttls", wait=False)
    ends(bot, CONFIG, "issued by nobody who is trusted here", "ca=FILE")


@pytest.mark.parametrize("of", [certs.fingerprint, certs.key_fingerprint])
def test_a_pinned_certificate_needs_nobody_to_vouch(
    accounts: Accounts, user: MakeUser, of: Callable[[Path], str]
) -> None:
    pin = of(accounts.server.certificate.certificate)
    alice, bot = user(), accounts.start(pin=pin)
    assert bot.call("send_message", alice.jid, "pinned") == NO_ERROR
    assert alice.expect("message", from_bare=bot.jid).body == "pinned"
    wrong = accounts.start(pin="00" * 32, wait=False)
    ends(
        wrong,
        CONFIG,
        "not the pinned one",
        certs.fingerprint(accounts.server.certificate.certificate).replace(":", "").lower(),
    )


@pytest.mark.parametrize(
    ("name", "days", "trusted", "says"),
    [
        ("localhost", 30, True, None),
        ("localhost", -1, True, "has expired"),
        ("elsewhere.example", 30, True, "is not for localhost"),
        ("localhost", 30, False, "issued by nobody"),
    ],
)
def test_certificates_are_looked_at(
    accounts: Accounts, tmp_path: Path, name: str, days: int, trusted: bool, says: str | None
) -> None:
    authority, other = certs.Authority(tmp_path), certs.Authority(tmp_path, "other")
    with Terminator(accounts.server.c2s_port, authority.issue(f"DNS:{name}", days)) as front:
        ca = str((authority if trusted else other).certificate)
        bot = accounts.start(port=front.port, tls="direct", ca=ca, wait=says is None)
        if says:
            ends(bot, CONFIG, says)
            assert front.accepted == 0, "nothing was said"


def test_a_session_goes_on_after_a_cut(accounts: Accounts, user: MakeUser) -> None:
    alice = user()
    with Proxy(accounts.server.c2s_port) as proxy:
        bot = accounts.start(port=proxy.port)
        alice.befriend(bot.jid)
        until(lambda: bot.call("get_presence", alice.bare), what="alice's presence")
        alice.expect("presence", from_bare=bot.jid, type_=None)
        for turn in range(3):
            proxy.refuse()
            for number in range(20):
                alice.message(bot.jid, f"{turn}-{number}")
            proxy.accept()
            answers = alice.received.take(20, lambda it: it.kind == "message", timeout=60)
            assert [it.body for it in answers] == [f"echo: {turn}-{number}" for number in range(20)], (
                "each once, in order"
            )
        assert proxy.accepted == 4
    gone = [
        it
        for it in alice.received.peek()
        if it.kind == "presence" and it.type == "unavailable" and "/" in str(it.from_)
    ]
    assert not gone, [str(it) for it in gone]


def test_what_a_client_may_send_does_not_end_an_account_s_stream(accounts: Accounts, user: MakeUser) -> None:
    alice, bot = user(), accounts.start()
    to = f"to='{bot.jid}'"
    alice.raw(f"<message {to} type='foo'><body>odd</body><thread>a</thread><thread>b</thread>text</message>")
    alice.raw(f"<presence {to}><priority>300</priority><show>online</show></presence>")
    alice.raw(f"<message {to}><x xmlns='urn:x' a='{'x' * 9000}'/><body>long</body></message>")
    alice.raw(f"<message {to}>{'<a>' * 3000}{'</a>' * 3000}</message>")
    alice.message(bot.jid, "still there?")
    assert alice.expect("message", body="echo: still there?")
    for body in ("odd", "long"):
        assert alice.expect("message", body=f"echo: {body}")


def test_a_gateway_has_an_account_too(accounts: Accounts, user: MakeUser) -> None:
    account, alice = accounts.server.account("bot"), user()
    with Callback() as hook:
        app = {"backend": accounts.backend(account), "secret": account.password, "url": hook.url}
        with Gateway([app]) as gateway:
            gateway.wait_ready()
            who = {"Authorization": basic(account.jid, account.password), "Content-Type": "application/json"}

            def post(**message: str) -> int:
                return gateway.request("POST", "/rest", json.dumps({"kind": "message", **message}), who).status

            assert post(to=alice.jid, body="from a gateway") in (200, 202)
            assert alice.expect("message", from_bare=account.jid).body == "from a gateway"
            assert post(to=alice.jid, body="forged", **{"from": "sales@localhost"}) == 403
            answer = gateway.request("GET", "/rest/ping/localhost", headers=who)
            assert answer.status == 200, answer.body
            alice.message(account.jid, "to a gateway")
            asked = hook.posts.wait(lambda it: it.path == CHAT)
            assert b"to a gateway" in asked.body


@pytest.fixture
def component_tls_port(server: Server) -> Iterator[int]:
    """Where the server takes components with TLS: Prosody by somebody in front of it."""
    if isinstance(server, Prosody):
        with Terminator(server.component_port, server.certificate) as front:
            yield front.port
    else:
        yield server.component_tls_port


def test_a_component_behind_tls(server: Server, user: MakeUser, component_tls_port: int) -> None:
    ca = server.certificate.certificate
    alice, domain = user(), "second.localhost"
    told = {"APPXMPP_BACKEND": f"component+tls://{domain}@127.0.0.1:{component_tls_port}?ca={ca}"}
    with Bot(server, domain=domain, env=told) as bot:
        assert bot.call("send_message", alice.jid, "encrypted") == NO_ERROR
        assert alice.expect("message", from_bare=bot.jid).body == "encrypted"
        alice.message(bot.jid, "x" * 60_000)
        assert alice.expect("message", from_bare=bot.jid, timeout=60).body == "echo: " + "x" * 60_000
    told["APPXMPP_BACKEND"] = f"component+tls://{domain}@127.0.0.1:{component_tls_port}"
    with Bot(server, domain=domain, env=told, wait=False) as bot:
        ends(bot, CONFIG, "issued by nobody who is trusted here")
    told["APPXMPP_BACKEND"] += f"?name=elsewhere.example&ca={ca}"
    with Bot(server, domain=domain, env=told, wait=False) as bot:
        ends(bot, CONFIG, "is not for elsewhere.example")
