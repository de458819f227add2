"""What became of a run: nothing that was acknowledged may be lost, nothing out of order, no repeat with another id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..proxy import TO_CLIENT, TO_SERVER
from .app import CountingApp
from .contact import Contact
from .senders import Bot, Ledger
from .tap import Message, Recording

#: A repeat is needless when its message was acknowledged so long before the connection or the process ended.
SLACK = 1.0


@dataclass
class Verdict:
    """Counts of one run; what must not be is told in `faults`."""

    sent: int = 0
    promised: int = 0
    refused: int = 0
    written: int = 0
    received: int = 0
    bounced: int = 0
    #: Written by contacts into a connection that was cut, and acknowledged by nobody: XEP-0114's loss.
    cut: int = 0
    #: Read by the server, which was killed before it passed them on.
    lost_by_server: int = 0
    duplicated: int = 0
    lost: int = 0
    disordered: int = 0
    problems: list[str] = field(default_factory=list)

    def fault(self, kind: str, what: Iterable[str]) -> int:
        listed = list(what)
        if listed:
            self.problems.append(f"{kind}: {len(listed)}, like {', '.join(listed[:5])}")
        return len(listed)


class Book:
    """All that is known of one run."""

    def __init__(
        self, run: str, bot: Bot, ledger: Ledger, contacts: list[Contact], app: CountingApp, recording: Recording
    ) -> None:
        self._run, self._bot, self._ledger, self._app, self._recording = run, bot, ledger, app, recording
        self._contacts = contacts
        #: Whether the answers to one contact all go over one connection at a time.
        self.replies_in_order = True
        #: Whether a message that was under way to a process when that was killed, and that nobody was told of, has its
        #: place too.
        self.unanswered_in_order = True

    def _outbound(self) -> dict[str, list[tuple[int, str]]]:
        """Stream -> (number, id) as the contact heard them."""
        streams: dict[str, list[tuple[int, str]]] = {stream: [] for stream in self._ledger.sent}
        for contact in self._contacts:
            for body, identity in contact.heard:
                run, _, rest = body.partition(".")
                stream, _, number = rest.rpartition(".")
                stream = stream.replace("-*", f"-{contact.name}")
                if run == self._run and stream in streams:
                    streams[stream].append((int(number), identity))
        return streams

    def _inbound(self) -> dict[str, list[tuple[int, str]]]:
        """Contact -> (number, delivery id) as the app got them; attempts that it did not answer are not counted."""
        streams: dict[str, list[tuple[int, str]]] = {contact.name: [] for contact in self._contacts}
        tried: set[str] = set()
        answered: set[str] = set()
        for got in self._app.got:
            run, _, rest = got.body.partition(".")
            name, _, number = rest.rpartition(".")
            if run == self._run and name in streams and (got.body in answered or got.body not in tried):
                streams[name].append((int(number), got.delivery))
            tried.add(got.body)
            if got.answered:
                answered.add(got.body)
        return streams

    def _replies(self) -> dict[str, list[tuple[int, str]]]:
        """Contact -> (number of its message, id of the reply)."""
        start = f"re:{self._run}."
        return {
            contact.name: [
                (int(body.rpartition(".")[2]), identity) for body, identity in contact.heard if body.startswith(start)
            ]
            for contact in self._contacts
        }

    def _message(self, stream: str, number: int) -> Message:
        name = stream.partition("-")[2]
        bare = next(contact.bare for contact in self._contacts if contact.name == name)
        return Message(bare, f"{self._run}.{self._ledger.called[stream]}.{number}")

    def missing_outbound(self) -> list[Message]:
        heard = self._outbound()
        missing: list[Message] = []
        for stream, promised in self._ledger.promised.items():
            there = {number for number, _ in heard[stream]}
            missing += [self._message(stream, number) for number in sorted(promised - there)]
        # The app is told of what the server sends back, as ejabberd does when it has kept 100 for a contact.
        back = self._recording.sent_back() if missing else set()
        return [message for message in missing if message not in back]

    def missing_inbound(self) -> list[str]:
        got = {one.body for one in self._app.got}
        excused = {identity for contact in self._contacts for identity in contact.bounced}
        return [body for said in self._ledger.said.values() for body in said if body not in got | excused]

    def missing_replies(self) -> list[Message]:
        """Those of messages that the app took."""
        if not self._app.replies:
            return []
        # Of an answer that the gateway did not live to read there is another one.
        last = {one.body: one.replied for one in self._app.got}
        taken = {body for body, replied in last.items() if replied}
        there = {body.removeprefix("re:") for contact in self._contacts for body, _ in contact.heard}
        bares = {contact.name: contact.bare for contact in self._contacts}
        return [
            Message(bares[body.split(".")[1]], f"re:{body}")
            for body in sorted(taken - there)
            if body.startswith(self._run + ".") and body.split(".")[1] in bares
        ]

    def is_settled(self) -> bool:
        """Whether all that can be asked for is there."""
        if self.missing_outbound() or self.missing_replies():
            return False
        missing = self.missing_inbound()
        return not missing or not self._acknowledged(missing)

    def _acknowledged(self, bodies: list[str]) -> list[str]:
        proven = {message.body for message in self._recording.proven(TO_CLIENT)}
        return [body for body in bodies if body in proven]

    def verdict(self, *, server_was_killed: bool, store_was_away: bool) -> Verdict:
        bounced = {identity for contact in self._contacts for identity in contact.bounced}
        verdict = Verdict(
            sent=sum(len(sent) for sent in self._ledger.sent.values()),
            promised=sum(len(promised) for promised in self._ledger.promised.values()),
            refused=self._ledger.refused,
            written=sum(len(said) for said in self._ledger.said.values()),
            received=len({one.body for one in self._app.got if one.body.startswith(self._run + ".")}),
            bounced=len(bounced & {body for said in self._ledger.said.values() for body in said}),
        )
        lost = self.missing_outbound() + self.missing_replies()
        if server_was_killed and lost:
            read = self._recording.proven(TO_SERVER)
            verdict.lost_by_server = sum(message in read for message in lost)
            lost = [message for message in lost if message not in read]
        verdict.lost += verdict.fault("lost on the way to a contact", (message.body for message in lost))
        missing = self.missing_inbound()
        acknowledged = self._acknowledged(missing)
        verdict.cut = len(missing) - len(acknowledged)
        verdict.lost += verdict.fault("lost on the way to the app", acknowledged)
        self._order(verdict)
        again = set() if store_was_away else self._recording.needless(TO_SERVER, SLACK)
        verdict.fault("sent again though acknowledged", (message.body for message in again))
        return verdict

    def _has_place(self, stream: str, number: int) -> bool:
        promised = self._ledger.promised.get(stream)
        return self.unanswered_in_order or promised is None or number in promised

    def _order(self, verdict: Verdict) -> None:
        # An account's server keeps messages while nobody is there and hands them out beside new ones. What it was not
        # told of it gives again, and the delivery is another one then.
        given = self._recording.passes(TO_CLIENT) if self._bot.is_account else {}
        replies = self._replies() if self.replies_in_order else {}
        for streams, is_given in ((self._outbound(), False), (self._inbound(), True), (replies, True)):
            for stream, seen in streams.items():
                first: dict[int, str] = {}
                late, other, highest = [], [], 0
                for number, identity in seen:
                    body = f"{self._run}.{stream}.{number}"
                    passed = given.get(body, [number]) if is_given else [number]
                    if number in first:
                        verdict.duplicated += 1
                        if first[number] != identity and len(passed) < 2:
                            other.append(body)
                        continue
                    if passed[-1] < highest and self._has_place(stream, number):
                        late.append(body)
                    first[number], highest = identity, max(highest, passed[0])
                verdict.disordered += verdict.fault("out of order", late)
                verdict.fault("twice with another id", other)
