"""A Prosody of the benchmark's own: loopback, random ports, own folder and user, stopped at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .proc import BenchError, cpu_seconds

SECRET = "bench-secret"

CONFIG = """\
data_path = "{folder}/data"
pidfile = "{folder}/prosody.pid"
plugin_paths = {{ {plugins} }}
log = {{ warn = "{folder}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}; local_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ }}; component_ports = {{ {component_port} }}; http_ports = {{ {http_port} }}; https_ports = {{ }}
modules_enabled = {{ "posix" }}
modules_disabled = {{ "s2s", "offline" }}
authentication = "internal_plain"

VirtualHost "localhost"
"""


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody has at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_for_port(port: int, alive, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as error:
            if not alive():
                raise BenchError("the server ended at once; is its configuration right?") from error
            if time.monotonic() > deadline:
                raise BenchError(f"nobody listens on port {port} after {timeout:.0f} s") from error
            time.sleep(0.02)


class Prosody:
    """Prosody with XEP-0114 components and, where its module is at hand, a mod_rest component.

    `rest_callbacks` names mod_rest components and where each posts its stanzas.
    """

    def __init__(
        self, components: list[str], *, plugins: Path | None = None, rest_callbacks: dict[str, str] | None = None
    ):
        program = shutil.which("prosody")
        if not program:
            raise BenchError("prosody is not installed: apt-get install prosody")
        self.folder = Path(tempfile.mkdtemp(prefix="appxmpp-bench-"))
        component_port, self.http_port = free_ports(2)
        self.address = f"127.0.0.1:{component_port}"
        config = CONFIG.format(
            folder=self.folder,
            component_port=component_port,
            http_port=self.http_port,
            plugins=f'"{plugins}"' if plugins else "",
        )
        for name in components:
            config += f'\nComponent "{name}"\n\tcomponent_secret = "{SECRET}"\n'
        for name, url in (rest_callbacks or {}).items():
            config += f'\nComponent "{name}" "rest"\n\tcomponent_secret = "{SECRET}"\n\trest_callback_url = "{url}"\n'
        (self.folder / "data").mkdir()
        (self.folder / "prosody.cfg.lua").write_text(config)
        argv = [program, "--config", str(self.folder / "prosody.cfg.lua"), "-F"]
        self.popen = subprocess.Popen(
            self._unprivileged() + argv,
            env={**os.environ, "HOME": str(self.folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_for_port(component_port, lambda: self.popen.poll() is None)
        except BaseException:
            self.stop()
            raise

    def _unprivileged(self) -> list[str]:
        """Prosody does not leave root by itself."""
        if os.geteuid() != 0:
            return []
        try:
            user = pwd.getpwnam("prosody")
        except KeyError:
            raise BenchError(
                "there is no user `prosody`: Debian's package makes one, or run this as an ordinary user"
            ) from None
        for path in [self.folder, *self.folder.rglob("*")]:
            os.chown(path, user.pw_uid, user.pw_gid)
        return ["setpriv", "--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]

    def cpu(self) -> float:
        return cpu_seconds(self.popen.pid)

    def log(self) -> str:
        path = self.folder / "prosody.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(5)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Prosody:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
