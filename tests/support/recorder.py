"""What the app under test reports back, over a unix socket, one JSON object per line."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from . import folders
from .listener import serve_each
from .waiting import PATIENCE, Inbox


class Delivery(dict[str, Any]):
    """One report: `path`, `fields` (form name -> value), `environ`, and whatever else the app added."""

    @property
    def path(self) -> str:
        return str(self["path"])

    @property
    def fields(self) -> dict[str, str]:
        return self["fields"]  # type: ignore[no-any-return]


class Recorder:
    """Listens for reports. The app finds it in APPXMPP_TEST_RECORDER (see `report` in tests/python/apps)."""

    def __init__(self) -> None:
        self.deliveries: Inbox[Delivery] = Inbox("delivery to the app")
        self._folder = folders.folder("recorder")
        self.path: Path = self._folder / "socket"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        os.chmod(self.path, 0o666)
        self._socket.listen(16)
        serve_each(self._socket, self._read, "recorder")

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                self.deliveries.put(Delivery(json.loads(line)))

    def expect(self, path: str, timeout: float = PATIENCE, **fields: str) -> Delivery:
        """Takes out the first delivery to this path whose form has these values (`from_` is the field `from`)."""
        wanted = {name.rstrip("_"): value for name, value in fields.items()}

        def fits(delivery: Delivery) -> bool:
            return delivery.path == path and all(delivery.fields.get(n) == v for n, v in wanted.items())

        return self.deliveries.wait(fits, timeout)

    def close(self) -> None:
        self._socket.close()
        folders.remove(self._folder)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
