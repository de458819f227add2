"""Sections about component streams: sending, echoing, and the C library."""

from __future__ import annotations

from . import measure
from .build import BENCH, ROOT, Programs
from .measure import COMPONENTS, Subject
from .options import Options
from .proc import BenchError
from .report import Report
from .servers import Prosody

PYTHON_PEERS = BENCH / "peers" / "python"
ONE, MANY = "xmpp.send_message (Python)", "xmpp.send_message, 1,000 recipients (Python)"
CONNECTION, APP = "appxmpp Connection (Rust)", "appxmpp App (Rust)"
TOKIO, TOKIO_BATCHED, SLIXMPP = "tokio-xmpp", "tokio-xmpp, batched", "slixmpp"
RAW_WRITER, RAW_WRITER_MANY = "raw writer", "raw writer, 1,000 recipients"
C_ECHO, C_ECHO_ONE = "libappxmpp (C)", "libappxmpp, one by one (C)"
C_ONE, C_MANY = "appxmpp_send_message (C)", "appxmpp_send_message, 1,000 recipients (C)"
GO_ECHO, GO_ONE, GO_CANCELLABLE = "Handle (Go)", "Message.Send (Go)", "Message.Send, cancellable context (Go)"
RAW_ECHO, STROPHE = "raw bytes", "libstrophe"


def gather(report: Report, makers: list) -> list[Subject]:
    """The subjects that can be built here; what cannot is noted and its targets stay unmeasured."""
    subjects = []
    for maker in makers:
        try:
            subjects += maker()
        except BenchError as error:
            report.note(str(error))
    return subjects


def compare(
    options: Options,
    report: Report,
    section: str,
    subjects: list[Subject],
    servers: dict,
    measurement,
    most: int = 20_000,
) -> None:
    """Every subject once per round, one after the other; through a server `most` messages are enough."""
    for number in range(options.rounds):
        for where, server in servers.items():
            for subject in measure.in_turn(subjects, number):
                count = options.count(min(subject.count, most) if server else subject.count)
                try:
                    found = measurement(subject, server, count)
                except BenchError as error:
                    report.note(f"{section} {where}: {subject.name}: {error}")
                    continue
                report.add(f"{section} {where}", subject.name, **found)
                shown = ", ".join(f"{k.replace('_', ' ')} {v:,.1f}" for k, v in found.items())
                print(f"  {number + 1}/{options.rounds} {where}: {subject.name}: {shown}", flush=True)


def send(options: Options, programs: Programs, report: Report) -> None:
    """One way: messages to a sink, through Prosody and into the null server."""
    drive = programs.c / "drive"

    def raw() -> list[Subject]:
        program = [drive, "connect", "write"]
        many = {"BENCH_RECIPIENTS": 1000}
        return [Subject(RAW_WRITER, program, 300_000), Subject(RAW_WRITER_MANY, program, 300_000, many)]

    def tokio() -> list[Subject]:
        program = programs.tokio / "tokio_send"
        return [Subject(TOKIO, [program], 100_000, {"BENCH_FLUSH": "each"}), Subject(TOKIO_BATCHED, [program], 100_000)]

    def slixmpp() -> list[Subject]:
        return [Subject(SLIXMPP, [programs.python, PYTHON_PEERS / "slixmpp_send.py"], 20_000)]

    def ours() -> list[Subject]:
        python, script = programs.appxmpp_python, PYTHON_PEERS / "appxmpp_send.py"
        return [
            Subject(ONE, [python, script], 50_000),
            Subject(MANY, [python, script], 200_000, {"BENCH_RECIPIENTS": 1000}),
        ]

    def ours_in_rust() -> list[Subject]:
        return [Subject(APP, [programs.ours / "appxmpp-bench", "send-app"], 100_000)]

    subjects = gather(report, [raw, ours, ours_in_rust, tokio, slixmpp])
    with Prosody(COMPONENTS) as prosody:
        compare(
            options,
            report,
            "send",
            subjects,
            {"prosody": prosody, "null": None},
            lambda subject, server, count: measure.send(drive, subject, server, count=count),
        )
    through, into = "send prosody", "send null"
    report.target(through, "CPU of one xmpp.send_message call", "≤ 10 µs", report.median(through, ONE, "cpu_us"))
    report.target(
        through, "CPU per recipient, 1,000 recipients a call", "≤ 2 µs", report.median(through, MANY, "cpu_us")
    )
    for subject, peer in ((ONE, RAW_WRITER), (MANY, RAW_WRITER_MANY)):
        ratio = report.ratio(through, subject, peer, "per_second")
        report.target(through, f"rate of {subject}, against the raw writer", "≥ 0.95", ratio)
    report.target(into, "CPU of one xmpp.send_message call", "≤ 10 µs", report.median(into, ONE, "cpu_us"))
    report.target(into, "CPU per recipient, 1,000 recipients a call", "≤ 2 µs", report.median(into, MANY, "cpu_us"))


