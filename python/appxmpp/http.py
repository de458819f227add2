"""Serves the application's ordinary HTTP routes, by waitress, on threads of its own."""

from __future__ import annotations

import ipaddress
import socket
import threading

from appxmpp.direct import WsgiApp
from appxmpp.exits import RUNTIME, Exit


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Server:
    """Listens from the moment it exists; answers once started."""

    def __init__(self, listen: tuple[str, int]) -> None:
        host, port = listen
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._socket = socket.socket(family, kind)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
        except OSError as error:
            raise Exit(
                f"cannot listen at {host}:{port}: {error.strerror or error}. "
                "Choose another with --host and --port, or serve no web pages with --port none.",
                RUNTIME,
            ) from None
        self.port: int = self._socket.getsockname()[1]
        #: As it stands in a URL.
        self.host = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def start(self, app: WsgiApp, threads: int) -> None:
        """Serve `app` from now on."""
        try:
            import waitress
        except ImportError:
            raise Exit("serving HTTP needs waitress: pip install 'appxmpp[run]'") from None
        self._server = waitress.create_server(
            app,
            sockets=[self._socket],
            threads=threads,
            ident=None,
            clear_untrusted_proxy_headers=True,
        )
        self._thread = threading.Thread(target=self._server.run, name="appxmpp-http", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Accept no more connections, finish the requests at work, end."""
        from waitress import wasyncore

        server = self._server

        def leave() -> None:
            # The trigger stays open: whoever pulls it has this called before its own write.
            others = {at: item for at, item in server._map.items() if item is not server.trigger}
            wasyncore.close_all(others, ignore_all=True)
            server._map.clear()

        server.trigger.pull_trigger(lambda: wasyncore.dispatcher.close(server))
        server.task_dispatcher.shutdown(cancel_pending=True, timeout=timeout)
        server.trigger.pull_trigger(leave)
        self._thread.join(timeout)
        if not self._thread.is_alive():
            server.trigger.close()
