"""The scaling section: several gateways on one PostgreSQL behind one ejabberd, and what each of the three costs."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from .build import Programs
from .gateway import wait_until_ready, webhook
from .measure import GATEWAY, LOAD, component
from .options import Options
from .proc import BenchError, Process, cpu_seconds
from .report import Report
from .servers import SECRET, folders

from support.ejabberd import Ejabberd  # isort: skip
from support.postgres import Postgres  # isort: skip

GATEWAYS = (1, 2, 3)
#: Senders with a message outstanding each, and echoes that show their cost. Several gateways hold an answer for a
#: quarter of a second, so that only many senders keep them busy.
COUNTS = {1: 100, 100: 3_000, 2_000: 20_000}

CONFIG = """\
[[app]]
id = "gateway"
backend = "component://{domain}@{server}"
secret_file = "{folder}/secret"
callback_url = "http://{callback}/stanzas"
[http]
listen = "127.0.0.1:{port}"
metrics = "127.0.0.1:{metrics}"
[store]
url = "{store}"
[log]
level = "warn"
"""


def family(pid: int) -> list[int]:
    """A process and its children: PostgreSQL has one for each connection."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


class Site:
    """One server, one database, one app, and as many gateways as are to share them."""

    def __init__(self, programs: Programs, stack: ExitStack) -> None:
        self._programs, self._stack = programs, stack
        try:
            self.server = stack.enter_context(Ejabberd({GATEWAY: SECRET, LOAD: SECRET}))
            self.postgres = stack.enter_context(Postgres(fsync=True))
        except (AssertionError, RuntimeError) as error:
            raise BenchError(str(error)) from error
        app, self._callback = webhook(programs, "xml")
        stack.enter_context(app)
        app.expect("ready")
        self._store = self.postgres.database()
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="appxmpp-bench-")))
        secret = self._folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET + "\n")
        self.gateways: list[Process] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.component_port}"

    def add_gateway(self) -> None:
        port, metrics = folders.free_ports(2)
        config = self._folder / f"{port}.toml"
        config.write_text(
            CONFIG.format(
                domain=GATEWAY,
                server=self.address,
                folder=self._folder,
                callback=self._callback,
                port=port,
                metrics=metrics,
                store=self._store,
            )
        )
        process = Process("a gateway", [self._programs.gateway, "gateway", "--config", config])
        self.gateways.append(self._stack.enter_context(process))
        wait_until_ready(port, process)

    def cpu(self) -> dict[str, float]:
        children = family(self.postgres.pid)
        return {
            "gateways": sum(gateway.cpu() for gateway in self.gateways),
            "postgres": sum(cpu_seconds(pid) for pid in children),
            "ejabberd": cpu_seconds(self.server.pid),
        }

    def transactions(self) -> int:
        """How many have written something so far."""
        return int(self.postgres.query("SELECT pg_snapshot_xmax(pg_current_snapshot())")[0][0])


def echo(programs: Programs, site: Site, outstanding: int, count: int) -> dict[str, float]:
    """Users write, each message is delivered to the app, and its answer is stored and sent back."""
    settings = component(site.address, LOAD, to=f"bot@{GATEWAY}", count=count, window=outstanding)
    with Process("the users", [programs.c / "drive", "connect", "echo"], settings) as users:
        users.expect("ready")
        before, written = site.cpu(), site.transactions()
        users.go()
        result = users.result(300)
        after, written = site.cpu(), site.transactions() - written
    spent = {name: (after[name] - before[name]) / count * 1e6 for name in before}
    return {
        "per_second": result["rate"],
        "p50_us": result["p50_us"],
        "cpu_us": spent["gateways"],
        "server_cpu_us": spent["ejabberd"],
        "store_cpu_us": spent["postgres"],
        "transactions": written / count,
        "transaction_cpu_us": spent["postgres"] * count / max(1, written),
    }


def run(options: Options, programs: Programs, report: Report) -> None:
    for number in range(options.rounds):
        with ExitStack() as stack:
            site = Site(programs, stack)
            for gateways in GATEWAYS:
                site.add_gateway()
                for outstanding, count in COUNTS.items():
                    found = echo(programs, site, outstanding, max(100, round(count * options.scale)))
                    section = f"scaling, {outstanding:,} outstanding"
                    report.add(section, f"{gateways} gateway{'s' * (gateways > 1)}", **found)
                    shown = ", ".join(f"{k.replace('_', ' ')} {v:,.2f}" for k, v in found.items())
                    print(f"  {number + 1}/{options.rounds} {section}: {gateways}: {shown}", flush=True)
