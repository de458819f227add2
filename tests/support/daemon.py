"""What the servers of the tests have in common, whatever they serve."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from typing import ClassVar, TypeVar

from . import folders
from .process import Process

Me = TypeVar("Me", bound="Daemon")


class Daemon(ABC):
    """A process with a folder of its own, which `stop`, `kill`, `start` and `restart` keep and `close` removes."""

    user: ClassVar[str]

    def __init__(self, kind: str) -> None:
        self.folder = folders.folder(kind, self.user)
        self.log = self.folder / "server.log"
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @abstractmethod
    def start(self) -> None:
        """Starts it, and waits until it answers."""

    def stop(self) -> None:
        """Ends it as an operator would, with time to say goodbye."""
        if self._process:
            self._process.stop()

    def kill(self) -> None:
        """Ends it as a power cut would (but for the cache of the operating system, which stays)."""
        if self._process:
            self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """It stays connected and says nothing."""
        assert self._process
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process
        self._process.signal(signal.SIGCONT)

    def close(self) -> None:
        self.stop()
        folders.remove(self.folder)

    def logs(self, lines: int = 60) -> str:
        """The end of its log, for a failing test."""
        if not self.log.exists():
            return "(no log)"
        return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-lines:])

    def __enter__(self: Me) -> Me:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
