"""A contact that writes and reads fast, logs in again whenever its connection ends, and keeps book."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

from ..server import Account, Server

CLIENT = "{jabber:client}"
CONDITION = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
PING = "<ping xmlns='urn:xmpp:ping'/>"


class Contact:
    """One account with one resource, on the loop that runs `live`."""

    def __init__(self, server: Server, account: Account) -> None:
        self.bare = account.jid
        self.name = account.jid.partition("@")[0]
        #: (body, id) of each message, in the order of their arrival.
        self.heard: list[tuple[str, str]] = []
        #: The ids of own stanzas that came back as errors, and the conditions.
        self.bounced: dict[str, str] = {}
        #: The ids of own iqs that were answered.
        self.answered: set[str] = set()
        self.online = asyncio.Event()
        self.account, self._server = account, server
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[Callable[[], bool], asyncio.Event] = {}

    async def live(self) -> None:
        """Stays logged in until it is cancelled."""
        while True:
            with contextlib.suppress(OSError, ET.ParseError):
                await self._session()
            self.online.clear()
            if self._writer:
                self._writer.transport.abort()
            await asyncio.sleep(0.05)  # The server is away: nothing says when it is back.

    async def _session(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._server.c2s_port)
        stream = _Stream(reader)
        secret = base64.b64encode(f"\0{self.name}\0{self.account.password}".encode()).decode()
        self._open()
        await stream.restart()
        self._write(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>")
        if not (await stream.element()).tag.endswith("success"):
            raise ConnectionError(f"{self.bare} cannot log in")
        self._open()
        await stream.restart()
        resource = "<resource>phone</resource>"
        self._write(f"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{resource}</bind></iq>")
        await stream.element()
        self._write("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq><presence/>")
        self.online.set()
        while True:
            self._take(await stream.element())

    def _open(self) -> None:
        self._write(
            f"<stream:stream to='{self._server.domain}' version='1.0' xmlns='jabber:client'"
            " xmlns:stream='http://etherx.jabber.org/streams'>"
        )

    def _write(self, text: str) -> None:
        if self._writer is None or self._writer.transport.is_closing():
            raise ConnectionError(f"{self.bare} is not connected")
        self._writer.write(text.encode())

    def relogin(self) -> None:
        """Ends the connection; another one fetches what the server kept meanwhile."""
        if self._writer:
            self._writer.transport.abort()

    def _take(self, stanza: ET.Element) -> None:
        identity = stanza.get("id", "")
        if stanza.get("type") == "error":
            conditions = [it.tag for it in stanza.iter() if it.tag.startswith(CONDITION)]
            self.bounced[identity] = conditions[0].removeprefix(CONDITION) if conditions else ""
        elif stanza.tag == CLIENT + "message" and (body := stanza.findtext(CLIENT + "body")) is not None:
            self.heard.append((body, identity))
        elif stanza.tag == CLIENT + "iq" and stanza.get("type") == "result":
            self.answered.add(identity)
        for question, event in self._waiting.items():
            if question():
                event.set()

    async def until(self, question: Callable[[], bool]) -> None:
        """Returns once the answer is true; it is asked after each stanza."""
        event = asyncio.Event()
        if question():
            return
        self._waiting[question] = event
        try:
            await event.wait()
        finally:
            del self._waiting[question]

    async def say(self, to: str, body: str) -> bool:
        """A message whose id is its body; whether it was written."""
        return await self._send(f"<message to='{to}' id='{body}' type='chat'><body>{body}</body></message>")

    async def ping(self, to: str, identity: str) -> bool:
        return await self._send(f"<iq to='{to}' id='{identity}' type='get'>{PING}</iq>")

    async def _send(self, text: str) -> bool:
        if not self.online.is_set() or self._writer is None:
            return False
        try:
            self._write(text)
            await self._writer.drain()
        except OSError:
            return False
        return True


class _Stream:
    """Elements one level below the stream's."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def restart(self) -> None:
        """Reads the header of a new stream, and its features."""
        self._parser: Any = ET.XMLPullParser(["start", "end"])
        self._depth = 0
        self._events = iter(())
        self._root: ET.Element | None = None
        await self.element()

    async def element(self) -> ET.Element:
        while True:
            for event, element in self._parser.read_events():
                if event == "start":
                    self._root = element if self._depth == 0 else self._root
                    self._depth += 1
                    continue
                self._depth -= 1
                if self._depth == 0:
                    raise ConnectionError("the server closed the stream")
                if self._depth == 1:
                    with contextlib.suppress(ValueError, AttributeError):
                        self._root.remove(element)  # type: ignore[union-attr]
                    complete: ET.Element = element
                    return complete
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError("the stream ended")
            self._parser.feed(data)
