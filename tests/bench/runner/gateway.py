"""The gateway section: ours, Prosody's mod_rest and the raw gateway, in front of one Prosody."""

from __future__ import annotations

import base64
import http.client
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import mod_rest
from .build import Programs
from .measure import BODY, COMPONENTS, GATEWAY, LOAD, SINK, component, in_turn
from .options import Options
from .proc import BenchError, Process, resident_mb
from .report import Report
from .servers import SECRET, Prosody, folders

REST = "rest.localhost"
RAW, MOD_REST, OURS = "raw gateway", "mod_rest", "appxmpp gateway"
POST_COUNTS = {1: 15_000, 4: 20_000, 16: 25_000}
ECHO_COUNTS = {1: 3_000, 16: 10_000, 256: 15_000}
FORMS = ("xml", "appengine")
WAITING = 10_000
# As many as the kernel's queue of connections that nobody has accepted yet always has room for.
BATCH = 1_000

CONFIG = """\
[[app]]
id = "gateway"
backend = "component://{domain}@{server}"
secret_file = "{folder}/secret"
{callback}
[http]
listen = "127.0.0.1:{port}"
metrics = "127.0.0.1:{metrics}"
[store]
url = "memory:"
"""


def basic(domain: str) -> str:
    return "Basic " + base64.b64encode(f"{domain}:{SECRET}".encode()).decode()


@dataclass
class Running:
    """A gateway that is up: where its HTTP and its XMPP address are, and the process whose CPU counts."""

    http: str
    domain: str
    process: Process | None = None
    metrics: str = ""

    def load(self, **settings: object) -> dict:
        return {
            "BENCH_HTTP": self.http,
            "BENCH_HOST": self.domain,
            "BENCH_AUTH": basic(self.domain),
            "BENCH_BODY": BODY,
            **{f"BENCH_{key.upper()}": value for key, value in settings.items()},
        }


@contextmanager
def raw(programs: Programs, prosody: Prosody, form: str, callback: str | None) -> Iterator[Running]:
    settings = component(prosody.address, GATEWAY, form=form)
    if callback:
        settings["BENCH_CALLBACK"] = callback
    with Process(RAW, [programs.c / "rawgateway"], settings) as process:
        port = process.expect("listening").split()[1]
        process.expect("ready")
        yield Running(f"127.0.0.1:{port}", GATEWAY, process)


@contextmanager
def ours(programs: Programs, prosody: Prosody, form: str, callback: str | None) -> Iterator[Running]:
    port, metrics = folders.free_ports(2)
    with tempfile.TemporaryDirectory(prefix="appxmpp-bench-") as folder:
        where = ""
        if callback:
            where = f'callback_url = "http://{callback}/stanzas"' if form == "xml" else f'url = "http://{callback}"'
        secret, config = Path(folder) / "secret", Path(folder) / "gateway.toml"
        secret.touch(mode=0o600)
        secret.write_text(SECRET + "\n")
        config.write_text(
            CONFIG.format(
                domain=GATEWAY, server=prosody.address, folder=folder, port=port, metrics=metrics, callback=where
            )
        )
        with Process(OURS, [programs.gateway, "gateway", "--config", config]) as process:
            wait_until_ready(port, process)
            yield Running(f"127.0.0.1:{port}", GATEWAY, process, f"127.0.0.1:{metrics}")


@contextmanager
def module(prosody: Prosody) -> Iterator[Running]:
    yield Running(f"127.0.0.1:{prosody.http_port}", REST)


