"""The application of an app.yaml as one WSGI callable, and the door that strangers come through."""

from __future__ import annotations

import os
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

from appxmpp.appyaml import AppYaml, Handler
from appxmpp.direct import WsgiApp

StartResponse = Callable[..., Any]

#: Set in the environ of requests that come from the runner itself, never by a client.
ADMIN = "appxmpp.admin"


class Application:
    """Sends each request to the first handler of app.yaml whose url matches the whole path."""

    def __init__(self, config: AppYaml, scripts: dict[str, WsgiApp]) -> None:
        self._routes = [_route(handler, config, scripts) for handler in config.handlers]
        # App Engine gave an app without `threadsafe: true` one request at a time.
        self._turn = None if config.threadsafe else threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO") or "/"
        for pattern, app, login in self._routes:
            if not pattern.fullmatch(path):
                continue
            if login != "optional" and not environ.get(ADMIN):
                return _plain(start_response, "403 Forbidden", _LOGIN.format(login))
            if self._turn is None:
                return app(environ, start_response)  # type: ignore[no-any-return]
            with self._turn:
                return _whole(app, environ, start_response)
        return _plain(
            start_response, "404 Not Found", "No handler in app.yaml matches this path.\n"
        )


_LOGIN = (
    "app.yaml protects this path with `login: {}`, and there are no accounts here to sign in with. "
    "Protect it in the proxy in front instead, and remove the key.\n"
)


def _whole(app: WsgiApp, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Run `app` to its end, so that a generator does its work while it has the turn."""
    result = app(environ, start_response)
    if isinstance(result, (list, tuple)):
        return result
    try:
        return list(result)
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()


def _route(
    handler: Handler, config: AppYaml, scripts: dict[str, WsgiApp]
) -> tuple[re.Pattern[str], WsgiApp, str]:
    if handler.script is not None:
        return re.compile(handler.url), scripts[handler.script], handler.login
    if handler.static_dir is not None:
        pattern = re.compile(f"(?:{handler.url.rstrip('/')})/(?P<rest_>.+)")
        folder, template = handler.static_dir, r"\g<rest_>"
    else:
        pattern = re.compile(handler.url)
        # Groups of the url never lead out of the folder that stands before them.
        target = handler.static_files or ""
        folder = os.path.dirname(target.partition("\\")[0])
        template = target[len(folder) :].lstrip("/")
    folder = os.path.join(config.root, folder)
    return pattern, _Static(folder, pattern, template), handler.login


class _Static:
    """Files below a folder, named by a template that the groups of the url fill in."""

    def __init__(self, folder: str, pattern: re.Pattern[str], template: str) -> None:
        self._folder = os.path.realpath(folder)
        self._pattern = pattern
        self._template = template

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _plain(start_response, "405 Method Not Allowed", "A static file.\n")
        path = self._file(environ["PATH_INFO"])
        if path is None:
            return _plain(start_response, "404 Not Found", "There is no such file.\n")
        from webob.static import FileApp

        return FileApp(path)(environ, start_response)  # type: ignore[no-any-return]

    def _file(self, url: str) -> str | None:
        match = self._pattern.fullmatch(url.encode("latin-1").decode("utf-8", "replace"))
        if match is None or "\0" in url:
            return None
        try:
            path = os.path.realpath(os.path.join(self._folder, match.expand(self._template)))
        except (re.error, IndexError, OSError, ValueError):
            return None
        return path if path.startswith(self._folder + os.sep) and os.path.isfile(path) else None


# A path encoded more often than this is no honest one, and each decoding costs its length.
_ENCODINGS = 8


class Outside:
    """What the network reaches: the application without `/_ah/` and App Engine's own headers."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if is_internal(path):
            return _plain(
                start_response, "403 Forbidden", "Only the chat service calls /_ah/ paths.\n"
            )
        for name in [name for name in environ if name.startswith("HTTP_X_APPENGINE_")]:
            del environ[name]
        return self._app(environ, start_response)  # type: ignore[no-any-return]


def is_internal(path: str) -> bool:
    """Whether any reading of `path` leads into /_ah/: encoded, doubled, dotted, in capitals."""
    for _ in range(_ENCODINGS):
        decoded = urllib.parse.unquote(path, "latin-1")
        if decoded == path:
            break
        path = decoded
    else:
        return True
    segments = [
        re.sub(r"[\x00-\x20\x7f-\xa0]", "", segment.partition(";")[0]).casefold()
        for segment in re.split(r"[/\\]", path)
    ]
    resolved: list[str] = []
    for segment in segments:
        if segment == "..":
            resolved = resolved[:-1]
        elif segment not in ("", "."):
            resolved.append(segment)
        # Not every application resolves dots before it routes, so each state on the way counts.
        if resolved[:1] == ["_ah"]:
            return True
    return False


def _plain(start_response: StartResponse, status: str, text: str) -> list[bytes]:
    body = text.encode("utf-8")
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]
