"""Who gets past the middleware: the gateway, once for each delivery."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import io
from typing import Any

import flask
import pytest
from appxmpp import middleware
from appxmpp.errors import ConfigError
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

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


def request(path: str = "/_ah/xmpp/message/chat/", sign: str | None = None, **more: str) -> dict[str, Any]:
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
    return environ


def call(app: Any, path: str = "/_ah/xmpp/message/chat/", sign: str | None = None, **more: str) -> str:
    answers: list[str] = []
    list(app(request(path, sign, **more), lambda status, *_: answers.append(status)))
    return answers[0]


def protected(app: App, **options: Any) -> Any:
    return middleware.wsgi(app, "key", clock=lambda: NOW, **options)


def asgi(app: Any, **options: Any) -> Any:
    return middleware.asgi(app, "key", clock=lambda: NOW, **options)


def answering(status: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


async def once(app: Any, path: str, sign: str | None, **more: Any) -> list[dict[str, Any]]:
    """What `app` sends for one request, whose body comes in two parts."""
    sent: list[dict[str, Any]] = []
    parts = [{"type": "http.request", "body": BODY[:4], "more_body": True}, {"type": "http.request", "body": BODY[4:]}]

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"Appxmpp-Delivery", b"d1")] + ([(b"appxmpp-signature", sign.encode())] if sign else [])
    await app({"type": "http", "path": path, "headers": headers, **more}, receive, send)
    return sent


def ask(app: Any, path: str, sign: str | None, **more: Any) -> tuple[int, bytes]:
    sent = asyncio.run(once(app, path, sign, **more))
    return sent[0]["status"], sent[1]["body"]


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


#: Where the protected paths are, and how they may be spelt: SCRIPT_NAME or root_path, and the rest.
GUARDED = [
    ("", "/_ah/xmpp/error/"),
    ("", "//_ah//xmpp/x"),
    ("", "/_AH/XMPP/message/chat/"),
    ("", "/_ah/xmpp"),
    ("", "_ah/xmpp/error/"),
    ("", "/_ah/./xmpp/error/"),
    ("", "/_ah/x/../xmpp/error/"),
    ("", "/_ah/xmpp/../public"),
    ("", "/_ah;v=1/xmpp/"),
    ("", "/_ah\\xmpp\\error"),
    ("", "/%5Fah/xmpp/error/"),
    ("", "/_ah%2Fxmpp/error/"),
    ("", "/%255Fah/xmpp/error/"),
    ("", "/%" + "25" * 40 + "5Fah/xmpp/error/"),
    ("", "/_ah%00/xmpp/error/"),
    ("", "/app/_ah/xmpp/message/chat/"),
    ("", "/a/b/c/_ah/xmpp/message/chat/"),
    ("/app", "/_ah/xmpp/message/chat/"),
    ("/_ah", "/xmpp/message/chat/"),
    ("/_ah/xmpp", "/message/chat/"),
    ("/app", "/x/_ah/xmpp/message/chat/"),
    ("/app", "/app/_ah/xmpp/message/chat/"),
]
OPEN = [("", "/"), ("", "/stanzas"), ("/_ah", "/warmup"), ("", "/ah/xmpp/x"), ("", "/x_ah/xmpp/x"), ("", "/a/../b")]


@pytest.mark.parametrize(("mount", "path"), GUARDED)
def test_no_mount_or_spelling_of_the_path_gets_around(mount: str, path: str) -> None:
    app = App()
    assert call(protected(app), path, SCRIPT_NAME=mount) == "403 Forbidden"
    assert ask(asgi(answering(200)), path, None, root_path=mount) == (403, b"")
    assert app.seen == []
    assert call(protected(app), path, signature(), SCRIPT_NAME=mount) == "200 OK"
    assert ask(asgi(answering(200)), path, signature(), root_path=mount)[0] == 200


@pytest.mark.parametrize(("mount", "path"), OPEN)
def test_what_only_looks_alike_needs_no_signature(mount: str, path: str) -> None:
    assert call(protected(App()), path, SCRIPT_NAME=mount) == "200 OK"
    assert ask(asgi(answering(200)), path, None, root_path=mount)[0] == 200


def flask_app() -> tuple[Any, list[str]]:
    app, heard = flask.Flask("guarded"), list[str]()

    @app.post("/_ah/xmpp/message/chat/")
    def chat() -> str:
        heard.append(flask.request.form["body"])
        return "heard"

    @app.get("/")
    def root() -> str:
        return "open"

    return app, heard


def status_of(app: Any, path: str, sign: str | None) -> int:
    headers = {"Appxmpp-Delivery": "d1", **({"Appxmpp-Signature": sign} if sign else {})}
    form = "application/x-www-form-urlencoded"
    return Client(app).post(path, data=BODY, headers=headers, content_type=form).status_code


@pytest.mark.parametrize("outside", [False, True], ids=["middleware inside the mount", "middleware outside"])
def test_flask_below_a_prefix_hears_the_gateway_alone(outside: bool) -> None:
    app, heard = flask_app()
    mounted = DispatcherMiddleware(NotFound(), {"/app": app if outside else protected(app)})
    wrapped = protected(mounted) if outside else mounted
    path = "/app/_ah/xmpp/message/chat/"
    assert status_of(wrapped, path, None) == 403
    assert status_of(wrapped, path, signature(key="other")) == 403
    assert heard == []
    assert status_of(wrapped, path, signature()) == 200
    assert heard == ["b"]
    assert Client(wrapped).get("/app/").data == b"open"


@pytest.mark.parametrize("kept", [True, False], ids=["path kept", "path stripped"])
@pytest.mark.parametrize("outside", [False, True], ids=["middleware inside the mount", "middleware outside"])
def test_an_asgi_mount_hears_the_gateway_alone(outside: bool, kept: bool) -> None:
    """As Starlette's Mount, which keeps the whole path since 0.33 and cut it before."""
    heard: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        heard.append(scope["path"])
        await answering(200)(scope, receive, send)

    guarded = inner if outside else asgi(inner)

    async def mount(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"] if kept else scope["path"].removeprefix("/app")
        await guarded({**scope, "root_path": "/app", "path": path}, receive, send)

    wrapped = asgi(mount) if outside else mount
    assert ask(wrapped, "/app/_ah/xmpp/error/", None) == (403, b"")
    assert heard == []
    assert ask(wrapped, "/app/_ah/xmpp/error/", signature())[0] == 200
    assert len(heard) == 1


def test_a_websocket_below_the_protected_paths_is_closed() -> None:
    for mount, path, expected in [("/app", "/_ah/xmpp/x", "websocket.close"), ("", "/chat", "websocket.accept")]:
        sent: list[str] = []

        async def send(message: Any, sent: list[str] = sent) -> None:
            sent.append(message["type"])

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})

        asyncio.run(asgi(app)({"type": "websocket", "root_path": mount, "path": path}, None, send))
        assert sent == [expected]


