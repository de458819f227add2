"""A human at an XMPP client (slixmpp), with a synchronous face."""

from __future__ import annotations

import asyncio
import copy
from types import TracebackType
from xml.etree import ElementTree as ET

import slixmpp
from slixmpp.xmlstream.xmlstream import NotConnectedError

from . import aio
from .server import Account, Server
from .waiting import PATIENCE, Inbox

CLIENT = "{jabber:client}"


class Stanza:
    """One received stanza: attributes by name, children by local name."""

    def __init__(self, xml: ET.Element) -> None:
        self.xml = xml
        self.kind = xml.tag.rpartition("}")[2]

    def __getattr__(self, name: str) -> str | None:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.xml.get({"from_": "from"}.get(name, name))

    @property
    def body(self) -> str | None:
        return self.xml.findtext(CLIENT + "body")

    @property
    def show(self) -> str | None:
        return self.xml.findtext(CLIENT + "show")

    @property
    def status(self) -> str | None:
        return self.xml.findtext(CLIENT + "status")

    @property
    def bare(self) -> str:
        return (self.xml.get("from") or "").partition("/")[0]

    @property
    def condition(self) -> str | None:
        """The defined condition of a stanza error (RFC 6120 section 8.3.3)."""
        error = self.xml.find(CLIENT + "error")
        return None if error is None or not len(error) else error[0].tag.rpartition("}")[2]

    def __str__(self) -> str:
        return ET.tostring(self.xml, encoding="unicode")


class _Client(slixmpp.ClientXMPP):
    def __init__(self, jid: str, password: str, received: Inbox[Stanza]) -> None:
        super().__init__(jid, password)
        self.enable_direct_tls = False
        self.auto_reconnect = False
        self._received = received

    def incoming_filter(self, xml: ET.Element) -> ET.Element:
        self._received.put(Stanza(copy.deepcopy(xml)))
        return xml


class User:
    """One account with one resource. `with User(server) as alice:` is logged in and available.

    Subscription requests wait in `received` until the test answers them, unless `accepts` is true.
    """

    def __init__(
        self,
        server: Server,
        account: Account | None = None,
        *,
        resource: str = "phone",
        tls: bool = False,
        accepts: bool = False,
        available: bool = True,
        port: int | None = None,
    ) -> None:
        self.account = account or server.account()
        self.bare = self.account.jid
        self.jid = f"{self.bare}/{resource}"
        self.received: Inbox[Stanza] = Inbox(f"stanza for {self.jid}")
        self._server, self._tls, self._accepts = server, tls, accepts
        self._port = port or server.c2s_port
        self._available = available
        self._client: _Client | None = None

    def connect(self) -> User:
        aio.run(self._connect())
        if self._available:
            self.presence()
        return self

    async def _connect(self) -> None:
        client = _Client(self.jid, self.account.password, self.received)
        client.auto_authorize = True if self._accepts else None
        client.auto_subscribe = self._accepts
        if self._tls:
            client.enable_plaintext = False
            client.ca_certs = self._server.certificate.certificate
        else:
            client.enable_starttls = False
            client.enable_plaintext = True
            client.plugin["feature_mechanisms"].unencrypted_scram = True
        online: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(error: object = None) -> None:
            if not online.done():
                if error is None:
                    online.set_result(None)
                else:
                    online.set_exception(AssertionError(f"{self.jid} could not log in: {error}"))

        client.add_event_handler("session_start", lambda _: settle())
        for failure in ("connection_failed", "failed_all_auth", "stream_error", "disconnected"):
            client.add_event_handler(failure, lambda reason, what=failure: settle(f"{what} {reason}"))
        client.connect("127.0.0.1", self._port)
        await online
        await client.get_roster()
        self._client = client

    @property
    def client(self) -> _Client:
        assert self._client, f"{self.jid} is not connected"
        return self._client

    def raw(self, xml: str) -> None:
        """Writes it into the stream as it is; ConnectionError if that is gone."""
        try:
            aio.call(self.client.send_raw, xml)
        except NotConnectedError:
            raise ConnectionError(f"{self.jid} has lost its connection") from None

    def message(self, to: str, body: str, type_: str | None = "chat", extra: str = "", id_: str | None = None) -> None:
        stanza = ET.Element("message", {"to": to})
        if type_:
            stanza.set("type", type_)
        if id_:
            stanza.set("id", id_)
        ET.SubElement(stanza, "body").text = body
        self.raw(ET.tostring(stanza, encoding="unicode").replace("</message>", extra + "</message>"))

    def presence(
        self,
        show: str | None = None,
        status: str | None = None,
        to: str | None = None,
        type_: str | None = None,
        priority: int | None = None,
    ) -> None:
        stanza = ET.Element("presence")
        if to:
            stanza.set("to", to)
        if type_:
            stanza.set("type", type_)
        for name, value in (("show", show), ("status", status), ("priority", priority)):
            if value is not None:
                ET.SubElement(stanza, name).text = str(value)
        self.raw(ET.tostring(stanza, encoding="unicode"))

    def befriend(self, bot: str) -> None:
        """Subscribes to `bot` and lets it subscribe back, as a person who adds a contact does."""
        self.presence(to=bot, type_="subscribe")
        self.expect("presence", from_bare=bot, type_="subscribed")
        self.expect("presence", from_bare=bot, type_="subscribe")
        self.presence(to=bot, type_="subscribed")

    def expect(
        self,
        kind: str,
        *,
        from_: str | None = None,
        from_bare: str | None = None,
        type_: str | None = "any",
        timeout: float = PATIENCE,
        **where: str | None,
    ) -> Stanza:
        """Takes out the first stanza of that kind that has all these values, waiting for it if need be."""

        def fits(stanza: Stanza) -> bool:
            return (
                stanza.kind == kind
                and from_ in (None, stanza.from_)
                and from_bare in (None, stanza.bare)
                and type_ in ("any", stanza.type)
                and all(getattr(stanza, name) == value for name, value in where.items())
            )

        return self.received.wait(fits, timeout)

    def request(self, to: str, payload: str, type_: str = "get", timeout: float = PATIENCE) -> Stanza:
        """Sends an iq and returns the answer, be it a result or an error."""
        id_ = self.client.new_id()
        self.raw(f"<iq to='{to}' type='{type_}' id='{id_}'>{payload}</iq>")
        return self.received.wait(lambda s: s.kind == "iq" and s.id == id_ and s.type in ("result", "error"), timeout)

    def barrier(self) -> None:
        """Returns when the server has handled everything this user sent before."""
        self.request(self.bare.partition("@")[2], "<query xmlns='http://jabber.org/protocol/disco#info'/>")

    def disconnect(self) -> None:
        """Goes offline as a client does that is closed by its user."""
        if self._client:
            client, self._client = self._client, None

            async def leave() -> None:
                await client.disconnect(wait=1.0)

            aio.run(leave())

    def cut(self) -> None:
        """Loses the connection without a word."""
        if self._client:
            client, self._client = self._client, None
            aio.call(client.abort)

    def __enter__(self) -> User:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.disconnect()
        except Exception:
            self.cut()
