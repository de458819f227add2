"""Temporary folders that a server under another user may write to, and free ports."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import socket
import tempfile
from pathlib import Path

_PREFIX = "appxmpp-test"


def folder(what: str, user: str | None = None) -> Path:
    """A new folder, owned by `user` when we are root. `remove` it at the end."""
    _sweep()
    path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{os.getpid()}-{what}-"))
    path.chmod(0o755)
    give(path, user)
    return path


def give(path: Path, user: str | None) -> None:
    if user and os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _sweep() -> None:
    """Removes what test runs left behind that were killed before they could clean up."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}-*-*"):
        owner = path.name.removeprefix(f"{_PREFIX}-").split("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            remove(path)


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on, below the range that outgoing connections take theirs from.

    A server that is stopped and started again finds them free, unless another listener was started on purpose.
    """
    found: list[int] = []
    for _ in range(2000):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free loopback ports between 20000 and 32000")
