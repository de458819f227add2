"""What became of a run: nothing that was acknowledged may be lost, nothing out of order, no repeat with another id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from ..proxy import TO_CLIENT, TO_SERVER
from .app import CountingApp, Got
from .contact import Contact
from .senders import Bot, Ledger
from .tap import Message, Recording

#: How long a busy machine may take to note that something is done. A repeat is needless when that was known so long
#: before the connection or the process ended.
SLACK = 1.0


#: What the gateway says to a sender, and no server does while the gateway is away.
REFUSALS = ("recipient-unavailable", "resource-constraint")
OUTBOUND, INBOUND, REPLIES = "to a contact", "to the app", "in the app's answers"


@dataclass
class Repeats:
    """How often something came again, and how often at most it may."""

    again: int = 0
    bound: int = 0


@dataclass
class Ends:
    """What ended in a run, by the monotonic clock."""

    #: When a process of ours was killed.
    kills: list[float] = field(default_factory=list)
    #: Since when the store is or was away: what is done cannot be noted there.
    store_away: float = float("inf")
    #: What a server had read may be lost with it.
    server_was_killed: bool = False

    def known_until(self, end: float) -> float:
        """What was known to be done by then is not done again after this end of a connection or process."""
        return (min(end, self.store_away) if self.kills else end) - SLACK

    def is_begun(self, at: float, kill: float) -> bool:
        """Whether what the app read then need not have been noted before this kill. It may read it late."""
        return self.known_until(kill) <= at <= kill + SLACK


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
    #: What came more than once, and how much of that is promised at most: to contacts, to the app, and its answers.
    outbound: Repeats = field(default_factory=Repeats)
    inbound: Repeats = field(default_factory=Repeats)
    replies: Repeats = field(default_factory=Repeats)
    #: Refused to its sender, because nobody could say whether it was stored, and there all the same.
    refused_yet_there: int = 0
    lost: int = 0
    disordered: int = 0
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """From JSON."""
        for name in ("outbound", "inbound", "replies"):
            if isinstance(fields := getattr(self, name), dict):
                setattr(self, name, Repeats(**fields))

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
        #: Whether the gateway may refuse nothing that a contact writes: there is room for it.
        self.keeps_everything = False

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
        excused = got | self._bounced()
        return [body for said in self._ledger.said.values() for body in said if body not in excused]

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

    def verdict(self, ends: Ends) -> Verdict:
        bounced = self._bounced()
        written = {body for said in self._ledger.said.values() for body in said}
        verdict = Verdict(
            sent=sum(len(sent) for sent in self._ledger.sent.values()),
            promised=sum(len(promised) for promised in self._ledger.promised.values()),
            refused=self._ledger.refused,
            written=len(written),
            received=len({one.body for one in self._app.got if one.body.startswith(self._run + ".")}),
            bounced=len(bounced & written),
            refused_yet_there=len(bounced & {one.body for one in self._app.got}),
        )
        if self.keeps_everything:
            conditions = {body: it for contact in self._contacts for body, it in contact.bounced.items()}
            refused = [body for body in sorted(bounced & written) if conditions[body] in REFUSALS]
            verdict.fault("refused though there was room", refused)
        lost = self.missing_outbound() + self.missing_replies()
        if ends.server_was_killed and lost:
            read = self._recording.proven(TO_SERVER)
            verdict.lost_by_server = sum(message in read for message in lost)
            lost = [message for message in lost if message not in read]
        verdict.lost += verdict.fault("lost on the way to a contact", (message.body for message in lost))
        missing = self.missing_inbound()
        acknowledged = self._acknowledged(missing)
        verdict.cut = len(missing) - len(acknowledged)
        verdict.lost += verdict.fault("lost on the way to the app", acknowledged)
        self._order(verdict)
        self._repeats_to_contacts(verdict, ends)
        self._repeats_to_app(verdict, ends)
        for kind in ("outbound", "inbound", "replies"):
            repeats: Repeats = getattr(verdict, kind)
            if repeats.again > repeats.bound:
                verdict.problems.append(f"{kind}: {repeats.again} came again, {repeats.bound} may")
        return verdict

    def _bounced(self) -> set[str]:
        return {identity for contact in self._contacts for identity in contact.bounced}

    def _repeats_to_contacts(self, verdict: Verdict, ends: Ends) -> None:
        """An end of a stream or a process repeats what was written since the last question that was answered, and there
        is one every 200 ms. (Or 512 messages, which no run here comes to.)"""
        may, needless = self._recording.again(ends.known_until)
        for message, count in may.items():
            repeats = verdict.replies if message.body.startswith("re:") else verdict.outbound
            repeats.bound += count
        verdict.fault("sent again though acknowledged", (message.body for message in needless))
        if not self._bot.is_account:
            unasked = self._recording.unasked(SLACK)
            verdict.fault("the server was not asked for in time", (message.body for message in unasked))

    def _repeats_to_app(self, verdict: Verdict, ends: Ends) -> None:
        """An attempt that the app did not answer for good is followed by another. A delivery that it answered comes
        again if the process was killed before that was stored: with a reply, one of each sender, whose next one waits
        for it; else those of the last moment. And an account's server hands out again what it was not told of."""
        attempts: dict[tuple[str, str], list[Got]] = {}
        for got in self._app.got:
            if got.body.startswith(self._run + "."):
                attempts.setdefault((got.body, got.delivery), []).append(got)
        final = [got for tries in attempts.values() for got in tries if self._app.is_final(got)]
        repeats = verdict.inbound
        repeats.again = sum(len(tries) for tries in attempts.values()) - len({body for body, _ in attempts})
        repeats.bound = sum(len(tries) for tries in attempts.values()) - len(final)
        # Each delivery has an answer.
        verdict.replies.bound += len(attempts) - len({body for body, _ in attempts})
        if self._bot.is_account:
            passes = self._recording.passes(TO_CLIENT)
            repeats.bound += sum(len(passes[body]) - 1 for body in {body for body, _ in attempts} if body in passes)
        for kill in ends.kills:
            last = [got for got in final if ends.is_begun(got.at, kill)]
            by_sender = {got.body.split(".")[1] for got in last}
            alone = self._app.replies and ends.store_away > kill
            repeats.bound += len(by_sender if alone else last)
        for (body, _), tries in attempts.items():
            needless = [
                f"{body} answered {after.at - before.at:.1f} s before"
                for before, after in pairwise(tries)
                if self._app.is_final(before)
                and not any(ends.is_begun(before.at, kill) and kill <= after.at for kill in ends.kills)
            ]
            verdict.fault("delivered again though answered", needless)

    def _has_place(self, way: str, stream: str, number: int) -> bool:
        if way == OUTBOUND:
            return self.unanswered_in_order or number in self._ledger.promised[stream]
        # A sender that was refused has sent it again, or not: nobody waits for it in its place.
        return f"{self._run}.{stream}.{number}" not in self._bounced()

    def _order(self, verdict: Verdict) -> None:
        # An account's server keeps messages while nobody is there and hands them out beside new ones. What it was not
        # told of it gives again, and the delivery is another one then.
        given = self._recording.passes(TO_CLIENT) if self._bot.is_account else {}
        replies = self._replies() if self.replies_in_order else {}
        for way, streams in ((OUTBOUND, self._outbound()), (INBOUND, self._inbound()), (REPLIES, replies)):
            for stream, seen in streams.items():
                first: dict[int, str] = {}
                late, other, highest = [], [], 0
                for number, identity in seen:
                    body = f"{self._run}.{stream}.{number}"
                    passed = given.get(body, [number]) if way != OUTBOUND else [number]
                    if number in first:
                        if way != INBOUND:
                            (verdict.outbound if way == OUTBOUND else verdict.replies).again += 1
                        if first[number] != identity and len(passed) < 2:
                            other.append(body)
                        continue
                    if passed[-1] < highest and self._has_place(way, stream, number):
                        late.append(f"{body} after {highest}")
                    first[number], highest = identity, max(highest, passed[0])
                verdict.disordered += verdict.fault(f"out of order {way}", late)
                verdict.fault(f"twice with another id {way}", other)
