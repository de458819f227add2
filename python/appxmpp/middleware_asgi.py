"""The ASGI side of `appxmpp.middleware`, which Python 2 cannot read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from appxmpp.middleware import BUSY, BUSY_RETRY, HANDLED, MAX_BODY, REMOTE_ADDR, Verifier

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def protect(app: App, verifier: Verifier) -> App:
    """`app`, which gets webhooks from the gateway alone."""

    async def protected(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        mounted = scope.get("root_path", "") + path
        is_request = scope["type"] in ("http", "websocket")
        if not is_request or not (verifier.protects(path) or verifier.protects(mounted)):
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await _post(app, verifier, scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    return protected


async def _post(
    app: App, verifier: Verifier, scope: MutableMapping[str, Any], receive: Receive, send: Send
) -> None:
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    body = await _read(receive)
    delivery = headers.get(b"appxmpp-delivery", "")
    if body is None:
        await _answer(send, 413)
    elif not verifier.accepts(headers.get(b"appxmpp-signature"), delivery, body):
        await _answer(send, 403)
    elif (known := verifier.begin(delivery)) == HANDLED:
        await _answer(send, 200)
    elif known == BUSY:
        await _answer(send, 503, (b"retry-after", b"%d" % BUSY_RETRY))
    else:
        answer = _Answer(send)
        handled = False
        try:
            await app({**scope, "client": (REMOTE_ADDR, 0)}, _again(body, receive), answer.send)
            handled = answer.succeeded
        finally:
            verifier.end(delivery, handled)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read, then whatever the server says next."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class _Answer:
    """Passes the application's response on, and keeps whether it is a success."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.succeeded = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.succeeded = 200 <= message["status"] < 300
        await self._send(message)


async def _read(receive: Receive) -> bytes | None:
    """The body, or None if it is too long or its sender went away."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return body


async def _answer(send: Send, status: int, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-length", b"0"), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
