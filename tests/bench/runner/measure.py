"""The two measurements every stack goes through: echoing to a driver, and sending to a sink."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .proc import Process
from .servers import SECRET, Prosody

ECHO, SINK, LOAD, GATEWAY = (f"{name}.localhost" for name in ("echo", "sink", "load", "gateway"))
COMPONENTS = [ECHO, SINK, LOAD, GATEWAY]
BODY = 100


@dataclass
class Subject:
    """A program under test: what it is called in the report, how it starts, how many messages show its cost."""

    name: str
    argv: list
    count: int
    settings: dict = field(default_factory=dict)
    cwd: Path | None = None


def in_turn(subjects: Iterable[Any], number: int) -> list[Any]:
    """Every other round goes the other way round: what drifts meanwhile helps nobody."""
    return list(subjects)[:: -1 if number % 2 else 1]


def component(server: str, domain: str, **settings: object) -> dict:
    return {
        "BENCH_SERVER": server,
        "BENCH_DOMAIN": domain,
        "BENCH_SECRET": SECRET,
        "BENCH_BODY": BODY,
        **{f"BENCH_{key.upper()}": value for key, value in settings.items()},
    }


@contextmanager
def meet(
    subject: Subject,
    driver_argv: list,
    server: Prosody | None,
    subject_domain: str,
    driver_domain: str,
    subject_settings: dict,
    driver_settings: dict,
) -> Iterator[tuple[Process, Process]]:
    """Starts a subject and a driver on both ends of a server, or of one stream where there is no server."""
    address = server.address if server else ""
    with Process(
        "the driver",
        [*driver_argv[:1], "connect" if server else "listen", *driver_argv[1:]],
        component(address, driver_domain, **driver_settings),
    ) as driver:
        if server:
            driver.expect("ready")
        else:
            address = "127.0.0.1:" + driver.expect("listening").split()[1]
        settings = {**component(address, subject_domain, **subject_settings), **subject.settings}
        with Process(subject.name, subject.argv, settings, cwd=subject.cwd) as process:
            if not server:
                driver.expect("ready")
            process.expect("ready")
            yield process, driver


def echo(drive: Path, subject: Subject, server: Prosody | None, *, count: int, window: int) -> dict[str, float]:
    """Round trips per second, CPU per round trip of the subject, latency."""
    with meet(
        subject, [drive, "echo"], server, ECHO, LOAD, {}, {"to": f"bot@{ECHO}/bot", "count": count, "window": window}
    ) as (process, driver):
        before, server_before = process.cpu(), server.cpu() if server else 0.0
        driver.go()
        result = driver.result()
        cpu = process.cpu() - before
        found = {"per_second": result["rate"], "cpu_us": cpu / count * 1e6, "p50_us": result["p50_us"]}
        if server:
            found["server_cpu_us"] = (server.cpu() - server_before) / count * 1e6
        return found


def send(
    drive: Path, subject: Subject, server: Prosody | None, *, count: int, kind: str = "message"
) -> dict[str, float]:
    """Stanzas per second as the sink sees them, CPU per stanza of the sender, first call to last byte."""
    with meet(
        subject,
        [drive, "sink"],
        server,
        "bot.localhost" if not server else ECHO,
        SINK,
        {"to": f"user@{SINK}", "count": count, "kind": kind},
        {"count": count, "kind": kind},
    ) as (process, driver):
        before, server_before = process.cpu(), server.cpu() if server else 0.0
        process.go()
        result = driver.result()
        process.expect("done")
        cpu = process.cpu() - before
        found = {"per_second": result["rate"], "cpu_us": cpu / count * 1e6}
        if server:
            found["server_cpu_us"] = (server.cpu() - server_before) / count * 1e6
        return found
