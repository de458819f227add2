"""Who gets past the middleware: the gateway, once for each delivery."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
from typing import Any

import pytest
from appxmpp import middleware
from appxmpp.errors import ConfigError

NOW = 1_700_000_000
BODY = b"from=a&body=b"


def signature(key: str = "key", stamp: int = NOW, delivery: str = "d1", body: bytes = BODY) -> str:
    text = f"{stamp}.{delivery}.".encode() + body
    return f"t={stamp},v1={hmac.new(key.encode(), text, hashlib.sha256).hexdigest()}"


class App:
    """Keeps what it was called with."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status, self.seen = status, list[dict[str, Any]]()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.seen.append({**environ, "body": environ["wsgi.input"].read()})
        start_response(self.status, [])
        return [b"answer"]


def call(app: Any, path: str = "/_ah/xmpp/message/chat/", sign: str | None = None, **more: str) -> str:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(BODY)),
        "wsgi.input": io.BytesIO(BODY),
        "HTTP_APPXMPP_DELIVERY": "d1",
        **more,
    }
    if sign is not None:
        environ["HTTP_APPXMPP_SIGNATURE"] = sign
    answers: list[str] = []
    list(app(environ, lambda status, *_: answers.append(status)))
    return answers[0]


def protected(app: App, **options: Any) -> Any:
    return middleware.wsgi(app, "key", clock=lambda: NOW, **options)


def test_a_signed_delivery_passes_with_app_engines_environment() -> None:
    app = App()
    assert call(protected(app), sign=signature()) == "200 OK"
    (seen,) = app.seen
    assert seen["body"] == BODY
    assert (seen["REMOTE_ADDR"], seen["HTTP_X_APPENGINE_FAKE_IS_ADMIN"]) == ("0.1.0.10", "1")


@pytest.mark.parametrize(
    "sign",
    [
        None,
        "",
        "t=,v1=",
        "v1=abc",
        f"t={NOW},v1=",
        "t=-5,v1=00",
        signature(key="other"),
        signature(body=b"other"),
        signature(delivery="d2"),
        signature(stamp=NOW - 301),
        signature(stamp=NOW + 301),
        signature().replace("v1", "v0"),
        signature()[:-1],
        signature() + "\u00e9",
        signature(delivery="d\u00e9"),
    ],
)
def test_nobody_else_passes(sign: str | None) -> None:
    app = App()
    assert call(protected(app), sign=sign) == "403 Forbidden"
    assert app.seen == []


@pytest.mark.parametrize("path", ["/_ah/xmpp/error/", "//_ah//xmpp/x", "/_AH/XMPP/message/chat/", "/_ah/xmpp"])
def test_no_spelling_of_the_path_gets_around(path: str) -> None:
    assert call(protected(App()), path) == "403 Forbidden"


def test_other_paths_are_left_alone() -> None:
    app = App("204 No Content")
    assert call(protected(app), "/stanzas") == "204 No Content"
    assert "REMOTE_ADDR" not in app.seen[0]
    assert call(protected(App(), paths=["/stanzas"]), "/stanzas") == "403 Forbidden"


def test_a_delivery_is_handled_once() -> None:
    app = App()
    wrapped = protected(app)
    assert [call(wrapped, sign=signature()) for _ in range(2)] == ["200 OK", "200 OK"]
    assert len(app.seen) == 1
    failing = App("500 Internal Server Error")
    wrapped = protected(failing)
    assert [call(wrapped, sign=signature()) for _ in range(2)] == [failing.status] * 2
    assert len(failing.seen) == 2


@pytest.mark.parametrize("length", ["", "-1", "x", str(len(BODY) + 1), str(1 << 40)])
def test_a_body_of_unclear_length_is_refused(length: str) -> None:
    assert call(protected(App()), sign=signature(), CONTENT_LENGTH=length)[:3] in ("403", "413")


def test_the_key_comes_from_the_environment(tmp_path: Any) -> None:
    (tmp_path / "key").write_text("filed\n")
    for environ, key in [
        ({"APPXMPP_WEBHOOK_SECRET": "hook", "APPXMPP_SECRET": "s"}, "hook"),
        ({"APPXMPP_SECRET": "s"}, "s"),
        ({"APPXMPP_WEBHOOK_SECRET_FILE": str(tmp_path / "key")}, "filed"),
    ]:
        assert middleware.secret_from(environ) == key
    with pytest.raises(ConfigError, match="APPXMPP_WEBHOOK_SECRET"):
        middleware.secret_from({})


def ask(app: Any, path: str, sign: str | None) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []
    parts = [{"type": "http.request", "body": BODY[:4], "more_body": True}, {"type": "http.request", "body": BODY[4:]}]

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"Appxmpp-Delivery", b"d1")] + ([(b"appxmpp-signature", sign.encode())] if sign else [])
    asyncio.run(app({"type": "http", "path": path, "headers": headers}, receive, send))
    return sent[0]["status"], sent[1]["body"]


def test_asgi_does_the_same() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"] + scope["client"][0].encode()})

    wrapped = middleware.asgi(app, "key", clock=lambda: NOW)
    assert ask(wrapped, "/_ah/xmpp/error/", None) == (403, b"")
    assert ask(wrapped, "/_ah/xmpp/error/", signature()) == (200, BODY + b"0.1.0.10")
    assert ask(wrapped, "/_ah/xmpp/error/", signature()) == (200, b"")


def test_the_module_itself_protects_an_application() -> None:
    app = App()
    guarded = middleware(app, "key", clock=lambda: NOW)
    assert call(guarded) == "403 Forbidden"
    assert not app.seen
    assert call(guarded, sign=signature()) == "200 OK"
    assert len(app.seen) == 1
