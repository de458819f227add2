"""The contacts section: a million of them in the presence book, and a hundred thousand told of our presence."""

from __future__ import annotations

import tempfile
from pathlib import Path

from . import measure
from .build import Programs
from .components import RAW_WRITER, compare, gather
from .measure import COMPONENTS, Subject
from .options import Options
from .proc import BenchError, Process
from .report import Report
from .servers import Prosody

SECTION, OURS, CONTACTS = "contacts", "appxmpp service (Rust)", 1_000_000
ONLINE, COMING_ONLINE, SUBSCRIBED = "presence", "appxmpp App coming online (Rust)", 100_000


def book(options: Options, programs: Programs, report: Report) -> None:
    count = options.count(CONTACTS)
    try:
        program = programs.ours / "appxmpp-bench"
    except BenchError as error:
        report.note(str(error))
    else:
        # Once is enough: it is no comparison, and fills a store of many megabytes.
        with tempfile.TemporaryDirectory(prefix="appxmpp-bench-") as folder:
            settings = {"BENCH_COUNT": count, "BENCH_STATE": Path(folder) / "state.db"}
            with Process(OURS, [program, "contacts"], settings) as process:
                report.add(SECTION, OURS, **process.result(timeout=300))
    one, other = (report.median(SECTION, OURS, quantity) for quantity in ("message_us", "message_alone_us"))
    what = f"with {count:,} contacts"
    report.target(
        SECTION, f"memory per contact, {what}", "≤ 200 bytes", report.median(SECTION, OURS, "bytes_per_contact")
    )
    report.target(SECTION, f"CPU of get_presence, {what}", "≤ 2 µs", report.median(SECTION, OURS, "get_presence_us"))
    report.target(SECTION, f"start on a full store, {what}", "≤ 5 s", report.median(SECTION, OURS, "start_s"))
    # The look-up of one contact in cold memory is allowed for; growth is not.
    grown = one / other if one is not None and other else None
    report.target(SECTION, f"CPU of a message, {what}, against none", "≤ 1.25", grown)


def coming_online(options: Options, programs: Programs, report: Report) -> None:
    """Available presence to every subscribed contact, through Prosody."""
    drive = programs.c / "drive"

    def raw() -> list[Subject]:
        return [
            Subject(
                RAW_WRITER, [drive, "connect", "write"], SUBSCRIBED, {"BENCH_RECIPIENTS": options.count(SUBSCRIBED)}
            )
        ]

    def ours() -> list[Subject]:
        return [Subject(COMING_ONLINE, [programs.ours / "appxmpp-bench", "come-online"], SUBSCRIBED)]

    subjects = gather(report, [raw, ours])
    with Prosody(COMPONENTS) as prosody:
        compare(
            options,
            report,
            ONLINE,
            subjects,
            {"prosody": prosody},
            lambda subject, server, count: measure.send(drive, subject, server, count=count, kind="presence"),
            most=SUBSCRIBED,
        )
    section = f"{ONLINE} prosody"
    what = f"rate of presence to {SUBSCRIBED:,} contacts, against the raw writer"
    report.target(section, what, "≥ 0.9", report.ratio(section, COMING_ONLINE, RAW_WRITER, "per_second"))


def run(options: Options, programs: Programs, report: Report) -> None:
    book(options, programs, report)
    coming_online(options, programs, report)
