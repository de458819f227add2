"""A client that checks nothing it sends: for stanzas that no decent library would let out."""

from __future__ import annotations

import base64
import re
import socket
from types import TracebackType

from .server import Account, Server
from .waiting import PATIENCE


class RawClient:
    """Logs in over plain TCP with SASL PLAIN and binds `resource` as it is given."""

    def __init__(self, server: Server, account: Account | None = None, resource: str = "raw") -> None:
        self.account = account or server.account("raw")
        self.bare = self.account.jid
        self._domain = server.domain
        self._read = b""
        self._socket = socket.create_connection(("127.0.0.1", server.c2s_port), PATIENCE)
        secret = base64.b64encode(f"\0{self.bare.partition('@')[0]}\0{self.account.password}".encode()).decode()
        self._open()
        self.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>")
        self.read_until(r"<success\b")
        self._open()
        self.send(
            "<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
            f"<resource>{resource}</resource></bind></iq>"
        )
        self.jid = self.read_until(r"<jid>([^<]*)</jid>")[1]
        self.send("<iq type='set' id='s1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq><presence/>")

    def _open(self) -> None:
        self.send(
            f"<stream:stream to='{self._domain}' version='1.0' xmlns='jabber:client'"
            " xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        self.read_until(r"</stream:features>")

    def send(self, text: str | bytes) -> None:
        self._socket.sendall(text.encode() if isinstance(text, str) else text)

    def read_until(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Reads until the text received since the last match matches."""
        self._socket.settimeout(timeout)
        while True:
            text = self._read.decode(errors="replace")
            if match := re.search(pattern, text):
                self._read = text[match.end() :].encode()
                return match
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise AssertionError(f"{self.bare}: no {pattern!r} in {text[-2000:]!r}") from None
            if not data:
                raise AssertionError(f"{self.bare}: the server closed the stream after {text[-2000:]!r}")
            self._read += data

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
