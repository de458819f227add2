"""`appxmpp dev`: the application on an embedded server, and a person at the terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TextIO

from appxmpp.appyaml import AppYaml
from appxmpp.exits import Exit
from appxmpp.talk import Line

#: How long a scripted conversation waits for each reply, in seconds.
PATIENCE = 20.0

HELP = """\
What you type goes to the bot. Lines that start with ! are for this program:
  !as JID                 talk as somebody else, for example !as juliet@example.net/balcony
  !to JID                 talk to another address of the app
  !away|!dnd|!xa|!chat [STATUS]   change presence      !back [STATUS]   be available
  !offline                go offline                   !probe           ask for the bot's presence
  !subscribe !unsubscribe ask for, or end, seeing the bot's presence
  !quit                   end (so do Ctrl-D and Ctrl-C)
"""


class Event(Protocol):
    """A stanza the app sent to a simulated person: `appxmpp._native.DevEvent`."""

    @property
    def kind(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def to(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def body(self) -> str | None: ...
    @property
    def show(self) -> str | None: ...
    @property
    def status(self) -> str | None: ...
    @property
    def raw(self) -> str: ...


class DevServer(Protocol):
    """The embedded server: `appxmpp._native.DevServer`."""

    def message(self, sender: str, to: str, body: str) -> None: ...
    def presence(self, sender: str, to: str, type: str, show: str, status: str) -> None: ...
    def next_events(self, max: int, timeout: float) -> Sequence[Any]: ...


class Person:
    """Who is talking, and to whom."""

    def __init__(self, server: DevServer, me: str, bot: str) -> None:
        self._server = server
        self.me = me
        self.bot = bot

    def arrive(self) -> None:
        """Come online, where the bot sees it."""
        self.show()

    def say(self, text: str) -> None:
        """Send a chat message."""
        self._server.message(self.me, self.bot, text)

    def show(self, show: str = "", status: str = "") -> None:
        """Change presence: available, with this show and status."""
        self._server.presence(self.me, self.bot, "", show, status)

    def presence(self, type: str) -> None:
        """Send a presence stanza of `type`."""
        self._server.presence(self.me, self.bot, type, "", "")

    def command(self, line: str) -> str | None:
        """Do what a line that starts with `!` says; what to print, None to end."""
        word, _, rest = line[1:].strip().partition(" ")
        rest = rest.strip()
        if word in ("quit", "exit", "q"):
            return None
        if word in ("as", "to"):
            return self._become(word, rest)
        if word in ("away", "dnd", "xa", "chat", "back"):
            self.show("" if word == "back" else word, rest)
        elif word in ("subscribe", "unsubscribe", "probe"):
            self.presence(word)
        elif word == "offline":
            self.presence("unavailable")
        else:
            return HELP
        return ""

    def _become(self, word: str, jid: str) -> str:
        if not jid:
            return f"!{word} needs an address, such as !{word} juliet@example.net"
        if word == "to":
            self.bot = jid
            return f"talking to {jid}"
        self.me = jid if "/" in jid else f"{jid}/console"
        self.arrive()
        return f"talking as {self.me}"


def describe(event: Event) -> str:
    """One line for what the app sent."""
    if event.kind == "message":
        note = "" if event.type in ("chat", "normal", "") else f" ({event.type})"
        return f"{event.sender}{note}: {event.body if event.body is not None else event.raw}"
    parts = [part for part in (event.type, event.show, event.status) if part]
    return f"{event.sender} is now: {', '.join(parts) or 'available'}"


@contextlib.contextmanager
def opened(native: Any, domain: str, app_id: str, config: AppYaml) -> Iterator[tuple[Any, Any]]:
    """An embedded server for `domain`, and the app's connection to it."""
    server = native.DevServer(domain)
    try:
        services = list(config.inbound_services)
        yield (
            server,
            native.App(
                server.address, secret=None, app_id=app_id, inbound_services=services, state=None
            ),
        )
    finally:
        server.close()


def chat(server: DevServer, person: Person, out: TextIO) -> None:
    """Talk at the terminal until the person has enough."""
    stop = threading.Event()
    printer = threading.Thread(
        target=_print, args=(server, stop, out), name="appxmpp-console", daemon=True
    )
    printer.start()
    out.write(
        f"talking as {person.me} to {person.bot}\n!help lists what else you can do; Ctrl-D ends\n"
    )
    person.arrive()
    try:
        while not stop.is_set():
            line = input(">>> ")
            if not line.startswith("!"):
                if line.strip():
                    person.say(line)
                continue
            answer = person.command(line)
            if answer is None:
                break
            if answer:
                print(answer, file=out)
    except (EOFError, KeyboardInterrupt):
        print(file=out)
    finally:
        stop.set()
        printer.join()


def _print(server: DevServer, stop: threading.Event, out: TextIO) -> None:
    while not stop.is_set():
        for event in server.next_events(16, 0.2):
            out.write(f"\r{describe(event)}\n>>> ")
            out.flush()


def play(
    server: DevServer, person: Person, lines: Sequence[Line], out: TextIO = sys.stdout
) -> None:
    """Play a scripted conversation; an Exit says where the bot answered otherwise."""
    person.arrive()
    for line in lines:
        out.write(f"#{line.who} {line.text}\n")
        out.flush()
        if line.who == "me":
            person.say(line.text)
            continue
        reply = _reply(server)
        if reply is None:
            raise Exit(f"line {line.number}: expected {line.text!r}, and no reply came", 1)
        if reply != line.text:
            raise Exit(f"line {line.number}: expected {line.text!r}, got {reply!r}", 1)
    extra = [event.body for event in server.next_events(16, 0.0) if event.kind == "message"]
    if extra:
        raise Exit(f"after the last line the bot said more: {extra[0]!r}", 1)


def _reply(server: DevServer) -> str | None:
    deadline = time.monotonic() + PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        for event in server.next_events(1, left):
            if event.kind == "message":
                return event.body or ""
    return None
