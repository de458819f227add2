"""One run: a gateway with a proxy to its server, the counting app, contacts and workers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import random
import re
import signal
import time
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from .. import aio, folders
from ..gateway import Gateway, binary
from ..postgres import Postgres
from ..proxy import Proxy
from ..server import Server
from ..waiting import until
from .app import CountingApp
from .contact import Contact
from .senders import Bot, Ledger, Worker, write
from .smalldisk import SmallDisk
from .tap import Recording
from .verdict import Book, Ends, Verdict

DOMAIN, SECRET = "faults.localhost", "s3cret"
#: Between the messages of one contact.
PAUSES = (0.004, 0.02)
#: Where the gateway keeps what waits.
FILE, SMALL_DISK, POSTGRES = "file", "small disk", "postgresql"
#: How the gateway is known to the server.
COMPONENT, ACCOUNT = "component", "account"
#: How long what was promised may take to arrive, once nothing is broken any more.
SETTLE = 30.0
_FAKETIME = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketimeMT.so.1")


class World:
    """A server and its contacts, for many runs."""

    def __init__(self, server: Server, contacts: int = 3) -> None:
        self.server = server
        self.contacts = [Contact(server, server.account("faults")) for _ in range(contacts)]
        self._tasks = [_spawn(contact.live()) for contact in self.contacts]
        self.wait_online()

    def wait_online(self) -> None:
        until(lambda: all(contact.online.is_set() for contact in self.contacts), what="the contacts' login")

    @functools.cached_property
    def postgres(self) -> Postgres:
        """A cluster, for runs whose store is there."""
        return Postgres()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if "postgres" in self.__dict__:
            self.postgres.close()


def _spawn(work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
    return asyncio.run_coroutine_threadsafe(work, aio.loop())


class Run:
    """Load in both directions, until it is told to end."""

    def __init__(
        self,
        world: World,
        name: str,
        dice: random.Random,
        *,
        store: str = FILE,
        role: str = COMPONENT,
        domain: str = DOMAIN,
        pauses: tuple[float, float] = PAUSES,
    ) -> None:
        """A contact writes after so many seconds of `pauses`."""
        self.world, self.name, self.dice, self._pauses = world, name, dice, pauses
        self.server = world.server
        self.bot = self._bot(role, domain)
        self.ends = Ends()
        self.ledger, self.recording = Ledger(), Recording()
        self.app = CountingApp(replies=dice.random() < 0.5)
        aio.run(self.app.start())
        self.proxy = Proxy(self.bot.server_port, tap=self.recording)
        self.folder = folders.folder("faults")
        self.disk = SmallDisk(self.folder) if store == SMALL_DISK else None
        self._store = world.postgres.database() if store == POSTGRES else f"sqlite:{self.folder}/state.db"
        self.clock = self.folder.with_suffix(".clock")
        self.book = Book(name, self.bot, self.ledger, world.contacts, self.app, self.recording)
        self._over = asyncio.Event()
        self._before: list[Gateway] = []
        self._load: list[concurrent.futures.Future[Any]] = []
        self.gateway = self._gateway()

    def _bot(self, role: str, domain: str) -> Bot:
        if role == COMPONENT:
            return Bot(
                f"bot@{domain}",
                f"bot@{domain}/bot",
                domain,
                SECRET,
                self.server.component_port,
                lambda port: self.server.backend(domain, port),
            )
        account = self.server.account("bot")
        return Bot(
            account.jid,
            f"{account.jid}/bot",
            account.jid,
            account.password,
            self.server.c2s_port,
            lambda port: self.server.account_backend(account.jid, port, tls="none"),
        )

    def _gateway(self) -> Gateway:
        app = {
            "id": "faults",
            "backend": self.bot.backend(self.proxy.port),
            "secret": self.bot.secret,
            "callback_url" if self.app.replies else "url": f"http://127.0.0.1:{self.app.port}",
            "webhook_timeout_seconds": 1,
            "webhook_pause_ms": 100,
            "webhook_longest_pause_seconds": 1,
            "keepalive_seconds": 1,
            # An account's server first hands out what it kept, and takes its time for that.
            "keepalive_timeout_seconds": 3 if self.bot.is_account else 1,
            "bounce_wait_ms": 0,
        }
        env = {"APPXMPP_STORE_URL": self._store, "APPXMPP_LOG_LEVEL": "info"}
        self.clock.write_text("+0\n")
        if _FAKETIME.exists():
            env |= {"LD_PRELOAD": str(_FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.clock)}
            env |= {"FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        # A limit of the size of files is to be an error, as a full disk is, and not the end.
        command = [*(self.disk.command if self.disk else []), "env", "--ignore-signal=XFSZ", binary()]
        return Gateway([app], env=env, command=command, drain_seconds=5)

    def start(self) -> None:
        self.gateway.wait_ready()
        self.world.wait_online()
        for number in range(3):
            worker = Worker(f"w{number}", self.name, self._port, self.bot, number == 2, self.dice)
            self._load.append(_spawn(worker.work(self.world.contacts, self.ledger, self._over)))
        for contact in self.world.contacts:
            pause = self.dice.uniform(*self._pauses)
            self._load.append(_spawn(write(contact, self.bot, self.name, self.ledger, self._over, pause)))
        self.progress(self.dice.randrange(10, 200))

    def _port(self) -> int:
        return self.gateway.port

    @property
    def promised(self) -> int:
        return sum(len(numbers) for numbers in self.ledger.promised.values())

    @property
    def written(self) -> int:
        return sum(len(said) for said in self.ledger.said.values())

    def progress(self, count: int, of: Callable[[], int] | None = None, what: str = "messages accepted") -> None:
        """Waits until there are `count` more."""
        of = of or (lambda: self.promised)
        goal = of() + count
        until(lambda: of() >= goal, 60, what=f"{count} more {what}")

    def set_clock_back(self, minutes: int) -> None:
        """And waits until the gateway's log shows it."""
        if not _FAKETIME.exists():
            raise RuntimeError(f"there is no {_FAKETIME}: run `make setup` as root, or apt-get install faketime")
        before = datetime.now(timezone.utc)
        self.clock.write_text(f"-{minutes}m\n")

        def is_back() -> bool:
            self.gateway.process.signal(signal.SIGHUP)
            said = re.findall(r"(?m)^(\S+)Z .* reloaded: nothing changed", self.gateway.process.output())
            return any(datetime.fromisoformat(f"{at}+00:00") < before - timedelta(minutes=minutes / 2) for at in said)

        until(is_back, pause=0.1, what="the gateway's clock to go back")

    def wait_cut_off(self) -> None:
        until(lambda: not self.gateway.is_ready(), 30, what="the gateway to notice")

    def restart(self) -> None:
        """As a supervisor does after a crash."""
        self.gateway.start()
        self.gateway.process.wait_for_line("the gateway serves HTTP")

    def kill(self) -> None:
        self._kill(self.gateway)
        self.restart()

    def _kill(self, gateway: Gateway) -> None:
        gateway.process.kill()
        # What it did until now it has done; what it does after this another one does.
        self.ends.kills.append(time.monotonic())

    def store_goes_away(self) -> None:
        self.ends.store_away = time.monotonic()

    def take_over(self) -> None:
        """Another gateway on the same store starts, and the first one is killed."""
        first = self.gateway
        second = self._gateway()
        # Where both have a stream, the other one may store a message before the database comes to such a one.
        self.book.unanswered_in_order = self.server.kind != "ejabberd"
        self._wait_beside(second)
        self.progress(self.dice.randrange(1, 50))
        self._kill(first)
        self.gateway = second
        self._before.append(first)

    def lose_one(self) -> None:
        """Of two gateways with a stream, one is killed, and started again."""
        # One still answers what it took over, over its own connection, while the other has what is new.
        self.book.replies_in_order = False
        self.take_over()
        self.progress(self.dice.randrange(1, 50))
        again = self._before[-1]
        again.start()
        self._wait_beside(again)

    def _wait_beside(self, other: Gateway) -> None:
        """Until it has a stream too, or stands by where the server gives one only."""
        if self.server.kind == "ejabberd":
            other.wait_ready()
        else:
            other.process.wait_for_line("the gateway serves HTTP")

    def finish(self) -> Verdict:
        """Ends the load, and waits until all that was promised is there."""
        until(self.gateway.is_ready, 60, what="the gateway after the fault")
        self.world.wait_online()
        self.progress(20, what="messages accepted after the fault")
        aio.call(self._over.set)
        for task in self._load:
            task.result(30)
        self._last_pings()
        try:
            until(self.book.is_settled, SETTLE, 0.1, what="what was promised")
        except AssertionError:
            # A server hands out what it kept for a contact that was away at the next login.
            for contact in self.world.contacts:
                aio.call(contact.relogin)
            self.world.wait_online()
            # The verdict tells what is missing.
            with contextlib.suppress(AssertionError):
                until(self.book.is_settled, 5, 0.1, what="what was promised")
        verdict = self.book.verdict(self.ends)
        if status := self.gateway.process.stop(30):
            verdict.problems.append(f"the gateway ended with {status}")
        return verdict

    def _last_pings(self) -> None:
        for contact in self.world.contacts:
            attempts = 0

            def answered(contact: Contact = contact) -> bool:
                nonlocal attempts
                attempts += 1
                identity = f"{self.name}.{contact.name}.last.{attempts}.ping"
                aio.run(contact.ping(self.bot.full, identity))
                try:
                    aio.run(contact.until(lambda: identity in contact.answered | contact.bounced.keys()), 20)
                except TimeoutError:
                    return False
                return identity in contact.answered

            until(answered, 60, 0.1, what=f"an answer to {contact.bare}")

    def close(self) -> None:
        aio.call(self._over.set)
        for gateway in (self.gateway, *self._before):
            gateway.close()
        self.proxy.close()
        aio.run(self.app.close())
        if self.disk:
            self.disk.close()
        folders.remove(self.folder)
        self.clock.unlink(missing_ok=True)
