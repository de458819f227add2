"""The other end of the stream for tests in C: a server that does what the component tells it in messages.

==================  ================================================================
a message to        makes the peer
==================  ================================================================
``write@peer``      write the body into the stream as it is
``cut@peer``        cut the connection
``stall@peer``      read nothing more from this connection
``echo*@peer``      send the body back, from the same address
``mark@peer``       begin a new entry of `marked`, named by the body
==================  ================================================================

A request to ``silent@peer`` is not answered, one to ``error@peer`` is with an error, any other with a result.
Everything else is kept in `marked`.
"""

from __future__ import annotations

import queue
import socket
import threading
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from fake_server import ACCEPT, FakeServer


class Peer(FakeServer):
    def __init__(self, domain: str = "bot.localhost", secret: str = "s3cret") -> None:
        #: Stanzas by the mark that came before them.
        self.marked: dict[str, list[ElementTree.Element]] = {"": []}
        #: All of them, as they come.
        self.heard: queue.Queue[ElementTree.Element] = queue.Queue()
        self._mark = ""
        self._writing = threading.Lock()
        self._closed = threading.Event()
        super().__init__(domain, secret)

    def close(self) -> None:
        self._closed.set()
        super().close()

    def _write(self, peer: socket.socket, text: str) -> None:
        with self._writing:
            peer.sendall(text.encode())

    def _stanza(self, peer: socket.socket, element: ElementTree.Element) -> None:
        name, to, sender = element.tag.removeprefix(ACCEPT), element.get("to", ""), element.get("from", "")
        body = element.findtext(ACCEPT + "body") or ""
        if name == "iq" and element.get("type") in ("get", "set"):
            self._answer(peer, element, to, sender)
        elif name == "message" and to == "write@peer":
            self._write(peer, body)
        elif name == "message" and to == "cut@peer":
            peer.shutdown(socket.SHUT_RDWR)
        elif name == "message" and to == "stall@peer":
            self._closed.wait()
        elif name == "message" and to == "mark@peer":
            self._mark = body
            self.marked[body] = []
        elif name == "message" and to.startswith("echo"):
            self._write(
                peer,
                f"<message type='chat' from={quoteattr(to)} to={quoteattr(sender)}>"
                f"<body>{escape(body)}</body></message>",
            )
        elif name == "handshake":
            super()._stanza(peer, element)
        else:
            self.marked[self._mark].append(element)
            self.heard.put(element)

    def _answer(self, peer: socket.socket, iq: ElementTree.Element, to: str, sender: str) -> None:
        addresses = f"from={quoteattr(to)} to={quoteattr(sender)} id={quoteattr(iq.get('id', ''))}"
        if to.startswith("error"):
            reason = "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
            self._write(peer, f"<iq type='error' {addresses}><error type='cancel'>{reason}</error></iq>")
        elif not to.startswith("silent"):
            children = "".join(ElementTree.tostring(child, encoding="unicode") for child in iq)
            self._write(peer, f"<iq type='result' {addresses}>{children}</iq>")
