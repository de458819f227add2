"""A component that is not ours (slixmpp), for proving the harness and for taking a domain away from the product."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import slixmpp

from . import aio
from .server import Server


class EchoComponent:
    """Answers every message with its body, from the address it was written to."""

    def __init__(self, server: Server, domain: str = "myapp.localhost", port: int | None = None) -> None:
        self.domain = domain
        aio.run(self._connect(domain, server.components[domain], port or server.component_port))

    async def _connect(self, domain: str, secret: str, port: int) -> None:
        self._component: Any = slixmpp.ComponentXMPP(  # type: ignore[no-untyped-call]
            domain, secret, "127.0.0.1", port
        )
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(error: object = None) -> None:
            if not ready.done():
                if error is None:
                    ready.set_result(None)
                else:
                    ready.set_exception(AssertionError(f"{domain} was not accepted: {error}"))

        self._component.add_event_handler("session_start", lambda _: settle())
        for failure in ("connection_failed", "stream_error", "disconnected"):
            self._component.add_event_handler(failure, lambda reason, what=failure: settle(f"{what} {reason}"))
        self._component.add_event_handler("message", self._echo)
        self._component.connect()
        await ready

    def _echo(self, message: slixmpp.Message) -> None:
        if message["type"] in ("chat", "normal") and message["body"]:
            self._component.send_message(message["from"], message["body"], mfrom=message["to"], mtype="chat")

    def raw(self, xml: str) -> None:
        """Writes it into the stream as it is."""
        aio.call(self._component.send_raw, xml)

    def close(self) -> None:
        async def leave() -> None:
            await self._component.disconnect(wait=1.0)

        aio.run(leave())

    def __enter__(self) -> EchoComponent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
