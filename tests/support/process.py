"""Child processes that say when they are ready, keep their output, and never outlive the tests."""

from __future__ import annotations

import collections
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from .waiting import PATIENCE


def as_user(user: str | None) -> list[str]:
    """The command prefix that runs a program as `user` (when we are root) and kills it when we die."""
    if not shutil.which("setpriv"):
        raise RuntimeError("setpriv not found: install util-linux (make setup does)")
    prefix = ["setpriv", "--pdeathsig", "KILL"]
    if user and os.geteuid() == 0:
        prefix += ["--reuid", user, "--regid", user, "--clear-groups"]
    return prefix


class Process:
    """A program in a session of its own. Start it from a thread that lives as long as it should.

    The kernel kills it when the thread that started it ends, so that a crashed or killed test run leaves nothing.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        user: str | None = None,
        log: Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.name = name
        self._tail: collections.deque[str] = collections.deque(maxlen=400)
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._log = log.open("a", encoding="utf-8") if log else None
        self._child = subprocess.Popen(
            [*as_user(user), *argv],
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            bufsize=1,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def stdin(self) -> object:
        return self._child.stdin

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if self._log:
                self._log.write(line)
                self._log.flush()
            with self._changed:
                self._tail.append(line)
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for_line(self, *patterns: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Waits until every pattern was seen in the output so far; returns the match of the last one."""
        found: dict[str, re.Match[str]] = {}
        seen = 0

        def all_there() -> bool:
            nonlocal seen
            for line in self._lines[seen:]:
                for pattern in patterns:
                    if pattern not in found and (match := re.search(pattern, line)):
                        found[pattern] = match
            seen = len(self._lines)
            return len(found) == len(patterns) or self._ended

        with self._changed:
            self._changed.wait_for(all_there, timeout)
        missing = [pattern for pattern in patterns if pattern not in found]
        if missing:
            state = f"ended with {self._child.wait()}" if self._ended else f"is silent for {timeout:.0f} s"
            raise AssertionError(f"{self.name} {state} before it said {missing}:\n{self.output()}")
        return found[patterns[-1]]

    def output(self) -> str:
        """The last lines it wrote."""
        with self._changed:
            return "".join(self._tail)

    def all_output(self) -> str:
        with self._changed:
            return "".join(self._lines)

    def running(self) -> bool:
        return self._child.poll() is None

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit status (negative: the signal), once it has ended and its output is read."""
        try:
            status = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout:.0f} s:\n{self.output()}") from None
        self._reader.join(5)
        return status

    def signal(self, number: int) -> None:
        if self.running():
            os.kill(self._child.pid, number)

    def stop(self, timeout: float = 10) -> int:
        """SIGTERM, and SIGKILL for the whole session if that did not do."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()
        finally:
            self._close()

    def kill(self) -> int:
        if self.running():
            os.killpg(self._child.pid, signal.SIGKILL)
        status = self._child.wait(10)
        self._close()
        return status

    def _close(self) -> None:
        self._reader.join(5)
        if self._log and not self._log.closed and not self._reader.is_alive():
            self._log.close()
