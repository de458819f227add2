"""What passed between a component and its server, and so what each was proven to have read.

XEP-0114 acknowledges nothing. Proof is an iq that was written behind a message on the same connection and answered: by
the server (the gateway's own pings), or by the gateway (contacts' pings).
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from ..proxy import TO_CLIENT, TO_SERVER

_STANZA = re.compile(rb"<message\b([^>]*)>(?:(?!</message>).)*?<body[^>]*>([^<]*)</body>|<iq\b([^>]*)>", re.DOTALL)
_ATTRIBUTE = re.compile(r"\b(to|from|id|type)=(['\"])(.*?)\2")


class Message(NamedTuple):
    to: str
    body: str


@dataclass
class _Flow:
    data: bytearray = field(default_factory=bytearray)
    #: How much had passed, and when.
    offsets: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def add(self, data: bytes) -> None:
        self.offsets.append(len(self.data))
        self.times.append(time.monotonic())
        self.data += data

    def stanzas(self) -> list[tuple[float, Message | None, dict[str, str]]]:
        """When it passed, and the message, or the attributes of the iq."""
        found = []
        # A copy: the proxy goes on meanwhile, in another thread.
        for match in _STANZA.finditer(bytes(self.data)):
            passed = self.times[bisect_right(self.offsets, match.start()) - 1]
            fields = {name: value for name, _, value in _ATTRIBUTE.findall((match[1] or match[3] or b"").decode())}
            message = (
                Message(fields.get("to", "").partition("/")[0], match[2].decode()) if match[2] is not None else None
            )
            found.append((passed, message, fields))
        return found


@dataclass
class _Link:
    flows: dict[str, _Flow] = field(default_factory=lambda: {TO_SERVER: _Flow(), TO_CLIENT: _Flow()})
    ended: float = float("inf")

    def proven(self, direction: str) -> dict[Message, float]:
        """The messages whose receiver has shown that it read them, and when it did."""
        back = TO_CLIENT if direction == TO_SERVER else TO_SERVER
        # The server sends a component's ping of itself back as it is, and answers that of another address.
        kinds = ("get", "result", "error") if back == TO_CLIENT else ("result",)
        iqs = [(at, iq) for at, message, iq in self.flows[back].stanzas() if message is None]
        answers = {iq["id"]: at for at, iq in iqs if "id" in iq and iq.get("type") in kinds}
        proven: dict[Message, float] = {}
        answered: float | None = None
        for _, message, iq in reversed(self.flows[direction].stanzas()):
            if message is None:
                answered = answers.get(iq["id"], answered) if iq.get("type") == "get" else answered
            elif answered is not None:
                proven[message] = answered
        return proven


class Recording:
    """A tap for a proxy."""

    def __init__(self) -> None:
        self._links: dict[int, _Link] = {}

    def __call__(self, number: int, direction: str, data: bytes) -> None:
        link = self._links.setdefault(number, _Link())
        if data:
            link.flows[direction].add(data)
        else:
            # When the component ended it, not when that came through to the server.
            link.ended = min(link.ended, time.monotonic())

    def proven(self, direction: str) -> set[Message]:
        return {message for link in list(self._links.values()) for message in link.proven(direction)}

    def sent_back(self) -> set[Message]:
        """Messages that the server returned as errors, by whom they were for."""
        back = set()
        for link in list(self._links.values()):
            for _, message, fields in link.flows[TO_CLIENT].stanzas():
                if message and fields.get("type") == "error":
                    back.add(Message(fields.get("from", "").partition("/")[0], message.body))
        return back

    def passes(self, direction: str) -> dict[str, list[int]]:
        """Body -> when it passed, as a number that counts messages."""
        passes: dict[str, list[int]] = {}
        links = [link for _, link in sorted(self._links.items())]
        messages = (message for link in links for _, message, _ in link.flows[direction].stanzas() if message)
        for index, message in enumerate(messages):
            passes.setdefault(message.body, []).append(index)
        return passes

    def needless(self, direction: str, slack: float) -> set[Message]:
        """Messages that passed again although proven to be read `slack` seconds before their connection ended."""
        known: set[Message] = set()
        again: set[Message] = set()
        for _, link in sorted(self._links.items()):
            again |= known & {message for _, message, _ in link.flows[direction].stanzas() if message}
            known |= {message for message, at in link.proven(direction).items() if at < link.ended - slack}
        return again
