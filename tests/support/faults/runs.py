"""Runs one after the other in front of one server, and the table of what came of them."""

from __future__ import annotations

import random
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from ..ejabberd import BALANCED
from ..servers import KINDS
from . import smalldisk
from .catalogue import CATALOGUE, Fault
from .verdict import Verdict
from .world import DOMAIN, SECRET, SMALL_DISK, Run, World

#: Seconds after which a run's log is worth a look even if all went well.
SLOW = 20
COLUMNS = ["sent", "promised", "refused", "written", "received", "bounced", "cut", "lost_by_server"]
COLUMNS += ["refused_yet_there"]
#: What came again, and how much of that is promised at most.
REPEATS = ["outbound", "inbound", "replies"]
FAULTS = ["lost", "disordered"]


@dataclass
class Result:
    fault: str
    server: str
    run: str
    seconds: float
    verdict: Verdict
    log: str = ""


def plan(kind: str, runs: int, seed: int, only: str, *, short: bool = False) -> list[tuple[int, Fault]]:
    """Which fault strikes in which run: each at least once in front of one of the servers, the others at random."""
    faults = [fault for fault in possible() if only in fault.name and (only or fault.weight)]
    faults = [fault for fault in faults if not (short and fault.is_long)]
    random.Random(seed).shuffle(faults)
    kinds = list(KINDS)
    turns = [(not only and fault.only_with) or kinds[index % len(kinds)] for index, fault in enumerate(faults)]
    chosen = [fault for fault, turn in zip(faults, turns, strict=True) if turn == kind]
    chosen += [] if only else [fault for fault in faults if fault.is_long] * 2
    chosen = chosen[:runs]
    faults = [fault for fault in faults if only or fault.only_with in ("", kind)]
    dice = random.Random(f"{seed}/{kind}")
    weights = [max(1, fault.weight // 3) if fault.slow_with == kind else max(1, fault.weight) for fault in faults]
    chosen += dice.choices(faults, weights, k=runs - len(chosen))
    return list(enumerate(chosen, 1))


def possible() -> list[Fault]:
    """All but those that cannot be had here; `make test` repeats which these are."""
    if why := smalldisk.why_not():
        print(f"NOT TESTED: a full disk, since no small one can be mounted here: {why}", file=sys.stderr, flush=True)
        return [fault for fault in CATALOGUE if fault.store != SMALL_DISK]
    return CATALOGUE


def runs(kind: str, count: int, seed: int, only: str = "", *, short: bool = False) -> Iterator[Result]:
    """All runs in front of one server."""
    with KINDS[kind]({DOMAIN: SECRET, BALANCED: SECRET}) as server:
        world = World(server)
        try:
            for number, fault in plan(kind, count, seed, only, short=short):
                yield one(world, fault, f"{kind[0]}{number}", random.Random(f"{seed}/{kind}/{number}"))
        finally:
            world.close()


def one(world: World, fault: Fault, name: str, dice: random.Random) -> Result:
    started = time.monotonic()
    run = Run(world, name, dice, store=fault.store, role=fault.role, domain=fault.domain, pauses=fault.pauses)
    log = ""
    try:
        run.start()
        fault.strike(run)
        verdict = run.finish()
    except Exception:
        verdict = Verdict(problems=[f"stuck: {traceback.format_exc()}"])
    finally:
        log = run.gateway.process.output()
        run.close()
    result = Result(fault.name, world.server.kind, name, time.monotonic() - started, verdict)
    if verdict.problems or result.seconds > SLOW:
        result.log = log
    return result


def table(results: list[Result]) -> str:
    width = max([len(fault.name) for fault in CATALOGUE])
    head = [f"{name.replace('_', ' '):>9}" for name in [*COLUMNS, *FAULTS]]
    head[len(COLUMNS) : len(COLUMNS)] = [f"{name + ' again/may':>18}" for name in REPEATS]
    lines = [f"{'fault':{width}} runs " + " ".join(head)]
    rows = {fault.name: [result for result in results if result.fault == fault.name] for fault in CATALOGUE}
    for name, group in [*rows.items(), ("all", results)]:
        if group:
            verdicts = [result.verdict for result in group]
            cells = [f"{sum(getattr(it, column) for it in verdicts):>{_width(column)}}" for column in COLUMNS]
            cells += [f"{_repeats(verdicts, column):>18}" for column in REPEATS]
            cells += [f"{sum(getattr(it, column) for it in verdicts):>{_width(column)}}" for column in FAULTS]
            lines.append(f"{name:{width}} {len(group):4} " + " ".join(cells))
    return "\n".join(lines)


def _width(column: str) -> int:
    return max(9, len(column))


def _repeats(verdicts: list[Verdict], column: str) -> str:
    repeats = [getattr(verdict, column) for verdict in verdicts]
    return f"{sum(it.again for it in repeats)}/{sum(it.bound for it in repeats)}"
