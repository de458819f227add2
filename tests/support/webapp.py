"""A web app behind the gateway's form posts."""

from __future__ import annotations

import threading
from email.message import Message
from email.parser import BytesParser
from types import TracebackType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from appxmpp import middleware

from .waiting import Inbox


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class WebApp:
    """A protected WSGI application that keeps the forms it gets."""

    def __init__(self, secret: str) -> None:
        self.forms: Inbox[tuple[str, dict[str, str], str]] = Inbox("form post")
        self.status = "200 OK"
        self.server = make_server("127.0.0.1", 0, middleware.wsgi(self, secret), handler_class=_Quiet)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        head = f"Content-Type: {environ['CONTENT_TYPE']}\r\n\r\n".encode()
        form = BytesParser().parsebytes(head + environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        fields = {_name(part): _payload(part) for part in form.walk() if not part.is_multipart()}
        self.forms.put((environ["PATH_INFO"], fields, environ["REMOTE_ADDR"]))
        start_response(self.status, [("Content-Length", "0")])
        return [b""]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> WebApp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _name(part: Message) -> str:
    return str(part.get_param("name", header="content-disposition"))


def _payload(part: Message) -> str:
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    return data.decode()
