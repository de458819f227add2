"""A disk of 8 MB that may be filled: a file system in memory that only those see who are in its mount namespace."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from ..process import Process, as_user

SIZE = 8 << 20
_MOUNT = f'mount -t tmpfs -o size={SIZE} appxmpp-test "$1" && echo mounted && '


def _unshare() -> list[str]:
    """Root needs no user namespace, which a container may not have."""
    return ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]


@functools.cache
def why_not() -> str | None:
    """Why there can be none here, or None."""
    argv = [*_unshare(), "sh", "-c", f"{_MOUNT} true", "sh", "/mnt"]
    tried = subprocess.run(argv, check=False, capture_output=True, text=True)
    return tried.stderr.strip() or "unshare failed" if tried.returncode else None


class SmallDisk:
    """Lives as long as its process, which does nothing else: a gateway that is killed finds it again."""

    def __init__(self, folder: Path) -> None:
        if why := why_not():
            raise RuntimeError(f"no small disk can be mounted here, and no other one may be filled: {why}")
        script = f"{_MOUNT} exec {' '.join(as_user(None))} sleep infinity"
        self._holder = Process([*_unshare(), "sh", "-c", script, "sh", str(folder)], name="small disk")
        self._holder.wait_for_line("mounted")
        self._folder = Path(f"/proc/{self._holder.pid}/root{folder}")

    @property
    def command(self) -> list[str]:
        """What runs a program that sees it."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self._holder.pid), "--mount", *user, *as_user(None)]

    def fill(self) -> None:
        """To the last byte."""
        there = os.statvfs(self._folder)
        if there.f_blocks * there.f_frsize > SIZE:
            raise RuntimeError(f"{self._folder} is another disk, which is not filled")
        with self._filler.open("wb", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    size //= 2

    def make_room(self) -> None:
        self._filler.unlink()

    @property
    def _filler(self) -> Path:
        return self._folder / "filler"

    def close(self) -> None:
        self._holder.kill()
