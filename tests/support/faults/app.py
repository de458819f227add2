"""The counting app: it answers as badly as it is told to, and keeps book of what it got."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass

from .. import folders

#: Seconds. An app that stood still for so long may have answered when nobody waited for that any more.
_STANDS_STILL = 0.4
_TICK = 0.1
OK, ERROR, UNAVAILABLE, HANG, BREAK, DOWN = "200", "500", "503", "hangs", "closes in mid-answer", "is down"
_BODY = re.compile(rb"<body>([^<]*)</body>|name=\"?body\"?[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n")


@dataclass(frozen=True)
class Got:
    """A request it read as a whole."""

    body: str
    delivery: str
    #: Whether it was answered, for good.
    answered: bool
    #: Whether with a message.
    replied: bool
    #: When, by the monotonic clock.
    at: float


class CountingApp:
    """An HTTP server on a port of its own."""

    def __init__(self, replies: bool) -> None:
        """With `replies` it is a mod_rest callback that answers messages; else App Engine's forms are posted to it."""
        self.port = folders.free_ports(1)[0]
        self.mode = OK
        self.got: list[Got] = []
        self.replies = replies
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._mended = asyncio.Event()
        self._stood_still: list[tuple[float, float]] = []
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._watch = self._watch or asyncio.create_task(self._notice())
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)

    async def set(self, mode: str) -> None:
        self.mode = mode
        if mode == DOWN:
            await self.stop()
        elif self._server is None:
            await self.start()
        if mode != HANG:
            self._mended.set()
            self._mended = asyncio.Event()

    async def _notice(self) -> None:
        """Keeps book of when this program did not run."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            if now - before > _TICK + _STANDS_STILL:
                self._stood_still.append((before, now + _TICK))

    def is_final(self, got: Got) -> bool:
        """Whether whoever delivered it must have its answer."""
        return got.answered and not any(begun <= got.at <= ended for begun, ended in self._stood_still)

    async def close(self) -> None:
        if self._watch:
            self._watch.cancel()
        await self.stop()

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._exchange(reader, writer):
                pass
        self._writers.discard(writer)
        writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(re.findall(r"(?mi)^([a-z-]+): *(.*?)\r$", head.lower()))
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        mode = self.mode
        if head.startswith("OPTIONS"):
            writer.write(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")
            return True
        found = _BODY.search(body)
        text = (found[1] or found[2] or b"").decode() if found else ""
        if text:
            replied = mode == OK and self.replies
            delivery, answered = fields.get("appxmpp-delivery", ""), mode in (OK, ERROR)
            self.got.append(Got(text, delivery, answered, replied, time.monotonic()))
        if mode == HANG:
            await self._mended.wait()
            return False
        if mode == BREAK:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")
            await writer.drain()
            return False
        writer.write(self._answer(mode, text))
        await writer.drain()
        return True

    def _answer(self, mode: str, text: str) -> bytes:
        if mode != OK:
            return f"HTTP/1.1 {mode} Trouble\r\nContent-Length: 0\r\n\r\n".encode()
        if not self.replies or not text:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        reply = f"<message type='chat'><body>re:{text}</body></message>".encode()
        kind = b"Content-Type: application/xmpp+xml\r\n"
        return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (kind, len(reply), reply)
