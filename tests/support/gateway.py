"""The gateway under test, what it posts to, and a user on the other side of the server."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from . import folders
from .listener import serve_each
from .process import Process
from .server import Account, Server
from .waiting import PATIENCE, Inbox, until

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def binary() -> str:
    """The `appxmpp` command: APPXMPP_BIN, or what cargo makes of the sources as they are."""
    if given := os.environ.get("APPXMPP_BIN"):
        return given
    subprocess.run(["cargo", "build", "--quiet", "--package", "appxmpp-gateway"], cwd=ROOT, check=True)
    return str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/appxmpp")


def toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class Gateway:
    """`appxmpp gateway` with one [[app]] for each table in `apps`."""

    def __init__(
        self,
        apps: Sequence[Mapping[str, Any]],
        http: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
        **top: Any,
    ) -> None:
        self.command = list(command or [binary()])
        self.folder = folders.folder("gateway")
        self.port, self.metrics_port = folders.free_ports(2)
        self.config = self.folder / "appxmpp.toml"
        self.configure(apps, http, **top)
        self.env = {**os.environ, **(env or {})}
        self.start()

    def start(self) -> None:
        argv = [*self.command, "gateway", "--config", str(self.config)]
        self.process = Process(argv, name="gateway", env=self.env)

    def configure(self, apps: Sequence[Mapping[str, Any]], http: Mapping[str, Any] | None = None, **top: Any) -> None:
        """Writes the configuration, which a running gateway reads at SIGHUP."""
        tables = {key: value for key, value in top.items() if isinstance(value, Mapping)}
        lines = [f"{key} = {toml(value)}" for key, value in top.items() if key not in tables]
        for app in apps:
            lines += ["[[app]]", *(f"{key} = {toml(value)}" for key, value in app.items())]
        settings = {"listen": f"127.0.0.1:{self.port}", "metrics": f"127.0.0.1:{self.metrics_port}", **(http or {})}
        lines += ["[http]", *(f"{key} = {toml(value)}" for key, value in settings.items())]
        tables.setdefault("log", {"level": "debug", "format": "text"})
        for table, content in tables.items():
            lines += [f"[{table}]", *(f"{key} = {toml(value)}" for key, value in content.items())]
        self.config.write_text("\n".join(lines) + "\n")

    def wait_ready(self) -> Gateway:
        self.process.wait_for_line("the gateway serves HTTP")
        until(self.is_ready, what="the gateway's readiness")
        return self

    def is_ready(self) -> bool:
        try:
            return self.request("GET", "/readyz").status == 200
        except OSError:
            return False

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = PATIENCE,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest(
                method, path, skip_host=bool(headers and "Host" in headers), skip_accept_encoding=True
            )
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            data = body.encode() if isinstance(body, str) else body
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=PATIENCE) as response:
            return str(response.read().decode())

    def close(self) -> None:
        self.process.stop(30)
        folders.remove(self.folder)

    def __enter__(self) -> Gateway:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


#: What a POST of XML as the app myapp needs.
XML_HEADERS = {
    "Host": "myapp.localhost",
    "Authorization": basic("myapp.localhost", "s3cret"),
    "Content-Type": "application/xmpp+xml",
}


@dataclass
class Post:
    """A request that the callback got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    answered: threading.Event = field(default_factory=threading.Event)


class Callback:
    """An HTTP server that answers as told, byte by byte if need be, and keeps what it got."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._tls = tls
        self.posts: Inbox[Post] = Inbox("callback")
        #: What is sent back; of several parts one after the other, for as long as somebody reads them.
        self.answer: Callable[[Post], bytes | Iterable[bytes]] = lambda _: b"HTTP/1.1 204 No Content\r\n\r\n"
        self.options = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"
        serve_each(self._socket, self._serve, "callback")

    def _serve(self, connection: socket.socket) -> None:
        if self._tls:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                return  # The other side does not believe it.
        # The other side may go at any moment.
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                method, _, rest = line.decode("latin-1").partition(" ")
                path, _, version = rest.rpartition(" ")
                if not version.startswith("HTTP/"):
                    return  # TLS, for one.
                headers = {}
                while line := reader.readline().strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.title()] = value.strip()
                body = reader.read(int(headers.get("Content-Length", 0)))
                if method == "OPTIONS":
                    connection.sendall(self.options)
                    continue
                post = Post(method, path, headers, body)
                self.posts.put(post)
                answer = self.answer(post)
                try:
                    for part in [answer] if isinstance(answer, bytes) else answer:
                        connection.sendall(part)
                except OSError:
                    return  # It had read enough.
                if not isinstance(answer, bytes) or not _is_whole(answer):
                    return

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Callback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_whole(answer: bytes) -> bool:
    """Whether the connection can go on after it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next((line[15:] for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), None)
    if length is None:
        return head.split(b" ")[1:2] in ([b"204"], [b"304"])
    return int(length) == len(body)


