"""Who sends while things break: workers of the app over HTTP, and contacts."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from .contact import Contact


@dataclass
class Ledger:
    """What was sent in one run, and what was promised for it."""

    #: Outbound: stream (worker and contact) -> numbers sent, and those that the gateway answered with success.
    sent: dict[str, list[int]] = field(default_factory=dict)
    promised: dict[str, set[int]] = field(default_factory=dict)
    #: Stream -> what it is called in bodies: one body goes to all contacts of a call.
    called: dict[str, str] = field(default_factory=dict)
    refused: int = 0
    #: Inbound: contact -> bodies written.
    said: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Bot:
    """Who the app is: all addresses of a component's domain, or an account's one."""

    #: Where contacts write to, and where they ping: an iq to an account's bare address is its server's to answer.
    jid: str
    full: str
    #: What its processes log in to the gateway with.
    login: str
    secret: str
    #: Where its server listens for it, and what the gateway is told, with the port it is to use instead.
    server_port: int
    backend: Callable[[int], str]

    @property
    def is_account(self) -> bool:
        return "@" in self.login

    def sender(self, name: str) -> str:
        """The address that a process of the app sends from."""
        return self.login if self.is_account else f"{name}@{self.login}"


class Worker:
    """One process of the app: posts messages to contacts, one after the other."""

    def __init__(
        self, name: str, run: str, port: Callable[[], int], bot: Bot, batch: bool, dice: random.Random
    ) -> None:
        """`port` says where the gateway is now.

        With `batch` it uses the private API, each call to all contacts; else POST /rest, one contact each."""
        self._name, self._run, self._port, self._batch, self._dice = name, run, port, batch, dice
        self._sender = bot.sender(name)
        host = bot.login.rpartition("@")[2]
        credentials = base64.b64encode(f"{bot.login}:{bot.secret}".encode()).decode()
        self._head = f"Host: {host}\r\nAuthorization: Basic {credentials}\r\nContent-Type: application/json\r\n"

    async def work(self, contacts: list[Contact], ledger: Ledger, over: asyncio.Event) -> None:
        number = 0
        streams = {contact.bare: f"{self._name}-{contact.name}" for contact in contacts}
        for stream in streams.values():
            ledger.sent[stream], ledger.promised[stream] = [], set()
            ledger.called[stream] = f"{self._name}-*" if self._batch else stream
        writer: asyncio.StreamWriter | None = None
        while not over.is_set():
            number += 1
            to = list(streams) if self._batch else [self._dice.choice(list(streams))]
            for bare in to:
                ledger.sent[streams[bare]].append(number)
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port())
                accepted = await self._post(reader, writer, to, streams, number)
            except (OSError, asyncio.IncompleteReadError):
                accepted = set()
                if writer:
                    writer.transport.abort()
                writer = None
            for bare in accepted:
                ledger.promised[streams[bare]].add(number)
            ledger.refused += len(to) - len(accepted)
            if len(accepted) < len(to):
                await asyncio.sleep(0.02)  # As a caller does that was refused.
        if writer:
            writer.transport.abort()

    async def _post(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        to: list[str],
        streams: dict[str, str],
        number: int,
    ) -> set[str]:
        """Those for whom it was accepted."""
        if self._batch:
            # One call has one body: the contact finds its stream by the sender's name and its own.
            path, call = (
                "/appxmpp/v1/message",
                {"jids": to, "from": self._sender, "body": f"{self._run}.{self._name}-*.{number}"},
            )
        else:
            body = f"{self._run}.{streams[to[0]]}.{number}"
            path, call = "/rest", {"kind": "message", "type": "chat", "to": to[0], "from": self._sender, "body": body}
        data = json.dumps(call).encode()
        writer.write(f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split()[1])
        length = next((int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0)
        answer = await reader.readexactly(length)
        if status == 202 or (status == 200 and not self._batch):
            return set(to)
        if status == 200:
            statuses = json.loads(answer)["statuses"]
            return {bare for bare, one in zip(to, statuses, strict=True) if one == 0}
        return set()


async def write(contact: Contact, bot: Bot, run: str, ledger: Ledger, over: asyncio.Event, pause: float) -> None:
    """A contact writes to the app, and pings it now and then: what is behind an answered ping was received."""
    said = ledger.said.setdefault(contact.name, [])
    number = 0
    while not over.is_set():
        number += 1
        body = f"{run}.{contact.name}.{number}"
        if await contact.say(bot.jid, body):
            said.append(body)
        if number % 10 == 0:
            await contact.ping(bot.full, f"{body}.ping")
        await asyncio.sleep(pause)
