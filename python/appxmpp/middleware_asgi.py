"""The ASGI side of `appxmpp.middleware`, which Python 2 cannot read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from appxmpp.middleware import MAX_BODY, REMOTE_ADDR, Verifier

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def protect(app: App, verifier: Verifier) -> App:
    """`app`, which gets webhooks from the gateway alone."""

    async def protected(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not verifier.protects(
            scope.get("root_path", "") + scope["path"]
        ):
            if scope["type"] == "websocket" and verifier.protects(scope["path"]):
                await send({"type": "websocket.close", "code": 1008})
                return
            await app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body = await _read(receive)
        delivery = headers.get(b"appxmpp-delivery", "")
        if body is None:
            await _answer(send, 413)
        elif not verifier.accepts(headers.get(b"appxmpp-signature"), delivery, body):
            await _answer(send, 403)
        elif verifier.is_handled(delivery):
            await _answer(send, 200)
        else:
            await app(
                {**scope, "client": (REMOTE_ADDR, 0)},
                _again(body, receive),
                _remember(send, verifier, delivery),
            )

    return protected


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


def _remember(send: Send, verifier: Verifier, delivery: str) -> Send:
    async def remember(message: Message) -> None:
        if message["type"] == "http.response.start" and 200 <= message["status"] < 300:
            verifier.handled(delivery)
        await send(message)

    return remember


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


async def _answer(send: Send, status: int) -> None:
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})