def test_lifespan_passes_even_where_every_path_is_protected() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(asgi(app, paths=["/"])({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_other_paths_are_left_alone() -> None:
    app = App("204 No Content")
    assert call(protected(app), "/stanzas") == "204 No Content"
    assert "REMOTE_ADDR" not in app.seen[0]
    for path in ("/stanzas", "/app/Stanzas/x"):
        assert call(protected(App(), paths=["/stanzas/"]), path) == "403 Forbidden"
    assert call(protected(App(), paths=["/"]), "/anything") == "403 Forbidden"


def test_a_delivery_is_handled_once() -> None:
    app = App()
    wrapped = protected(app)
    assert [call(wrapped, sign=signature()) for _ in range(2)] == ["200 OK", "200 OK"]
    assert len(app.seen) == 1
    failing = App("500 Internal Server Error")
    wrapped = protected(failing)
    assert [call(wrapped, sign=signature()) for _ in range(2)] == [failing.status] * 2
    assert len(failing.seen) == 2


def test_a_repeat_waits_while_the_first_attempt_is_at_work() -> None:
    inner: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        """Says 200 at once, as many do, and then does the work."""
        inner.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        yield b"working"
        yield b"done"

    def repeat() -> tuple[str, dict[str, str]]:
        said: list[Any] = []
        environ = request(sign=signature())
        for _ in wrapped(environ, lambda status, headers, *_: said.append((status, dict(headers)))):
            pass
        return said[0]

    wrapped = middleware.wsgi(app, "key", clock=lambda: NOW)
    response = wrapped(request(sign=signature()), lambda *_: None)
    parts = iter(response)
    assert next(parts) == b"working"
    assert repeat() == (
        "503 Service Unavailable",
        {"Content-Type": "text/plain", "Content-Length": "0", "Retry-After": "5"},
    )
    assert list(parts) == [b"done"]
    response.close()
    assert repeat()[0] == "200 OK"
    assert len(inner) == 1


@pytest.mark.parametrize("breaks", ["call", "body", "close", "status"])
def test_what_failed_after_all_comes_again(breaks: str) -> None:
    class Body:
        def __iter__(self) -> Any:
            yield b"part"
            if breaks == "body":
                raise RuntimeError("the app broke")

        def close(self) -> None:
            if breaks == "close":
                raise RuntimeError("the app broke")

    calls: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        calls.append(1)
        start_response("200 OK", [])
        if breaks == "call":
            raise RuntimeError("the app broke")
        if breaks == "status":
            start_response("500 Internal Server Error", [], (None, None, None))
        return Body()

    def run() -> None:
        response = wrapped(request(sign=signature()), lambda *_: None)
        try:
            for _ in response:
                pass
        finally:
            response.close()

    wrapped = middleware.wsgi(app, "key", clock=lambda: NOW)
    for _ in range(2):
        with contextlib.suppress(RuntimeError):
            run()
    assert len(calls) == 2


def test_asgi_repeats_wait_and_come_again_after_a_failure() -> None:
    calls: list[int] = []

    async def scene() -> list[int]:
        entered, go = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            calls.append(1)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            entered.set()
            await go.wait()
            if len(calls) == 1:
                raise RuntimeError("the app broke")
            await send({"type": "http.response.body", "body": b""})

        wrapped = asgi(app)
        first = asyncio.create_task(once(wrapped, "/_ah/xmpp/error/", signature()))
        await entered.wait()
        busy = await once(wrapped, "/_ah/xmpp/error/", signature())
        assert (b"retry-after", b"5") in busy[0]["headers"]
        go.set()
        with pytest.raises(RuntimeError):
            await first
        later = [await once(wrapped, "/_ah/xmpp/error/", signature()) for _ in range(2)]
        return [busy[0]["status"], *(sent[0]["status"] for sent in later)]

    assert asyncio.run(scene()) == [503, 200, 200]
    assert len(calls) == 2


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


def test_asgi_does_the_same() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"] + scope["client"][0].encode()})

    wrapped = asgi(app)
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
