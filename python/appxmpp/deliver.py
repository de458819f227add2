"""Delivers inbound stanzas to the application, as App Engine's chat service posted them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from appxmpp import direct, errors
from appxmpp.posts import REMOTE_ADDR, addresses, form
from appxmpp.wsgi import ADMIN

log = logging.getLogger("appxmpp.delivery")

_FOR_EVER = float("inf")


class Delivery(Protocol):
    """One inbound stanza, as `appxmpp._native.Delivery` gives it."""

    @property
    def id(self) -> int: ...
    @property
    def stanza_id(self) -> str | None: ...
    @property
    def path(self) -> str: ...
    @property
    def fields(self) -> list[tuple[str, str]]: ...
    @property
    def sender(self) -> str: ...


class Source(Protocol):
    """Where deliveries come from: `appxmpp._native.App`."""

    def next_batch(self, max: int, timeout: float) -> Sequence[Any]: ...
    def done(self, delivery: Any, status: int) -> None: ...


class Caller:
    """Makes the request of one delivery to a WSGI application, on the calling thread."""

    def __init__(
        self, app: direct.WsgiApp, application_id: str, host: str, scheme: str = "http"
    ) -> None:
        self._app = app
        self._host = host
        self._scheme = scheme
        self._extra = {
            "REMOTE_ADDR": REMOTE_ADDR,
            "HTTP_USER_AGENT": "",
            "HTTP_X_APPENGINE_FAKE_IS_ADMIN": "1",
            "HTTP_X_APPENGINE_FAKE_LOGGED_IN": "1",
            "APPLICATION_ID": application_id,
            "USER_IS_ADMIN": "1",
            ADMIN: True,
        }

    def post(
        self,
        path: str,
        fields: list[tuple[str, str]],
        stanza_id: str = "",
        delivery_id: int | None = None,
    ) -> int:
        """The status the app answers with; 500, logged with its traceback, where it raises.

        A delivery that comes again, after a crash of a durable app, has the same `delivery_id`; the
        request carries it as Appxmpp-Delivery, as the gateway's do.
        """
        content_type, body = form(fields)
        status = 404
        for address in addresses(path):
            environ = direct.environ("POST", address, body, content_type, self._host, self._scheme)
            environ.update(self._extra)
            if delivery_id is not None:
                environ["HTTP_APPXMPP_DELIVERY"] = str(delivery_id)
            try:
                status = direct.call(self._app, environ).status
            except Exception:
                log.exception("the handler of %s raised on stanza %s", address, stanza_id)
                return 500
            except (SystemExit, GeneratorExit) as error:
                log.error("the handler of %s ended with %r on stanza %s", address, error, stanza_id)
                return 500
            if status != 404:
                break
        return status


class Dispatcher:
    """Worker threads that pull deliveries from a source and make their requests.

    The source hands out one delivery of a sender at a time, so order and parallelism are its. The
    workers end when the source is closed.
    """

    def __init__(
        self,
        source: Source,
        post: Callable[[str, list[tuple[str, str]], str, int], int],
        workers: int,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._source = source
        self._post = post
        self._failed = failed
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"appxmpp-delivery-{number}", daemon=True)
            for number in range(workers)
        ]

    def start(self) -> None:
        """Start delivering."""
        for thread in self._threads:
            thread.start()

    def closing(self) -> None:
        """From now on it is no failure that the source is closed."""
        self._closing = True

    def join(self, timeout: float) -> bool:
        """Wait for the workers to end; whether all did within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        try:
            while True:
                # One at a time: a slow handler then delays no delivery but its own sender's.
                for delivery in self._source.next_batch(1, _FOR_EVER):
                    self._deliver(delivery)
        except errors.UnavailableError as error:
            if not self._closing:
                self._failed(error)
        except BaseException as error:
            self._failed(error)

    def _deliver(self, delivery: Delivery) -> None:
        started = time.monotonic()
        name = f"{delivery.id}" if delivery.stanza_id is None else repr(delivery.stanza_id)
        status = 500
        try:
            status = self._post(delivery.path, delivery.fields, name, delivery.id)
        finally:
            self._source.done(delivery, status)
        log.log(
            logging.INFO if status < 400 else logging.WARNING,
            "%s from %s: %d in %.0f ms (stanza %s)",
            delivery.path,
            delivery.sender,
            status,
            (time.monotonic() - started) * 1000,
            name,
        )
