"""A TCP proxy that can be the bad network between a program and its server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType

from . import aio, folders

#: Called with the number of a connection, the direction and bytes; with none when the client or the connection ends.
Tap = Callable[[int, str, bytes], None]

TO_SERVER = "to server"
TO_CLIENT = "to client"


class Proxy:
    """Listens on a loopback `port` of its own and passes bytes on, until told otherwise."""

    def __init__(self, target: int, *, bytes_per_second: int | None = None, tap: Tap | None = None) -> None:
        """`tap` is told of what was passed on: the number of the connection, the direction and the bytes."""
        self.target = target
        self._tap = tap
        self.port = folders.free_ports(1)[0]
        self.accepted = 0
        self.passed = {TO_SERVER: 0, TO_CLIENT: 0}
        self._rate = bytes_per_second
        self._writers: set[asyncio.StreamWriter] = set()
        self._open: dict[str, asyncio.Event] = {}
        self._listener: asyncio.Server | None = None
        aio.run(self._listen())

    async def _listen(self) -> None:
        for direction in (TO_SERVER, TO_CLIENT):
            gate = self._open.setdefault(direction, asyncio.Event())
            gate.set()
        self._listener = await asyncio.start_server(self._link, "127.0.0.1", self.port)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        number = self.accepted
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        pumps = [
            asyncio.ensure_future(self._pump(reader, far_writer, TO_SERVER, number)),
            asyncio.ensure_future(self._pump(far_reader, writer, TO_CLIENT, number)),
        ]
        try:
            await asyncio.gather(*pumps)
        except OSError:
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            for end in (writer, far_writer):
                end.transport.abort()
                self._writers.discard(end)
            if self._tap:
                self._tap(number, "", b"")

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str, number: int
    ) -> None:
        while data := await reader.read(65536 if self._rate is None else max(1, self._rate // 20)):
            await self._open[direction].wait()
            if self._rate is not None:
                await asyncio.sleep(len(data) / self._rate)
            if self._tap:
                self._tap(number, direction, data)
            writer.write(data)
            await writer.drain()
            self.passed[direction] += len(data)
        if self._tap and direction == TO_SERVER:
            self._tap(number, direction, b"")
        with contextlib.suppress(OSError):
            writer.write_eof()

    def block(self, *directions: str) -> None:
        """Nothing passes (in these directions) any more; connections stay open, as when a cable is pulled."""
        for direction in directions or (TO_SERVER, TO_CLIENT):
            aio.call(self._open[direction].clear)

    def mend(self) -> None:
        """Passes on again, what was held back first."""
        for gate in self._open.values():
            aio.call(gate.set)

    def throttle(self, bytes_per_second: int | None) -> None:
        self._rate = bytes_per_second

    def cut(self) -> None:
        """Resets every connection; new ones are taken."""

        def abort() -> None:
            for writer in list(self._writers):
                writer.transport.abort()

        aio.call(abort)

    def refuse(self) -> None:
        """Takes no new connections (and cuts those there are)."""

        async def close() -> None:
            if self._listener:
                self._listener.close()
                self._listener = None

        aio.run(close())
        self.cut()

    def accept(self) -> None:
        """Takes connections again."""
        if self._listener is None:
            aio.run(self._listen())

    def close(self) -> None:
        self.refuse()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
