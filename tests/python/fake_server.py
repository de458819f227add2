"""The server's side of XEP-0114, as far as tests need to see and steer it."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import socket
import threading
from xml.etree import ElementTree

ACCEPT = "{jabber:component:accept}"
_STREAMS = "http://etherx.jabber.org/streams"


def _end(peer: socket.socket) -> None:
    # Closing alone would leave a thread that waits on it waiting.
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)
    peer.close()


class FakeServer:
    """Listens on a loopback port for the component `domain`."""

    def __init__(self, domain: str = "bot.localhost", secret: str = "s3cret") -> None:
        self.domain, self.secret = domain, secret
        #: Stanzas the component sent, as elements.
        self.received: queue.Queue[ElementTree.Element] = queue.Queue()
        #: One entry for each component that logged in.
        self.logins: queue.Queue[socket.socket] = queue.Queue()
        #: One entry for each that said goodbye (True) or just went away (False).
        self.ends: queue.Queue[bool] = queue.Queue()
        self._peer: socket.socket | None = None
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def backend(self, secret: bool = True) -> str:
        user = f"{self.domain}:{self.secret}" if secret else self.domain
        return f"component://{user}@127.0.0.1:{self.port}"

    def send(self, xml: str) -> None:
        """Send `xml` to the component that logged in last."""
        assert self._peer is not None
        self._peer.sendall(xml.encode())

    def message(self, body: str, sender: str = "romeo@example.net/orchard", to: str = "bot", id: str = "") -> None:
        self.send(
            f"<message type='chat' from='{sender}' to='{to}@{self.domain}' id='{id}'><body>{body}</body></message>"
        )

    def wait_login(self, timeout: float = 20) -> None:
        self.logins.get(timeout=timeout)

    def next(self, name: str = "message", timeout: float = 20) -> ElementTree.Element:
        """The next stanza of that name; others are passed over."""
        while True:
            stanza = self.received.get(timeout=timeout)
            if stanza.tag == ACCEPT + name:
                return stanza

    def next_body(self, timeout: float = 20) -> str:
        return self.next(timeout=timeout).findtext(ACCEPT + "body") or ""

    def drop(self) -> None:
        """Cut all connections."""
        while self._sockets:
            _end(self._sockets.pop())

    def close(self) -> None:
        _end(self._listener)
        self.drop()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        parser = ElementTree.XMLPullParser(["start", "end"])
        depth = 0
        try:
            while data := peer.recv(65536):
                parser.feed(data)
                for kind, element in parser.read_events():
                    depth += 1 if kind == "start" else -1
                    if kind == "start" and depth == 1:
                        peer.sendall(
                            f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='{_STREAMS}'"
                            f" id='id1' from='{self.domain}'>".encode()
                        )
                    elif kind == "end" and depth == 1:
                        self._stanza(peer, element)
                    elif kind == "end" and depth == 0:
                        self._end_stream(peer)
                        return
            self.ends.put(False)
        except OSError:
            self.ends.put(False)
        finally:
            peer.close()

    def _end_stream(self, peer: socket.socket) -> None:
        peer.sendall(b"</stream:stream>")
        self.ends.put(True)

    def _stanza(self, peer: socket.socket, element: ElementTree.Element) -> None:
        if element.tag != ACCEPT + "handshake":
            self.received.put(element)
        elif element.text == hashlib.sha1(b"id1" + self.secret.encode()).hexdigest():
            # The component may act on this before the next line here.
            self._peer = peer
            peer.sendall(b"<handshake/>")
            self.logins.put(peer)
        else:
            peer.sendall(
                b"<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
                b"</stream:error></stream:stream>"
            )
            peer.close()