def http_answer(status: int, headers: Sequence[Sequence[str]] = (), body: str | bytes = b"") -> bytes:
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
    if status not in (204, 304):
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + data


class Phone:
    """A client that says exactly what it is told to, and keeps what it hears, element by element."""

    def __init__(self, server: Server, account: Account, resource: str = "phone") -> None:
        self.heard: Inbox[ET.Element] = Inbox(f"stanza to {account.jid}")
        self.bare = account.jid
        self.jid = f"{account.jid}/{resource}"
        self.reply: Callable[[ET.Element], str | None] = lambda _: None
        self._domain = server.domain
        self._socket = socket.create_connection(("127.0.0.1", server.c2s_port), PATIENCE)
        self._socket.settimeout(None)
        self._parser: Any = ET.XMLPullParser(["start", "end"])
        self._open()
        secret = base64.b64encode(f"\0{self.bare.partition('@')[0]}\0{account.password}".encode()).decode()
        self.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>")
        assert self._next().tag.endswith("success")
        self._parser = ET.XMLPullParser(["start", "end"])
        self._open()
        bind = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind>"
        self.send(f"<iq type='set' id='b1'>{bind}</iq>")
        self._next()
        self.send("<iq type='set' id='s1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
        self._next()
        # Once the server answers what came after it, the presence is known to everybody in there.
        self.send("<presence/><iq type='get' id='p1'><ping xmlns='urn:xmpp:ping'/></iq>")
        while (element := self._next()).get("id") != "p1":
            self.heard.put(element)
        threading.Thread(target=self._listen, name=self.jid, daemon=True).start()

    def _open(self) -> None:
        self._depth = 0
        self.send(
            f"<?xml version='1.0'?><stream:stream to='{self._domain}' version='1.0' xml:lang='en'"
            " xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        self._next()

    def send(self, text: str) -> None:
        self._socket.sendall(text.encode())

    def _next(self) -> ET.Element:
        while True:
            for event, element in self._parser.read_events():
                self._depth += 1 if event == "start" else -1
                if event == "end" and self._depth == 1:
                    complete: ET.Element = element
                    return complete
            data = self._socket.recv(65536)
            if not data:
                raise OSError("the stream ended")
            self._parser.feed(data)

    def _listen(self) -> None:
        while True:
            try:
                element = self._next()
                if answer := self.reply(element):
                    self.send(answer)
            except OSError:
                return
            self.heard.put(element)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Phone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"


def parse(xml: str | bytes) -> ET.Element:
    """A stanza without a namespace of its own is the client's."""
    text = xml.decode() if isinstance(xml, bytes) else xml
    return ET.fromstring(f"<x xmlns='jabber:client'>{text}</x>")[0]


def alike(made: ET.Element, expected: ET.Element, *, lang: bool = True) -> bool:
    """Whether two elements say the same, children in any order; `{ID}` and `{ANY}` match everything."""

    def attributes(element: ET.Element) -> dict[str, str]:
        skip = set() if lang else {"{http://www.w3.org/XML/1998/namespace}lang"}
        return {name: value for name, value in element.attrib.items() if name not in skip}

    def same(a: str | None, b: str | None) -> bool:
        return b in ("{ID}", "{ANY}") or (a or "").strip() == (b or "").strip()

    ours, theirs = attributes(made), attributes(expected)
    if made.tag != expected.tag or ours.keys() != theirs.keys() or not same(made.text, expected.text):
        return False
    if not all(same(ours[name], theirs[name]) for name in ours) or len(made) != len(expected):
        return False
    rest = list(made)
    for child in expected:
        twin = next((other for other in rest if alike(other, child, lang=lang)), None)
        if twin is None:
            return False
        rest.remove(twin)
    return True


def within(expected: Any, made: Any) -> bool:
    """Whether JSON `made` has all that `expected` asks for."""
    if expected in ("{ID}", "{ANY}"):
        return made is not None
    if isinstance(expected, dict):
        return isinstance(made, dict) and all(within(value, made.get(name)) for name, value in expected.items())
    return bool(expected == made)
