"""What stands in front of a server to add TLS: takes an encrypted connection, and passes its bytes on in the clear."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from types import TracebackType

from . import aio, folders
from .certs import Certificate, context


class Terminator:
    """Listens with `certificate` on a loopback `port` of its own."""

    def __init__(self, target: int, certificate: Certificate) -> None:
        self.target = target
        self.port = folders.free_ports(1)[0]
        self.accepted = 0
        self._context = context(certificate)
        aio.run(self._listen())

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._link, "127.0.0.1", self.port, ssl=self._context)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        pumps = [_pump(reader, far_writer), _pump(far_reader, writer)]
        with contextlib.suppress(OSError, ssl.SSLError):
            await asyncio.gather(*pumps)
        for end in (writer, far_writer):
            end.transport.abort()

    def close(self) -> None:
        async def close() -> None:
            self._listener.close()

        aio.run(close())

    def __enter__(self) -> Terminator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
