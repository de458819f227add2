"""What goes wrong: each fault breaks something in a run under load, waits until that shows, and mends it."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

from .. import aio
from ..ejabberd import BALANCED
from ..proxy import TO_CLIENT, TO_SERVER
from ..waiting import until
from . import app
from .world import ACCOUNT, COMPONENT, DOMAIN, FILE, PAUSES, POSTGRES, SMALL_DISK, Run

#: Seconds between what a contact writes, where it does so slowly.
SLOW = (0.1, 0.2)
#: In minutes.
HOUR, DAY = 60, 24 * 60
#: In seconds.
MINUTE = 60.0


@dataclass(frozen=True)
class Fault:
    name: str
    strike: Callable[[Run], None]
    #: How often it is chosen, compared with others; where a server takes long to start, less often. 0: by name alone.
    weight: int = 4
    slow_with: str = ""
    #: The one kind of server that it is chosen for; in front of others it strikes by name alone.
    only_with: str = ""
    store: str = FILE
    role: str = COMPONENT
    domain: str = DOMAIN
    pauses: tuple[float, float] = PAUSES
    #: It takes a minute and more: not in the short form, and twice in front of each server in the long one.
    is_long: bool = False


def _kill(run: Run) -> None:
    run.kill()


def _kill_at_once_again(run: Run) -> None:
    run.kill()
    run.kill()


def _stop(run: Run) -> None:
    assert run.gateway.process.stop(30) == 0
    run.restart()


def _server_killed(run: Run) -> None:
    run.ends.server_was_killed = True
    run.server.kill()
    run.progress(run.dice.randrange(10, 100))
    run.server.start()
    for contact in run.world.contacts:
        run.server.restore(contact.account)


def _server_restarted(run: Run) -> None:
    run.ends.server_was_killed = True
    run.server.restart()


def _server_paused(run: Run) -> None:
    run.server.pause()
    try:
        run.wait_cut_off()
        run.progress(run.dice.randrange(1, 50))
    finally:
        run.server.resume()


def _cut(run: Run) -> None:
    for _ in range(run.dice.randrange(1, 3)):
        run.proxy.cut()
        run.progress(run.dice.randrange(5, 50))


def _refused(run: Run) -> None:
    run.proxy.refuse()
    run.wait_cut_off()
    run.progress(run.dice.randrange(1, 100))
    run.proxy.accept()


def _blocked(*directions: str) -> Callable[[Run], None]:
    def strike(run: Run) -> None:
        run.recording.was_held = True
        run.proxy.block(*directions)
        if run.dice.random() < 0.7:
            run.wait_cut_off()
        run.progress(run.dice.randrange(1, 100))
        run.proxy.mend()

    return strike


def _app(mode: str) -> Callable[[Run], None]:
    def strike(run: Run) -> None:
        before = len(run.app.got)
        aio.run(run.app.set(mode))
        if mode == app.DOWN:
            run.progress(run.dice.randrange(20, 200), lambda: run.written, "messages to the app")
        else:
            # Each contact's lane waits behind its first.
            run.progress(run.dice.randrange(3, 8), lambda: len(run.app.got) - before, "attempts")
        aio.run(run.app.set(app.OK))

    return strike


def _app_down_for_a_minute(run: Run) -> None:
    run.book.keeps_everything = True
    aio.run(run.app.set(app.DOWN))
    written, got = run.written, len(run.app.got)
    over = time.monotonic() + MINUTE
    # The minute is the fault.
    until(lambda: time.monotonic() >= over, MINUTE + 1, 0.5, what="a minute without the app")
    run.progress(20, lambda: run.written, "messages to the app")
    assert len(run.app.got) == got, "somebody took deliveries for the app"
    waiting = run.written - written
    aio.run(run.app.set(app.OK))
    run.progress(waiting, lambda: len(run.app.got) - got, "deliveries of what waited")


def _disk_full(run: Run) -> None:
    run.store_goes_away()
    refused = run.ledger.refused
    assert run.disk
    run.disk.fill()
    run.progress(run.dice.randrange(3, 30), lambda: run.ledger.refused - refused, "refusals")
    run.disk.make_room()


def _files_limited(run: Run) -> None:
    run.store_goes_away()
    refused = run.ledger.refused
    pid = run.gateway.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    run.progress(run.dice.randrange(3, 30), lambda: run.ledger.refused - refused, "refusals")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def _clock_back(run: Run) -> None:
    run.set_clock_back(run.dice.choice([10, 3 * HOUR, 2 * DAY, 365 * DAY]))
    run.progress(run.dice.randrange(50, 200))
    if run.dice.random() < 0.5:
        run.kill()


def _postgres_restarted(run: Run) -> None:
    run.store_goes_away()
    run.world.postgres.stop()
    run.progress(run.dice.randrange(1, 5), lambda: run.ledger.refused, "refusals")
    run.world.postgres.start()


def _postgres_killed(run: Run) -> None:
    run.store_goes_away()
    run.world.postgres.kill()
    run.world.postgres.start()


def _then_killed(first: Callable[[Run], None]) -> Callable[[Run], None]:
    def strike(run: Run) -> None:
        first(run)
        run.kill()

    return strike


def _cut_off_and_killed(run: Run) -> None:
    run.proxy.refuse()
    run.wait_cut_off()
    run.progress(run.dice.randrange(1, 100))
    run.kill()
    run.progress(run.dice.randrange(1, 50))
    run.proxy.accept()


def _app_down_and_killed(run: Run) -> None:
    aio.run(run.app.set(app.DOWN))
    run.progress(run.dice.randrange(20, 100), lambda: run.written, "messages to the app")
    run.kill()
    run.progress(run.dice.randrange(1, 50))
    aio.run(run.app.set(app.OK))


CATALOGUE = [
    Fault("gateway kill -9", _kill, 12),
    Fault("gateway kill -9, twice", _kill_at_once_again, 4),
    Fault("gateway stopped and started", _stop, 6),
    Fault("server kill -9 and started", _server_killed, 8, slow_with="ejabberd"),
    Fault("server restarted", _server_restarted, 4, slow_with="ejabberd"),
    Fault("server paused beyond the keepalive", _server_paused, 8),
    Fault("network: connection reset", _cut, 8),
    Fault("network: refused for a while", _refused, 6),
    Fault("network: silent in both directions", _blocked(TO_SERVER, TO_CLIENT), 6),
    Fault("network: silent to the server", _blocked(TO_SERVER), 6),
    Fault("network: silent from the server", _blocked(TO_CLIENT), 6),
    Fault("app answers 500", _app(app.ERROR), 4),
    Fault("app answers 503", _app(app.UNAVAILABLE), 6),
    Fault("app hangs", _app(app.HANG), 4),
    Fault("app closes in mid-answer", _app(app.BREAK), 6),
    Fault("app is down", _app(app.DOWN), 6),
    Fault("app is down for a minute", _app_down_for_a_minute, 6, pauses=SLOW, is_long=True),
    Fault("disk full", _disk_full, 6, store=SMALL_DISK),
    Fault("disk full, then kill -9", _then_killed(_disk_full), 4, store=SMALL_DISK),
    Fault("file size limit reached", _files_limited, 4),
    Fault("clock set back", _clock_back, 6),
    Fault("PostgreSQL restarted", _postgres_restarted, 4, store=POSTGRES),
    Fault("PostgreSQL kill -9 and started", _postgres_killed, 4, store=POSTGRES),
    Fault("kill -9, the store in PostgreSQL", _kill, 6, store=POSTGRES),
    Fault("PostgreSQL restarted, then kill -9", _then_killed(_postgres_restarted), 4, store=POSTGRES),
    Fault("second gateway started, first kill -9", lambda run: run.take_over(), 6, store=POSTGRES, only_with="prosody"),
    # Either may read what a contact says; what it says within milliseconds, in any order.
    Fault(
        "one of two gateways kill -9", lambda run: run.take_over(), 6, store=POSTGRES, only_with="ejabberd", pauses=SLOW
    ),
    Fault(
        "one of two gateways kill -9 and started, with bare_source",
        lambda run: run.lose_one(),
        6,
        store=POSTGRES,
        only_with="ejabberd",
        domain=BALANCED,
    ),
    Fault("network refused, meanwhile kill -9", _cut_off_and_killed, 6),
    Fault("app down, meanwhile kill -9", _app_down_and_killed, 6),
    Fault("an account: kill -9", _kill, 6, role=ACCOUNT),
    Fault("an account: stopped and started", _stop, 2, role=ACCOUNT),
    Fault("an account: connection reset", _cut, 6, role=ACCOUNT),
    Fault("an account: silent in both directions", _blocked(TO_SERVER, TO_CLIENT), 4, role=ACCOUNT),
    Fault("an account: refused, meanwhile kill -9", _cut_off_and_killed, 4, role=ACCOUNT),
    Fault("an account: app down, meanwhile kill -9", _app_down_and_killed, 4, role=ACCOUNT),
]
