"""What passed between a component and its server, and so what each was proven to have read.

XEP-0114 acknowledges nothing. Proof is an iq that was written behind a message on the same connection and answered: by
the server (the gateway's own questions), or by the gateway (contacts' pings). An account's server counts what it has
handled (XEP-0198).
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..proxy import TO_CLIENT, TO_SERVER

_STANZA = re.compile(rb"<message\b([^>]*)>(?:(?!</message>).)*?<body[^>]*>([^<]*)</body>|<iq\b([^>]*)>", re.DOTALL)
#: What an account's two ends count, and where they begin to.
_COUNTED = re.compile(rb"<(message|iq|presence|enable|resume)\b")
_HANDLED = re.compile(rb"<(a|resumed)\b[^>]*\bh=['\"](\d+)")
_ENABLED = re.compile(rb"<(enable|resume)\b")
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

    def find(self, pattern: re.Pattern[bytes]) -> Iterator[tuple[float, re.Match[bytes]]]:
        """What matches, and when it passed."""
        # A copy: the proxy goes on meanwhile, in another thread.
        for match in pattern.finditer(bytes(self.data)):
            yield self.times[bisect_right(self.offsets, match.start()) - 1], match

    def stanzas(self) -> list[tuple[float, Message | None, dict[str, str]]]:
        """When it passed, and the message, or the attributes of the iq."""
        return [(passed, *_read(match)) for passed, match in self.find(_STANZA)]


def _read(match: re.Match[bytes]) -> tuple[Message | None, dict[str, str]]:
    fields = {name: value for name, _, value in _ATTRIBUTE.findall((match[1] or match[3] or b"").decode())}
    if match[2] is None:
        return None, fields
    return Message(fields.get("to", "").partition("/")[0], match[2].decode()), fields


#: How soon a component asks the server what it has read, once that has answered the question before.
ASKED_WITHIN = 0.2


@dataclass
class _Link:
    flows: dict[str, _Flow] = field(default_factory=lambda: {TO_SERVER: _Flow(), TO_CLIENT: _Flow()})
    ended: float = float("inf")

    def messages(self, direction: str) -> list[Message]:
        return [message for _, message, _ in self.flows[direction].stanzas() if message]

    def proven(self, direction: str) -> dict[Message, float]:
        """The messages whose receiver has shown that it read them, and when it did."""
        if direction == TO_SERVER and _ENABLED.search(bytes(self.flows[TO_SERVER].data)):
            return self._handled()
        back = self.flows[TO_CLIENT if direction == TO_SERVER else TO_SERVER]
        answers = {iq["id"]: at for at, iq in _iqs(back) if "id" in iq and _is_answer(iq, direction)}
        proven: dict[Message, float] = {}
        answered: float | None = None
        for _, message, iq in reversed(self.flows[direction].stanzas()):
            if message is None:
                answered = answers.get(iq["id"], answered) if _is_question(iq) else answered
            elif answered is not None:
                proven[message] = answered
        return proven

    def _handled(self) -> dict[Message, float]:
        """The messages that an account's server has counted, and when it said so."""
        told = [(at, match[1], int(match[2])) for at, match in self.flows[TO_CLIENT].find(_HANDLED)]
        before = next((h for _, kind, h in told if kind == b"resumed"), 0)
        counted = [(match[1], match.start()) for _, match in self.flows[TO_SERVER].find(_COUNTED)]
        begun = next(start for kind, start in counted if kind in (b"enable", b"resume"))
        starts = [start for kind, start in counted if start > begun]
        proven: dict[Message, float] = {}
        for _, match in self.flows[TO_SERVER].find(_STANZA):
            message, _ = _read(match)
            number = before + bisect_right(starts, match.start())
            first = next((at for at, _, h in told if match.start() > begun and h >= number), None)
            if message is not None and first is not None:
                proven[message] = first
        return proven

    def unasked(self, within: float) -> list[Message]:
        """The first message of each group that the component asked about too late, or not at all."""
        answers = {iq.get("id"): at for at, iq in _iqs(self.flows[TO_CLIENT])}
        late: list[Message] = []
        first: tuple[float, Message] | None = None
        free = 0.0
        for at, message, iq in self.flows[TO_SERVER].stanzas():
            if message is not None:
                first = first or (at, message)
                continue
            if not _is_question(iq):
                continue
            if first and at > max(first[0], free) + within:
                late.append(first[1])
            first, free = None, max(free, answers.get(iq["id"], float("inf")))
        if first and self.ended > max(first[0], free) + within and self.ended != float("inf"):
            late.append(first[1])
        return late


def _iqs(flow: _Flow) -> list[tuple[float, dict[str, str]]]:
    return [(at, iq) for at, message, iq in flow.stanzas() if message is None]


def _is_question(iq: dict[str, str]) -> bool:
    """Where processes share a store, its type is one that there is none of."""
    return iq.get("type") not in ("result", "error")


def _is_answer(iq: dict[str, str], direction: str) -> bool:
    """A server sends a component's question to itself back as it is, and answers that to another address."""
    return direction == TO_SERVER or iq.get("type") == "result"


class Recording:
    """A tap for a proxy."""

    def __init__(self) -> None:
        #: Whether the proxy held something back, so that times here are not the component's.
        self.was_held = False
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

    def again(self, cutoff: Callable[[float], float]) -> tuple[Counter[Message], Counter[Message]]:
        """How often messages to the server may come again, and how often they did without need.

        What a connection's end may repeat is what was not proven to be read, `cutoff` of that end at the latest."""
        may: Counter[Message] = Counter()
        needless: Counter[Message] = Counter()
        known: set[Message] = set()
        for _, link in sorted(self._links.items()):
            there = set(link.messages(TO_SERVER))
            needless.update(known & there)
            proven = {message for message, at in link.proven(TO_SERVER).items() if at < cutoff(link.ended)}
            known |= proven
            may.update(there - proven)
        return may, needless

    def unasked(self, slack: float) -> list[Message]:
        """Messages that no question followed in time, though none was open and the connection lived."""
        links = list(self._links.values())
        return [] if self.was_held else [late for link in links for late in link.unasked(ASKED_WITHIN + slack)]
