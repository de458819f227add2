"""Brings what the native module says to `logging`: `appxmpp.net`, `appxmpp.store`, …"""

from __future__ import annotations

import atexit
import logging
import os
import threading

from appxmpp import _native

_log = logging.getLogger("appxmpp")
# How long a change of the logger's level may go unnoticed, in seconds.
_LOOK_AGAIN = 1.0


class _Bridge:
    """One thread of this process that pulls records; none is pushed from the core's threads."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.stopping = False
        _native.log_level(_level())
        self.thread = threading.Thread(target=self._work, name="appxmpp-log", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        level = _level()
        while not self.stopping:
            self._log(_LOOK_AGAIN)
            if level != _level():
                level = _level()
                _native.log_level(level)
        self._log(0.0)

    def _log(self, timeout: float) -> None:
        for level, source, text in _native.log_records(timeout):
            logging.getLogger(f"appxmpp.{source}").log(level, "%s", text)

    def stop(self) -> None:
        if self.pid != os.getpid():
            return
        self.stopping = True
        _native.log_level(None)
        self.thread.join(_LOOK_AGAIN)


_bridge: _Bridge | None = None


def _level() -> int:
    return min(_log.getEffectiveLevel(), 100)


def start() -> None:
    """Start, once in a process. It ends with the interpreter."""
    global _bridge
    if _bridge is None or _bridge.pid != os.getpid():
        _bridge = _Bridge()
        atexit.register(_bridge.stop)
