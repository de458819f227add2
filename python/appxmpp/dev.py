"""`appxmpp dev`: the application on an embedded server, and a person at the terminal."""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from appxmpp import _native, errors
from appxmpp._native import App, DevEvent, DevServer
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


class Person:
    """Who is talking, and to whom."""

    def __init__(self, server: DevServer, me: str, bot: str) -> None:
        self._server = server
        self.me = me
        self.bot = bot

    def arrive(self) -> None:
        """Come online, where the bot sees it."""
        self._server.add_user(self.me, True)
        self.show()

    def say(self, text: str) -> None:
        """Send a chat message."""
        self._server.message(self.me, self.bot, text)

    def show(self, show: str = "", status: str = "") -> None:
        """Change presence: available, with this show and status."""
        self._server.presence(self.me, True, show, status, to=self.bot)

    def leave(self) -> None:
        """Go offline."""
        self._server.presence(self.me, False, to=self.bot)

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
        elif word in ("subscribe", "unsubscribe"):
            self._server.subscription(self.me, self.bot, word)
        elif word == "probe":
            self._server.probe(self.me, self.bot)
        elif word == "offline":
            self.leave()
        else:
            return HELP
        return ""

    def _become(self, word: str, jid: str) -> str:
        if not jid:
            return f"!{word} needs an address, such as !{word} juliet@example.net"
        before = (self.me, self.bot)
        if word == "to":
            self.bot = jid
        else:
            self.me = jid if "/" in jid else f"{jid}/console"
        try:
            self.arrive()
        except BaseException:
            self.me, self.bot = before
            raise
        return f"talking as {self.me} to {self.bot}"


def describe(event: DevEvent) -> str | None:
    """One line for what the app sent; None for what is of no interest here."""
    if event.kind not in ("message", "presence"):
        return None
    if event.kind == "message":
        note = "" if event.type in ("chat", "normal", "") else f" ({event.type})"
        return f"{event.sender}{note}: {event.body if event.body is not None else event.raw}"
    parts = [part for part in (event.type, event.show, event.status) if part]
    return f"{event.sender} is now: {', '.join(parts) or 'available'}"


@contextlib.contextmanager
def opened(domain: str, app_id: str, config: AppYaml) -> Iterator[tuple[DevServer, App]]:
    """An embedded server for `domain`, and the app's connection to it."""
    secret = secrets.token_hex(16)
    server = _native.DevServer(domain, secret=secret)
    try:
        services = list(config.inbound_services)
        yield (
            server,
            _native.App(server.backend, secret=secret, app_id=app_id, inbound_services=services),
        )
    finally:
        server.stop()


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
                _say(person, line, out)
                continue
            try:
                answer = person.command(line)
            except errors.Error as error:
                answer = str(error)
            if answer is None:
                break
            if answer:
                print(answer, file=out)
    except (EOFError, KeyboardInterrupt):
        print(file=out)
    finally:
        stop.set()
        printer.join()


def _say(person: Person, line: str, out: TextIO) -> None:
    try:
        if line.strip():
            person.say(line)
    except errors.Error as error:
        print(error, file=out)


def _print(server: DevServer, stop: threading.Event, out: TextIO) -> None:
    while not stop.is_set():
        for event in server.next_events(16, 0.2):
            text = describe(event)
            if text is not None:
                out.write(f"\r{text}\n>>> ")
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
