"""Servers that go and come back, networks that break, and bots that are stopped: with real servers and clients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.bot import Bot, ServiceFailure
from support.component import EchoComponent
from support.proxy import TO_CLIENT, TO_SERVER, Proxy
from support.server import Server
from support.servers import KINDS
from support.user import User
from support.waiting import until

pytestmark = pytest.mark.servers

MakeUser = Callable[..., User]
CHAT = "/_ah/xmpp/message/chat/"


def answers(alice: User, bot: Bot) -> None:
    """Waits until the bot answers; what is written to it before that may be lost with the connection."""

    def asked() -> bool:
        alice.message(bot.jid, "are you back?")
        try:
            return bool(alice.expect("message", body="echo: are you back?", timeout=1))
        except AssertionError:
            return False

    until(asked, timeout=60, what="an answer from the bot")


class Load:
    """Messages in both directions for as long as it runs; what the server refuses meanwhile is expected."""

    def __init__(self, bot: Bot, people: list[User]) -> None:
        self._over = threading.Event()
        self.statuses: list[int] = []
        self._threads = [
            threading.Thread(target=self._write, args=(bot, people)),
            threading.Thread(target=self._send, args=(bot, [person.bare for person in people])),
        ]

    def _write(self, bot: Bot, people: list[User]) -> None:
        while not self._over.is_set():
            for person in people:
                try:
                    person.message(bot.jid, "under load")
                except ConnectionError:
                    return  # logged out with the server
            self._over.wait(0.002)

    def _send(self, bot: Bot, recipients: list[str]) -> None:
        while not self._over.is_set():
            try:
                self.statuses += bot.call("send_message", recipients, "from the app")
            except ServiceFailure as failure:
                raise AssertionError("send_message must not raise for a lost connection") from failure

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.statuses) > 20, what="load")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_server_is_restarted_under_load(own_server: Server, end: str) -> None:
    people = [User(own_server) for _ in range(3)]
    with Bot(own_server) as bot:
        for person in people:
            person.connect()
            person.befriend(bot.jid)
            until(lambda who=person: bot.call("get_presence", who.bare), what=person.bare)  # type: ignore[misc]
        with Load(bot, people) as load:
            getattr(own_server, end)()
            until(lambda: 2 in load.statuses, what="OTHER_ERROR while the server is away")
            own_server.start()
        assert bot.process.running()
        alice, bob, carol = people
        for person in (alice, bob):
            person.cut()
            person.received.clear()
            person.connect()
        answers(alice, bot)
        assert alice.expect("presence", from_bare=bot.jid, type_=None), "the bot is there for its contacts"
        for person in (alice, bob):
            until(lambda who=person: bot.call("get_presence", who.bare) is True, what=f"{person.bare} is back")  # type: ignore[misc]
        until(lambda: bot.call("get_presence", carol.bare) is False, what=f"{carol.bare} did not come back")
        bob.presence(show="dnd")
        until(lambda: bot.call("get_presence", bob.bare, get_show=True) == [True, "dnd"], what="dnd of bob")
        alice.disconnect()
        bob.disconnect()


def test_the_network_is_cut_and_mended(server: Server, user: MakeUser) -> None:
    alice = user()
    with Proxy(server.component_port) as proxy, Bot(server, domain="second.localhost", port=proxy.port) as bot:
        for _ in range(3):
            proxy.cut()
            answers(alice, bot)
        proxy.refuse()
        until(lambda: bot.call("send_message", alice.jid, "into the void", f"x@{bot.domain}") == 2, what="OTHER_ERROR")
        proxy.accept()
        answers(alice, bot)


@pytest.mark.timeout(300)
def test_long_silence_and_a_network_that_swallows_everything() -> None:
    """After a minute without a word the stream is kept where the server answers, and given up where it does not."""
    with ExitStack() as stack:
        silent, swallowed = [], []
        for kind in KINDS.values():
            if why := kind.missing():
                pytest.fail(why)
            server = stack.enter_context(kind())
            for domain, where in (("myapp.localhost", silent), ("second.localhost", swallowed)):
                proxy = stack.enter_context(Proxy(server.component_port))
                bot = stack.enter_context(Bot(server, domain=domain, port=proxy.port))
                where.append((server, proxy, bot))
        before = [dict(proxy.passed) for _, proxy, _ in silent]
        for _, proxy, _ in swallowed:
            proxy.block()
        for (server, proxy, _), passed in zip(silent, before, strict=True):
            until(
                lambda p=proxy, n=passed: p.passed[TO_SERVER] > n[TO_SERVER],
                120,
                what=f"a sign of life to {server.kind}",
            )
            until(lambda p=proxy, n=passed: p.passed[TO_CLIENT] > n[TO_CLIENT], 20, what=f"the answer of {server.kind}")
        for server, proxy, _ in swallowed:
            until(lambda p=proxy: p.accepted > 1, 120, what=f"a new connection to {server.kind}")
            proxy.mend()
        for server, _, bot in [*silent, *swallowed]:
            with User(server) as alice:
                answers(alice, bot)
        assert [proxy.accepted for _, proxy, _ in silent] == [1] * len(silent), (
            "silence alone is no reason to reconnect"
        )


def test_the_bot_is_started_before_the_server(server: Server, user: MakeUser) -> None:
    alice = user()
    with Proxy(server.component_port) as proxy:
        proxy.refuse()
        with Bot(server, domain="second.localhost", port=proxy.port, wait=False) as bot:
            bot.process.wait_for_line(r"(?i)refused")
            proxy.accept()
            bot.wait_connected()
            answers(alice, bot)


def test_another_connection_holds_the_domain(server: Server, user: MakeUser) -> None:
    alice, domain = user(), "second.localhost"
    with EchoComponent(server, domain), Bot(server, domain=domain, wait=False) as bot:
        if server.kind == "prosody":  # ejabberd takes both
            bot.process.wait_for_line(r"conflict")
            assert bot.process.running()
            alice.message(bot.jid, "who holds it?")
            assert alice.expect("message", from_bare=bot.jid).body == "who holds it?"
        else:
            bot.wait_connected()
    with Bot(server, domain=domain) as bot:
        answers(alice, bot)


def test_the_second_bot_takes_over(server: Server, user: MakeUser) -> None:
    if server.kind == "ejabberd":
        return  # it takes both connections at once
    alice, domain = user(), "second.localhost"
    with Bot(server, domain=domain) as first, Bot(server, domain=domain, wait=False) as second:
        second.process.wait_for_line(r"conflict")
        answers(alice, first)
        first.stop()
        second.wait_connected()
        answers(alice, second)


def test_a_wrong_secret_ends_with_77_and_does_not_show_it(server: Server) -> None:
    with Bot(server, secret="not-the-s3cret-at-all", wait=False) as bot:
        assert bot.process.wait(60) == 77
        output = bot.logs()
        assert "not-authorized" in output
        assert "myapp.localhost" in output
        assert "not-the-s3cret-at-all" not in output


def test_the_secret_is_not_in_the_process_list(bot: Bot, server: Server) -> None:
    assert server.components[bot.domain].encode() not in Path(f"/proc/{bot.process.pid}/cmdline").read_bytes()
    assert server.components[bot.domain] not in bot.process.all_output()


@pytest.mark.parametrize("end", ["stop", "interrupt"])
def test_a_clean_end(server: Server, user: MakeUser, end: str) -> None:
    """Deliveries are finished, contacts are told, the exit status is 0."""
    alice = user()
    with Bot(server, domain="second.localhost") as bot:
        alice.befriend(bot.jid)
        alice.expect("presence", from_bare=bot.jid, type_=None)
        for number in range(10):
            alice.message(bot.jid, f"before the end {number}")
        bot.expect(CHAT, body="before the end 0")
        alice.barrier()
        assert getattr(bot, end)() == 0
        delivered = {"before the end 0"} | {d.fields["body"] for d in bot.recorder.deliveries if d.path == CHAT}
        for body in sorted(delivered):
            assert alice.expect("message", body=f"echo: {body}"), "what was begun was finished"
        assert alice.expect("presence", from_bare=bot.jid, type_="unavailable")
        assert "Traceback" not in bot.logs()


def test_subscriptions_survive_a_restart_of_the_bot(server: Server, user: MakeUser) -> None:
    alice = user()
    with Bot(server, domain="second.localhost") as bot:
        alice.befriend(bot.jid)
        alice.presence(show="away")
        until(lambda: bot.call("get_presence", alice.bare, get_show=True) == [True, "away"], what="away")
        for end in (bot.stop, bot.kill):
            end()
            alice.presence(show="xa")
            alice.barrier()
            bot.start()
            until(
                lambda: bot.call("get_presence", alice.bare, get_show=True) == [True, "xa"], what="xa after the restart"
            )
            alice.presence(show="away")
            until(lambda: bot.call("get_presence", alice.bare, get_show=True) == [True, "away"], what="away")
