"""Runs one after the other in front of one server, and the table of what came of them."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from ..ejabberd import BALANCED
from ..servers import KINDS
from .catalogue import CATALOGUE, Fault
from .verdict import Verdict
from .world import DOMAIN, SECRET, Run, World

#: Seconds after which a run's log is worth a look even if all went well.
SLOW = 20
COLUMNS = ["sent", "promised", "refused", "written", "received", "bounced", "cut", "lost_by_server", "duplicated"]
COLUMNS += ["lost", "disordered"]


@dataclass
class Result:
    fault: str
    server: str
    run: str
    seconds: float
    verdict: Verdict
    log: str = ""


def plan(kind: str, runs: int, seed: int, only: str) -> list[tuple[int, Fault]]:
    """Which fault strikes in which run: each at least once in front of one of the servers, the others at random."""
    faults = [fault for fault in CATALOGUE if only in fault.name and (only or fault.weight)]
    random.Random(seed).shuffle(faults)
    kinds = list(KINDS)
    turns = [(not only and fault.only_with) or kinds[index % len(kinds)] for index, fault in enumerate(faults)]
    chosen = [fault for fault, turn in zip(faults, turns, strict=True) if turn == kind][:runs]
    faults = [fault for fault in faults if only or fault.only_with in ("", kind)]
    dice = random.Random(f"{seed}/{kind}")
    weights = [max(1, fault.weight // 3) if fault.slow_with == kind else max(1, fault.weight) for fault in faults]
    chosen += dice.choices(faults, weights, k=runs - len(chosen))
    return list(enumerate(chosen, 1))


def runs(kind: str, count: int, seed: int, only: str = "") -> Iterator[Result]:
    """All runs in front of one server."""
    with KINDS[kind]({DOMAIN: SECRET, BALANCED: SECRET}) as server:
        world = World(server)
        try:
            for number, fault in plan(kind, count, seed, only):
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
    lines = [f"{'fault':{width}} runs " + " ".join(f"{name.replace('_', ' '):>9}" for name in COLUMNS)]
    rows = {fault.name: [result for result in results if result.fault == fault.name] for fault in CATALOGUE}
    for name, group in [*rows.items(), ("all", results)]:
        if group:
            sums = [sum(getattr(result.verdict, column) for result in group) for column in COLUMNS]
            lines.append(f"{name:{width}} {len(group):4} " + " ".join(f"{value:9}" for value in sums))
    return "\n".join(lines)
