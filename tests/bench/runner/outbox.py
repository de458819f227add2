"""The outbox section: what it costs that a message is on disk before it counts as sent."""

from __future__ import annotations

import tempfile

from . import measure
from .build import Programs
from .components import compare, gather
from .measure import COMPONENTS, Subject
from .options import Options
from .report import Report
from .servers import Prosody

SECTION = "outbox"
#: Callers at once, and recipients of each call. The first is what the target is about: calls enough to share a flush of
#: the disk. The others show where it ends.
LOADS = {(1000, 1): 100_000, (32, 100): 100_000, (100, 1): 50_000, (1, 1): 3_000}
TARGET = (1000, 1)


def name(load: tuple[int, int], durable: bool) -> str:
    callers, recipients = load
    called = f"{callers:,} calls at once, {recipients} recipients each" if recipients > 1 else f"{callers:,} at once"
    return f"{called}, {'on disk' if durable else 'not stored'}"


def run(options: Options, programs: Programs, report: Report) -> None:
    drive = programs.c / "drive"
    # Beside the results, which are on a disk: a temporary folder may be memory.
    with tempfile.TemporaryDirectory(prefix="outbox-", dir=options.out) as folder:

        def ours() -> list[Subject]:
            program = [programs.ours / "appxmpp-bench", "send-many"]
            settings = [
                (load, {"BENCH_CALLERS": load[0], "BENCH_RECIPIENTS": load[1]}, durable)
                for load in LOADS
                for durable in (False, True)
            ]
            return [
                Subject(
                    name(load, durable), program, LOADS[load], {**set_, **({"BENCH_STATES": folder} if durable else {})}
                )
                for load, set_, durable in settings
            ]

        subjects = gather(report, [ours])
        with Prosody(COMPONENTS) as prosody:
            compare(
                options,
                report,
                SECTION,
                subjects,
                {"prosody": prosody, "null": None},
                lambda subject, server, count: measure.send(drive, subject, server, count=count),
            )
    for where in ("null", "prosody"):
        section = f"{SECTION} {where}"
        for load in LOADS:
            cpu, rate = (
                report.ratio(section, name(load, True), name(load, False), quantity)
                for quantity in ("cpu_us", "per_second")
            )
            if load == TARGET:
                report.target(section, "CPU of a message on disk, against one not stored", "≤ 2", cpu)
                report.target(section, "rate of messages on disk, against ones not stored", "≥ 0.8", rate)
            elif cpu is not None and rate is not None:
                report.note(f"{section}: {name(load, True)}: {cpu:.2f} times the CPU, {rate:.2f} of the rate")
