"""PostgreSQL as Debian packages it: a cluster of the tests' own, in a folder, on a unix socket.

`python -m support.postgres -- cargo test` runs a command that finds it in APPXMPP_TEST_POSTGRES (a URL of a database it
may do with as it likes), the same by TLS in APPXMPP_TEST_POSTGRES_TLS, and in APPXMPP_TEST_POSTGRES_AUTHORITIES a
folder with `ours.pem`, who issued its certificate (for localhost), and `other.pem`, who did not. Its exit status is
ours; the cluster is stopped and removed whatever happens.
"""

from __future__ import annotations

import glob
import itertools
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from . import certs, folders
from .daemon import Daemon
from .process import Process, as_user
from .servers import run_beside
from .waiting import PATIENCE, until

#: What a command under `python -m support.postgres` finds the URL in.
VARIABLE = "APPXMPP_TEST_POSTGRES"
#: Who connects over the network says this.
PASSWORD = "s3cret"


def _programs() -> Path | None:
    """The folder of the newest version's programs: they are not on the PATH."""
    versions = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    newest = max(versions, key=lambda path: int(re.sub(r"\D", "", path)), default=None)
    return Path(newest).parent if newest else None


class Postgres(Daemon):
    """One running cluster."""

    user = "postgres"
    _numbers = itertools.count(1)

    def __init__(
        self,
        *,
        fsync: bool = False,
        network: bool = False,
        certificate: certs.Certificate | None = None,
        **settings: str | int,
    ) -> None:
        """Without `fsync` it survives its own end but not the machine's; `settings` are those of postgresql.conf.

        With `network` it listens on 127.0.0.1 too, and with a `certificate` it speaks TLS there.
        """
        programs = _programs()
        if programs is None:
            raise RuntimeError("PostgreSQL is not installed: run `make setup` as root, or apt-get install postgresql")
        self._programs = programs
        self.port = folders.free_ports(1)[0] if network else 5432
        self._settings = {
            "fsync": "on" if fsync else "off",
            "listen_addresses": "127.0.0.1" if network else "",
            "port": self.port,
            **settings,
        }
        super().__init__("postgres")
        try:
            if certificate:
                files = {"ssl_cert_file": certificate.certificate, "ssl_key_file": certificate.key}
                self._settings |= {"ssl": "on", **{name: self._own(path) for name, path in files.items()}}
            password = self.folder / "password"
            password.write_text(PASSWORD)
            options = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}", "--username=appxmpp"]
            options += ["--encoding=UTF8", "--locale=C", "--no-sync"]
            self._run("initdb", "--pgdata", str(self.folder / "data"), *options)
            self.start()
            self._run("createdb", *self._connection(), "appxmpp")
        except BaseException:
            self.close()
            raise

    def _own(self, path: Path) -> str:
        """A copy that only the server reads: it takes no key that others could."""
        copy = self.folder / path.name
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o600)
        folders.give(copy, self.user)
        return str(copy)

    def _run(self, program: str, *arguments: str) -> str:
        argv = [*as_user(self.user), str(self._programs / program), *arguments]
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{program} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _connection(self) -> list[str]:
        return ["--host", str(self.folder), "--port", str(self.port), "--username", "appxmpp"]

    def url(self, database: str = "appxmpp") -> str:
        """Where a program finds it."""
        return f"postgresql:///{database}?host={self.folder}&port={self.port}&user=appxmpp"

    def network_url(self, host: str = "localhost", **options: str | Path) -> str:
        """The same over the network; `options` stand behind the `?`."""
        told = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://appxmpp:{PASSWORD}@{host}:{self.port}/appxmpp?{told}"

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test{next(self._numbers)}"
        self._run("createdb", *self._connection(), name)
        return self.url(name)

    def query(self, sql: str, database: str = "appxmpp") -> list[list[str]]:
        """The rows that `sql` gives, every value as text."""
        plain = ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--field-separator=\t"]
        output = self._run("psql", *self._connection(), *plain, "--dbname", database, "--command", sql)
        return [line.split("\t") for line in output.splitlines()]

    def start(self) -> None:
        """Starts it, and waits until it answers. After `kill` that can take two attempts: the old one's children end a
        moment after it."""

        def started() -> bool:
            settings = [f"--{name}={value}" for name, value in self._settings.items()]
            argv = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
            self._process = Process(
                [*argv, *settings],
                name="postgres",
                cwd=self.folder,
                user=self.user,
                log=self.log,
            )
            try:
                self._process.wait_for_line("database system is ready to accept connections", timeout=60)
            except AssertionError:
                if self._process.running() or "still in use" not in self._process.all_output():
                    raise
                return False
            return True

        until(started, timeout=60, pause=0.1, what="PostgreSQL")

    def stop(self) -> None:
        """Ends it at once and in order: clients lose their connections."""
        if self._process and self._process.running():
            self._process.signal(signal.SIGCONT)
            self._process.signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process.stop()


def main() -> int:
    command = sys.argv[2:] if sys.argv[1:2] == ["--"] else []
    if len(sys.argv) > 1 and not command:
        print("usage: python -m support.postgres [-- COMMAND]", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory() as folder:
            ours, _ = (certs.Authority(Path(folder), name) for name in ("ours", "other"))
            with Postgres(network=True, certificate=ours.issue("DNS:localhost")) as cluster:
                told = {f"{VARIABLE}_TLS": cluster.network_url(), f"{VARIABLE}_AUTHORITIES": folder}
                return run_beside(command, {VARIABLE: cluster.url(), **told})
    except RuntimeError as error:
        print(f"support.postgres: {error}", file=sys.stderr)
        return 69


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
