"""Processes of a run: started, spoken to by lines, measured from outside, always ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path


class BenchError(Exception):
    """A measurement could not be made; the text says what to do."""


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, dead ones included, to the nanosecond (Linux's per-process clock)."""
    return time.clock_gettime((~pid << 3) | 2)


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise BenchError(f"process {pid} has no resident memory: it has ended")


class Process:
    """One program of the benchmark.

    Its settings come from the environment, it tells us things in lines on standard output, we tell it to go on
    with a line on standard input.
    """

    def __init__(self, name: str, argv: list[str], settings: dict | None = None, *, cwd: Path | None = None):
        self.name = name
        env = {**os.environ, **{key: str(value) for key, value in (settings or {}).items()}}
        self.popen = subprocess.Popen(
            [str(a) for a in argv],
            env=env,
            cwd=cwd,
            text=True,
            bufsize=1,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_output(self) -> None:
        for line in self.popen.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        for line in self.popen.stderr:
            self._errors = self._errors[-40:] + [line.rstrip("\n")]

    @property
    def pid(self) -> int:
        return self.popen.pid

    def line(self, timeout: float = 60.0) -> str:
        """The next line it prints."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise BenchError(f"{self.name} said nothing for {timeout:.0f} s{self.last_words()}") from None
        if line is None:
            self.popen.wait()
            self._readers[1].join(1)
            raise BenchError(f"{self.name} ended with status {self.popen.returncode}{self.last_words()}")
        return line

    def expect(self, start: str, timeout: float = 60.0) -> str:
        """The next line, which must begin with `start`."""
        line = self.line(timeout)
        if not line.startswith(start):
            raise BenchError(f"{self.name} said {line!r} where {start!r} was expected{self.last_words()}")
        return line

    def result(self, timeout: float = 120.0) -> dict:
        """The next line, which must be a JSON object."""
        return json.loads(self.expect("{", timeout))

    def go(self) -> None:
        """Tells it to go on."""
        self.tell("go")

    def tell(self, line: str) -> None:
        try:
            self.popen.stdin.write(line + "\n")
            self.popen.stdin.flush()
        except OSError:
            self.line()  # says why it has ended

    def cpu(self) -> float:
        return cpu_seconds(self.pid)

    def last_words(self) -> str:
        return ": " + " | ".join(self._errors[-5:]) if self._errors else ""

    def stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(5)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            with contextlib.suppress(OSError):
                pipe.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
