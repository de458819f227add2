"""A socket whose connections each have a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable


def serve_each(listener: socket.socket, serve: Callable[[socket.socket], None], name: str) -> None:
    """Calls `serve` with each connection, on a thread of its own, until the listener is closed."""

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), name=name, daemon=True).start()

    threading.Thread(target=accept, name=name, daemon=True).start()
