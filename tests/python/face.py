"""What the tests of the App Engine face share: a backend that writes down what it is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from appxmpp import backend
from golden_runner import Environment

OWN = "myapp@appspot.com/bot"
USER = "romeo@example.net/orchard"


class Recorder(backend.Backend):
    """Accepts everything, or raises `error`; `calls` holds (function, arguments)."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.presence: Any = (True, 0, True)

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    def send_message(self, jids, body, from_jid, message_type, raw_xml):
        self._note("message", list(jids), body, from_jid, message_type, raw_xml)
        return [0] * len(jids)

    def send_presence(self, jid, presence_type, show, status, from_jid):
        self._note("presence", jid, presence_type, show, status, from_jid)

    def send_invite(self, jid, from_jid):
        self._note("invite", jid, from_jid)

    def get_presence(self, jids, from_jid):
        self._note("ask", list(jids), from_jid)
        return [self.presence] * len(jids)

    @property
    def bodies(self) -> list[str]:
        return [call[2] for call in self.calls if call[0] == "message"]


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """A process of the app `myapp` whose calls go to a Recorder."""
    recorder = Recorder()
    with Environment():
        backend.set(recorder)
        yield recorder


def form(body: str | bytes = "hello", sender: str = USER, to: str = OWN) -> dict[str, Any]:
    """The fields of an inbound chat message."""
    return {"from": sender, "to": to, "body": body}


def multipart(fields: list[tuple[str, str]]) -> tuple[str, bytes]:
    """Content type and body as App Engine posted them (contract section 7)."""
    boundary = "----=abcdefghijklmnopqrstuvwxy"
    parts = []
    for name, value in fields:
        kind = "text/xml" if name == "stanza" else "text/plain"
        parts.append(
            f'--{boundary}\r\nContent-Type: {kind}; charset="UTF-8"\r\n'
            f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        )
    body = "".join(parts) + f"--{boundary}--\r\n"
    return f'multipart/form-data; boundary="{boundary}"', body.encode()
