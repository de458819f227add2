"""Tests of bots without a server: say something, see what the app sent.

    import pytest
    from appxmpp.testing import Bot

    @pytest.fixture
    def bot():
        with Bot("app.yaml") as bot:
            yield bot

    def test_hello(bot):
        bot.push("/hello")
        assert bot.pop() == "Hello, romeo!"

Each stanza reaches the app's handlers as it does under ``appxmpp run``; what the app sends is kept
instead of sent.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import sys
from collections.abc import Callable, Iterable
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from appxmpp import appyaml, backend, loader
from appxmpp.deliver import Caller
from appxmpp.wsgi import Application

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_SHOWS = {"": 0, "away": 1, "dnd": 2, "chat": 3, "xa": 4}


class NothingSent(AssertionError):
    """The app sent no message where one was expected."""


@dataclasses.dataclass(frozen=True)
class Sent:
    """One call of the app: ``kind`` is message, presence or invite."""

    kind: str
    to: str
    sender: str | None
    body: str | None = None
    #: The type of a message or presence; of available presence, empty.
    type: str = ""
    show: str = ""
    status: str | None = None
    raw_xml: bool = False


class Bot(backend.Backend):
    """An app under test, and the person `me` who talks to it.

    `app` is a WSGI application, or the path of an app.yaml (or of its folder). As a context
    manager it is the backend of the process; modules of the app are forgotten at the end.
    """

    def __init__(
        self,
        app: str | os.PathLike[str] | WsgiApp,
        *,
        me: str = "romeo@example.net/orchard",
        app_id: str = "app",
    ) -> None:
        self.me = me
        #: Everything the app sent, oldest first.
        self.sent: list[Sent] = []
        #: Addresses that messages do not reach, with the status they get.
        self.failing: dict[str, int] = {}
        self._app = app
        self._app_id = app_id
        self._messages: queue.SimpleQueue[Sent] = queue.SimpleQueue()
        self._presences: dict[str, tuple[bool, int]] = {}

    def __enter__(self) -> Bot:
        self._before = (os.getcwd(), list(sys.path), set(sys.modules), dict(os.environ))
        self._root: str | None = None
        self._replaced = backend.set(self)
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _open(self) -> None:
        app = self._app
        if isinstance(app, (str, os.PathLike)):
            config = appyaml.load(os.fspath(app))
            self._root = config.root
            self._app_id = config.application or self._app_id
            for name, value in config.env_variables.items():
                os.environ.setdefault(name, value)
            os.environ["APPLICATION_ID"] = f"testbed~{self._app_id}"
            app = Application(config, loader.load(config))
        #: The app's usual address.
        self.jid = f"{self._app_id}@appspot.com/bot"
        self._caller = Caller(app, f"testbed~{self._app_id}", f"{self._app_id}.appspot.com")

    def __exit__(self, *_: object) -> None:
        backend.set(self._replaced)
        folder, path, modules, environment = self._before
        os.chdir(folder)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)
        if self._root is not None:
            for name in set(sys.modules) - modules:
                file = getattr(sys.modules[name], "__file__", None) or ""
                if file.startswith(self._root + os.sep):
                    del sys.modules[name]

    # What the person does.

    def push(self, body: str, *, sender: str | None = None, to: str | None = None) -> int:
        """Say `body` to the app; the HTTP status its handler answered with."""
        fields = {"body": body}
        child = f"<cli:body>{escape(body)}</cli:body>"
        return self._post("message", "chat", "message/chat/", sender, to, fields, child)

    def presence(
        self,
        show: str = "",
        status: str = "",
        *,
        type: str = "available",
        sender: str | None = None,
    ) -> int:
        """Be available (with a show and a status), ``unavailable``, or ``probe``."""
        who = sender or self.me
        if type != "probe":
            self._presences[who.split("/")[0]] = (type == "available", _SHOWS[show])
        fields = {name: value for name, value in (("show", show), ("status", status)) if value}
        child = "".join(
            f"<cli:{name}>{escape(value)}</cli:{name}>" for name, value in fields.items()
        )
        wire = "" if type == "available" else type
        return self._post("presence", wire, f"presence/{type}/", who, None, fields, child)

    def subscription(self, type: str = "subscribe", *, sender: str | None = None) -> int:
        """``subscribe``, ``subscribed``, ``unsubscribe`` or ``unsubscribed``."""
        who = sender or self.me.split("/")[0]
        return self._post("presence", type, f"subscription/{type}/", who, None, {}, "")

    def error(self, condition: str = "service-unavailable", *, sender: str | None = None) -> int:
        """Something the app sent comes back."""
        child = (
            '<cli:error type="cancel">'
            f'<{condition} xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></cli:error>'
        )
        return self._post("message", "error", "error/", sender, None, {}, child)

    def _post(
        self,
        kind: str,
        type: str,
        path: str,
        sender: str | None,
        to: str | None,
        fields: dict[str, str],
        children: str,
    ) -> int:
        sender, to = sender or self.me, to or self.jid
        type_attribute = f" type={quoteattr(type)}" if type else ""
        stanza = (
            f'<cli:{kind} xmlns:cli="jabber:client" from={quoteattr(sender)} to={quoteattr(to)}'
            f"{type_attribute}>{children}</cli:{kind}>"
        )
        form = [("from", sender), ("to", to), *fields.items(), ("stanza", stanza)]
        return self._caller.post("/_ah/xmpp/" + path, form)

    # What the app did.

    def pop(self, timeout: float = 0.0) -> str:
        """The body of the next message that the app sent, in their order."""
        return self.pop_message(timeout).body or ""

    def pop_message(self, timeout: float = 0.0) -> Sent:
        """The next message that the app sent, waiting for it up to `timeout` seconds."""
        try:
            return self._messages.get(timeout=timeout) if timeout else self._messages.get_nowait()
        except queue.Empty:
            raise NothingSent("the app sent no (further) message") from None

    # The backend that the app calls.

    def send_message(
        self, jids: list[str], body: str, from_jid: str | None, message_type: str, raw_xml: bool
    ) -> list[int]:
        for jid in jids:
            sent = Sent("message", jid, from_jid, body, message_type, raw_xml=raw_xml)
            self.sent.append(sent)
            self._messages.put(sent)
        return [self.failing.get(jid, 0) for jid in jids]

    def send_presence(
        self, jid: str, presence_type: str, show: str, status: str | None, from_jid: str | None
    ) -> None:
        self.sent.append(Sent("presence", jid, from_jid, None, presence_type, show, status))

    def send_invite(self, jid: str, from_jid: str | None) -> None:
        self.sent.append(Sent("invite", jid, from_jid))

    def get_presence(
        self, jids: list[str], from_jid: str | None
    ) -> list[tuple[bool, int | None, bool | None]]:
        known = (self._presences.get(jid.split("/")[0], (False, None)) for jid in jids)
        return [(available, show, True) for available, show in known]
