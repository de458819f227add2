"""One request to a WSGI application, in this process and on this thread: no HTTP, no socket."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Callable
from typing import Any

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]


@dataclasses.dataclass
class Response:
    """What the application answered."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


class _Answer:
    """PEP 3333's start_response and write()."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.parts: list[bytes] = []

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], Any]:
        if self.status and not exc_info:
            raise AssertionError("the application called start_response twice without exc_info")
        if exc_info and self.parts:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        self.status, self.headers = status, headers
        return self.parts.append


def environ(
    method: str,
    path: str,
    body: bytes = b"",
    content_type: str = "",
    host: str = "localhost",
    scheme: str = "http",
) -> dict[str, Any]:
    """A PEP 3333 environ for one request; `path` is text, decoded, without a query."""
    name, _, port = host.rpartition(":")
    if not name or not port.isdigit():
        name, port = host, {"https": "443"}.get(scheme, "80")
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode("utf-8").decode("latin-1"),
        "QUERY_STRING": "",
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": host,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def call(app: WsgiApp, environ: dict[str, Any]) -> Response:
    """Run `app` to the end of its answer. What it raises is raised."""
    answer = _Answer()
    result = app(environ, answer.start)
    try:
        answer.parts.extend(result)
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
    code, _, reason = answer.status.partition(" ")
    if not code.isdigit():
        raise AssertionError(
            "the application did not call start_response with a status such as '200 OK'"
        )
    return Response(int(code), reason, answer.headers, b"".join(answer.parts))