def echo(options: Options, programs: Programs, report: Report) -> None:
    """Round trips with 256 outstanding, against the null server and through Prosody."""
    drive = programs.c / "drive"

    def raw() -> list[Subject]:
        return [Subject(RAW_ECHO, [drive, "connect", "reply"], 300_000)]

    def tokio() -> list[Subject]:
        program = programs.tokio / "tokio_echo"
        return [Subject(TOKIO, [program], 100_000), Subject(TOKIO_BATCHED, [program], 100_000, {"BENCH_FLUSH": "idle"})]

    def slixmpp() -> list[Subject]:
        return [Subject(SLIXMPP, [programs.python, PYTHON_PEERS / "slixmpp_echo.py"], 10_000)]

    def ours() -> list[Subject]:
        program = programs.ours / "appxmpp-bench"
        return [
            Subject(CONNECTION, [program, "echo-connection"], 100_000),
            Subject(APP, [program, "echo-app"], 100_000),
        ]

    subjects = gather(report, [raw, ours, tokio, slixmpp])
    with Prosody(COMPONENTS) as prosody:
        compare(
            options,
            report,
            "echo",
            subjects,
            {"null": None, "prosody": prosody},
            lambda subject, server, count: measure.echo(drive, subject, server, count=count, window=256),
        )
    null = "echo null"
    report.target(null, f"CPU per round trip of {CONNECTION}", "≤ 6 µs", report.median(null, CONNECTION, "cpu_us"))
    report.target(
        null,
        f"rate of {CONNECTION}, against tokio-xmpp's component",
        "≥ 3",
        report.ratio(null, CONNECTION, TOKIO, "per_second"),
    )
    report.target(
        "echo prosody",
        f"CPU per round trip of {CONNECTION}",
        "≤ 6 µs",
        report.median("echo prosody", CONNECTION, "cpu_us"),
    )


def libraries(options: Options, programs: Programs, report: Report) -> None:
    """libappxmpp from C and Go, beside libstrophe and the raw writer."""
    drive = programs.c / "drive"

    def echoes() -> list[Subject]:
        program = [programs.capi / "appxmpp_echo"]
        return [Subject(C_ECHO, program, 100_000), Subject(C_ECHO_ONE, program, 100_000, {"BENCH_AT_ONCE": 1})]

    def go_echo() -> list[Subject]:
        return [Subject(GO_ECHO, [programs.go, "echo"], 100_000)]

    def go_send() -> list[Subject]:
        cancellable = {"BENCH_CONTEXT": "cancellable"}
        return [
            Subject(GO_ONE, [programs.go], 200_000),
            Subject(GO_CANCELLABLE, [programs.go], 200_000, cancellable),
        ]

    def strophe() -> list[Subject]:
        return [Subject(STROPHE, [programs.strophe / "strophe_echo"], 100_000)]

    def raw() -> list[Subject]:
        program, many = [drive, "connect", "write"], {"BENCH_RECIPIENTS": 1000}
        return [Subject(RAW_WRITER, program, 300_000), Subject(RAW_WRITER_MANY, program, 300_000, many)]

    def senders() -> list[Subject]:
        program = programs.capi / "appxmpp_send"
        return [
            Subject(C_ONE, [program], 200_000),
            Subject(C_MANY, [program], 200_000, {"BENCH_RECIPIENTS": 1000}),
        ]

    echoing, sending = gather(report, [echoes, strophe, go_echo]), gather(report, [raw, senders, go_send])
    with Prosody(COMPONENTS) as prosody:
        servers = {"null": None, "prosody": prosody}
        compare(
            options,
            report,
            "libraries: echo",
            echoing,
            servers,
            lambda subject, server, count: measure.echo(drive, subject, server, count=count, window=256),
        )
        compare(
            options,
            report,
            "libraries: send",
            sending,
            servers,
            lambda subject, server, count: measure.send(drive, subject, server, count=count),
        )
    for where in ("null", "prosody"):
        judge_echoes(report, where)
        send_section = f"libraries: send {where}"
        for bound, subjects in (("≤ 2 µs", (C_ONE, C_MANY)), ("≤ 3 µs", (GO_ONE, GO_CANCELLABLE))):
            for subject in subjects:
                report.within(send_section, f"CPU per message of {subject}", bound, subject, "cpu_us")


def judge_echoes(report: Report, where: str) -> None:
    section = f"libraries: echo {where}"
    for subject in (C_ECHO, C_ECHO_ONE):
        text = f"CPU per round trip of {subject}, against libstrophe's"
        report.compare(section, text, "≤ 1", subject, STROPHE, "cpu_us")
        # Through a server the rate is the server's, whoever echoes.
        if where == "null":
            text = f"round trips of {subject}, against libstrophe's"
            report.compare(section, text, "≥ 1", subject, STROPHE, "per_second")


__all__ = ["ROOT", "echo", "libraries", "send"]
