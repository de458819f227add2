"""`appxmpp run`: an App Engine application, its HTTP routes and its chat, in one process."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import threading
import time
import types
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from appxmpp import __version__, backend, errors, loader
from appxmpp.appyaml import AppYaml
from appxmpp.deliver import Caller, Dispatcher
from appxmpp.exits import CONFIG, OK, REFUSED, RUNTIME, Exit
from appxmpp.http import Server, is_loopback
from appxmpp.wsgi import Application, Outside

log = logging.getLogger("appxmpp")


@dataclasses.dataclass(frozen=True)
class Options:
    """How an application is run, apart from where its chat goes."""

    #: Where ordinary HTTP is served; None serves none.
    listen: tuple[str, int] | None = ("127.0.0.1", 8080)
    #: The address that users see, for applications that build links from it.
    public_url: str | None = None
    #: Deliveries at work at a time.
    workers: int = 8
    #: Seconds to finish what is at work when asked to stop.
    drain: float = 20.0
    #: Whether the application sees a development server, as it asks SERVER_SOFTWARE.
    development: bool = False


class Chat(Protocol):
    """The connection that stanzas come from and go to: `appxmpp._native.App`."""

    @property
    def app_id(self) -> str: ...
    @property
    def domain(self) -> str: ...
    def next_batch(self, max: int, timeout: float) -> Sequence[Any]: ...
    def done(self, delivery: Any, status: int) -> None: ...
    # And what a backend needs.
    def wait_ready(self, timeout: float) -> bool: ...
    def send_message(
        self, jids: list[str], body: str, from_jid: str | None, message_type: str, raw_xml: bool
    ) -> list[int]: ...
    def send_presence(
        self, jid: str, presence_type: str, show: str, status: str | None, from_jid: str | None
    ) -> None: ...
    def send_invite(self, jid: str, from_jid: str | None) -> None: ...
    def get_presence(
        self, jids: list[str], from_jid: str | None
    ) -> list[tuple[bool, int | None, bool]]: ...
    def close(self, timeout: float) -> None: ...


class Runner:
    """One application being run. `start`, then `wait` or `stop`."""

    def __init__(self, config: AppYaml, options: Options, chat: Chat) -> None:
        self._config = config
        self._options = options
        self._chat = chat
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._http = Server(options.listen) if options.listen else None
        self.host, self.scheme = _public(options, self._http, chat.domain)

    @property
    def address(self) -> str | None:
        """Where ordinary HTTP is served, as `HOST:PORT`."""
        return self._http.host if self._http else None

    def start(self) -> None:
        """Import the application, serve it, and deliver to it."""
        self._environment()
        backend.set(backend.Embedded(self._chat))
        app = Application(self._config, loader.load(self._config))
        # Opens the connection, so that settings which cannot work are told at once.
        self._chat.wait_ready(0.0)
        application_id = os.environ["APPLICATION_ID"]
        caller = Caller(app, application_id, self.host, self.scheme)
        if self._http:
            self._http.start(Outside(app), threads=4)
            log.info("serving http://%s/", self._http.host)
            if not is_loopback((self._options.listen or ("",))[0]):
                log.warning(
                    "http is served to other machines, without TLS; a proxy belongs in front"
                )
        self._dispatcher = Dispatcher(self._chat, caller.post, self._options.workers, self.fail)
        self._dispatcher.start()

    def fail(self, error: BaseException) -> None:
        """End because of `error`."""
        self._failure = self._failure or error
        self._stop.set()

    def ask_to_stop(self) -> None:
        """End, politely."""
        self._stop.set()

    def wait(self) -> int:
        """Block until asked to stop or failed; the exit code."""
        self._stop.wait()
        if self._failure is not None:
            self.stop(0.0)
            return report(self._failure)
        self.stop(self._options.drain)
        return OK

    def stop(self, timeout: float) -> None:
        """Finish requests and deliveries, say goodbye to the server: in about `timeout` seconds."""
        deadline = time.monotonic() + timeout
        self._dispatcher.closing()
        if self._http:
            self._http.stop(max(0.5, timeout))
        self._chat.close(max(1.0, deadline - time.monotonic()))
        if not self._dispatcher.join(1.0) and timeout:
            log.warning("some handlers did not finish within %g seconds; leaving them", timeout)

    def _environment(self) -> None:
        for name, value in self._config.env_variables.items():
            os.environ.setdefault(name, value)
        stage = "dev" if self._options.development else "s"
        os.environ.setdefault("APPLICATION_ID", f"{stage}~{self._chat.app_id}")
        os.environ.setdefault("CURRENT_VERSION_ID", f"{self._config.version}.1")
        software = "Development/appxmpp" if self._options.development else f"appxmpp/{__version__}"
        os.environ.setdefault("SERVER_SOFTWARE", software)
        name, _, port = self.host.rpartition(":")
        if not name or not port.isdigit():
            name, port = self.host, "443" if self.scheme == "https" else "80"
        os.environ.setdefault("HTTP_HOST", self.host)
        os.environ.setdefault("DEFAULT_VERSION_HOSTNAME", self.host)
        os.environ.setdefault("SERVER_NAME", name)
        os.environ.setdefault("SERVER_PORT", port)


def _public(options: Options, http: Server | None, domain: str) -> tuple[str, str]:
    if options.public_url:
        scheme, _, host = options.public_url.partition("://")
        if scheme not in ("http", "https") or not host.strip("/") or "/" in host.rstrip("/"):
            raise Exit(
                f"--public-url {options.public_url!r} must be http://HOST or https://HOST, "
                "with a port if it needs one."
            )
        return host.rstrip("/"), scheme
    return (http.host if http else domain), "http"


def report(error: BaseException) -> int:
    """Log what ended the run; the exit code for it."""
    if isinstance(error, errors.NotAuthorizedError):
        log.error("%s", error)
        return REFUSED
    if isinstance(error, errors.ConfigError):
        log.error("%s", error)
        return CONFIG
    log.error("%s", error, exc_info=None if isinstance(error, errors.Error) else error)
    return RUNTIME


def announce(config: AppYaml) -> None:
    """One line for what app.yaml says and this program does not do."""
    if config.ignored:
        log.info("%s: not used here: %s", os.path.basename(config.path), ", ".join(config.ignored))
    if not config.inbound_services:
        log.warning(
            "%s enables no chat: add `inbound_services:` with `- xmpp_message` (and xmpp_presence, "
            "xmpp_subscribe, xmpp_error as the app needs them)",
            config.path,
        )
    if not config.threadsafe:
        log.info("the app gets one request at a time, as on App Engine without `threadsafe: true`")


def serve(runner: Runner) -> int:
    """Run until a signal or a failure ends it; the exit code."""
    with Signals(runner.ask_to_stop):
        runner.start()
        return runner.wait()


class Signals:
    """The first SIGINT or SIGTERM asks to stop, the second ends the process at once."""

    def __init__(self, ask_to_stop: Callable[[], None]) -> None:
        self._ask = ask_to_stop

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._first)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    def _first(self, number: int, frame: types.FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        # No logging here: the signal may have come while this thread held the log's lock.
        os.write(2, b"stopping: finishing what is at work; once more to stop at once\n")
        self._ask()