def wait_until_ready(port: int, process: Process, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while True:
        if process.popen.poll() is not None:
            process.expect("ready")  # says why it ended
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if time.monotonic() > deadline:
            raise BenchError(f"{process.name} is not ready after {timeout:.0f} s{process.last_words()}")
        time.sleep(0.02)


def cpu_of(running: Running, prosody: Prosody) -> tuple[float, float]:
    return running.process.cpu() if running.process else 0.0, prosody.cpu()


def costs(before: tuple[float, float], after: tuple[float, float], running: Running, count: int) -> dict[str, float]:
    """mod_rest has no process of its own: only the server's time can be told."""
    own, server = ((b - a) / count * 1e6 for a, b in zip(before, after, strict=True))
    return {"cpu_us": own, "server_cpu_us": server} if running.process else {"server_cpu_us": server}


def post(programs: Programs, prosody: Prosody, running: Running, connections: int, count: int) -> dict[str, float]:
    """POST /rest of messages to a sink; the rate is that of messages which arrived: a 202 alone proves nothing."""
    to = f"user@{SINK}"
    with (
        Process(
            "the sink", [programs.c / "drive", "connect", "sink"], component(prosody.address, SINK, count=count)
        ) as sink,
        Process(
            "the HTTP load",
            [programs.c / "httpload", "post"],
            running.load(to=to, count=count, connections=connections),
        ) as load,
    ):
        sink.expect("ready")
        load.expect("ready")
        before = cpu_of(running, prosody)
        load.go()
        result, arrived = load.result(), sink.result()
        after = cpu_of(running, prosody)
        return {
            "per_second": count / (arrived["last"] - result["first"]),
            "p50_us": result["p50_us"],
            **costs(before, after, running, count),
        }


def webhook_echo(
    programs: Programs, prosody: Prosody, running: Running, outstanding: int, count: int
) -> dict[str, float]:
    """Users write to the gateway's address, the app behind the webhook replies."""
    with Process(
        "the users",
        [programs.c / "drive", "connect", "echo"],
        component(prosody.address, LOAD, to=f"bot@{running.domain}", count=count, window=outstanding),
    ) as users:
        users.expect("ready")
        before = cpu_of(running, prosody)
        users.go()
        result = users.result()
        after = cpu_of(running, prosody)
        return {"per_second": result["rate"], "p50_us": result["p50_us"], **costs(before, after, running, count)}


def webhook(programs: Programs, form: str) -> tuple[Process, str]:
    """The app behind the webhook, and its address."""
    process = Process(
        "the webhook", [programs.c / "webhook", form], {"BENCH_REST_HOST": GATEWAY, "BENCH_REST_AUTH": basic(GATEWAY)}
    )
    return process, "127.0.0.1:" + process.expect("listening").split()[1]


@contextmanager
def with_webhook(programs: Programs, start, prosody: Prosody, form: str) -> Iterator[Running]:
    app, address = webhook(programs, form)
    with app, start(programs, prosody, form, address) as running:
        if form == "appengine":
            app.tell(f"rest {running.http}")
        app.expect("ready")
        yield running


class Gateways:
    """Which gateways can be measured here."""

    def __init__(self, programs: Programs, report: Report, prosody: Prosody, has_mod_rest: bool):
        self.programs, self.prosody = programs, prosody
        self.starters = {RAW: raw}
        self.has_mod_rest = has_mod_rest
        try:
            print(f"  the gateway is {programs.gateway}", flush=True)
            self.starters[OURS] = ours
        except BenchError as error:
            report.note(str(error))

    def posting(self) -> Iterator[tuple[str, object]]:
        for name, start in self.starters.items():
            yield name, start(self.programs, self.prosody, "xml", None)
        if self.has_mod_rest:
            yield MOD_REST, module(self.prosody)

    def echoing(self, form: str) -> Iterator[tuple[str, object]]:
        for name, start in self.starters.items():
            yield name, with_webhook(self.programs, start, self.prosody, form)
        if self.has_mod_rest and form == "xml":
            yield MOD_REST, module(self.prosody)


def round_of(options: Options, report: Report, section: str, gateways, count: int, measurement) -> None:
    for name, gateway in gateways:
        own_count = options.count(count // 3 if name == MOD_REST else count)
        try:
            with gateway as running:
                found = measurement(running, own_count)
        except BenchError as error:
            report.note(f"{section}: {name}: {error}")
            continue
        report.add(section, name, **found)
        print(
            f"  {section}: {name}: " + ", ".join(f"{k.replace('_', ' ')} {v:,.1f}" for k, v in found.items()),
            flush=True,
        )


def memory(programs: Programs, report: Report, prosody: Prosody) -> None:
    """Ours alone: idle, and with many requests waiting for an answer that does not come."""
    silent = component(prosody.address, SINK, iq="ignore", count=1)
    with (
        ours(programs, prosody, "xml", None) as running,
        Process("the silent contact", [programs.c / "drive", "connect", "sink"], silent) as contact,
    ):
        contact.expect("ready")
        report.add("memory", OURS, idle_mb=resident_mb(running.process.pid))
        with Process(
            "the waiting clients",
            [programs.c / "httpload", "hold"],
            running.load(to=f"user@{SINK}", connections=BATCH),
        ) as clients:
            for waiting in range(BATCH, WAITING + 1, BATCH):
                clients.go()
                clients.expect("held")
                wait_until_waiting(running, waiting)
            report.add("memory", OURS, waiting_mb=resident_mb(running.process.pid))


def wait_until_waiting(running: Running, count: int, timeout: float = 60.0) -> None:
    """Until the gateway says that so many requests wait: what the kernel still holds costs it nothing."""
    deadline = time.monotonic() + timeout
    while (pending := iq_pending(running.metrics)) != count:
        if time.monotonic() > deadline:
            raise BenchError(f"{pending} requests wait at {running.process.name} after {timeout:.0f} s, not {count}")
        time.sleep(0.02)


def iq_pending(metrics: str) -> int:
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("appxmpp_iq_pending"))


def run(options: Options, programs: Programs, report: Report) -> None:
    with ExitStack() as stack:
        app, callback = webhook(programs, "xml")
        stack.enter_context(app)
        plugins, callbacks = None, None
        try:
            plugins = mod_rest.plugin_folder(options.mod_rest, options.out)
            callbacks = {REST: f"http://{callback}/stanzas"}
        except BenchError as error:
            report.leave_out(MOD_REST, str(error))
        prosody = stack.enter_context(Prosody(COMPONENTS, plugins=plugins, rest_callbacks=callbacks))
        gateways = Gateways(programs, report, prosody, callbacks is not None)
        for number in range(options.rounds):
            print(f"  round {number + 1} of {options.rounds}", flush=True)
            for connections, count in POST_COUNTS.items():
                round_of(
                    options,
                    report,
                    f"POST /rest, {connections} connections",
                    in_turn(gateways.posting(), number),
                    count,
                    lambda running, n, c=connections: post(programs, prosody, running, c, n),
                )
            for form in FORMS:
                for outstanding, count in ECHO_COUNTS.items():
                    round_of(
                        options,
                        report,
                        f"webhook echo ({form}), {outstanding} outstanding",
                        in_turn(gateways.echoing(form), number),
                        count,
                        lambda running, n, w=outstanding: webhook_echo(programs, prosody, running, w, n),
                    )
            if OURS in gateways.starters:
                try:
                    memory(programs, report, prosody)
                except BenchError as error:
                    report.note(f"memory: {error}")
    judge(report)


def judge(report: Report) -> None:
    for connections in POST_COUNTS:
        section = f"POST /rest, {connections} connections"
        report.compare(section, "rate against the raw gateway", "≥ 0.9", OURS, RAW, "per_second")
        report.compare(section, "rate against mod_rest", "≥ 3.3", OURS, MOD_REST, "per_second")
        report.within(section, "CPU per POST", "≤ 25 µs", OURS, "cpu_us")
    for form in FORMS:
        for outstanding in ECHO_COUNTS:
            judge_echo(report, form, outstanding)
    report.within("memory", "resident when idle", "≤ 20 MB", OURS, "idle_mb")
    report.within("memory", f"resident with {WAITING:,} waiting iq requests", "≤ 60 MB", OURS, "waiting_mb")


def judge_echo(report: Report, form: str, outstanding: int) -> None:
    section, xml = (f"webhook echo ({f}), {outstanding} outstanding" for f in (form, "xml"))
    if outstanding == 1:
        ours, theirs = (report.values(section, name, "p50_us") for name in (OURS, RAW))
        gaps = [a - b for a, b in zip(ours, theirs, strict=False)]
        measured = statistics.median(gaps) if gaps else None
        report.target(section, "p50 above the raw gateway's", "≤ 150 µs", measured, gaps)
        return
    report.compare(section, "rate against the raw gateway", "≥ 0.9", OURS, RAW, "per_second")
    # mod_rest has no App Engine form: both of ours are held against the one it has.
    rates = zip(report.values(section, OURS, "per_second"), report.values(xml, MOD_REST, "per_second"), strict=False)
    ratios = [a / b for a, b in rates if b]
    measured = statistics.median(ratios) if ratios else None
    report.target(section, "rate against mod_rest", "≥ 3", measured, ratios, peer=MOD_REST)
    report.within(section, "CPU per round trip", "≤ 50 µs", OURS, "cpu_us")
