"""What the tests can do with a real XMPP server, whichever it is."""

from __future__ import annotations

import itertools
import shutil
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from . import certs, folders
from .daemon import Daemon
from .process import Process

#: The domains of apps, and their secrets, unless a test asks for others.
COMPONENTS: Mapping[str, str] = {"myapp.localhost": "s3cret", "second.localhost": "an0ther"}


@dataclass(frozen=True)
class Account:
    jid: str
    password: str


class Server(Daemon):
    """One running server: folder, user, ports and data of its own, gone at the end.

    `stop`, `start` and `restart` keep the ports too.
    """

    kind: ClassVar[str]
    program: ClassVar[str]
    domain = "localhost"
    _numbers = itertools.count(1)

    def __init__(self, components: Mapping[str, str] = COMPONENTS, component_config: str | None = None) -> None:
        """`component_config` replaces what would be written for `components`; its port 5347 becomes ours."""
        self.components = dict(components)
        self.c2s_port, self.component_port, self.http_port, self.extra_port = folders.free_ports(4)
        #: The same with TLS from the first byte on; for components only where the server can.
        self.c2s_tls_port, self.component_tls_port = folders.free_ports(2)
        super().__init__(self.kind)
        self._component_config = component_config and component_config.replace("5347", str(self.component_port))
        try:
            certificate_folder = self._subfolder("certs")
            self.certificate = certs.self_signed(certificate_folder)
            for path in certificate_folder.iterdir():
                folders.give(path, self.user)
            self._configure()
            self.start()
        except BaseException:
            self.close()
            raise

    @classmethod
    def missing(cls) -> str | None:
        """Why this server cannot run here, or None."""
        if shutil.which(cls.program, path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin"):
            return None
        return f"{cls.program} is not installed: run `make setup` as root, or apt-get install {cls.kind}"

    @abstractmethod
    def _configure(self) -> None: ...

    @abstractmethod
    def _launch(self) -> Process: ...

    @abstractmethod
    def _ready(self) -> list[str]:
        """What its output says when it takes connections (regular expressions)."""

    @abstractmethod
    def _register(self, name: str, password: str) -> None: ...

    def start(self) -> None:
        self._process = self._launch()
        self._process.wait_for_line(*self._ready(), timeout=60)

    def account(self, name: str = "user") -> Account:
        """A new account; its name is `name` with a number, so that no test meets another's roster."""
        made = Account(f"{name}{next(self._numbers)}@{self.domain}", "pw-" + name)
        self._register(made.jid.split("@")[0], made.password)
        return made

    def restore(self, account: Account) -> bool:
        """Makes an account again that may not have survived `kill`; whether that was so."""
        return False

    def delivers_to(self, account: Account) -> bool:
        """Whether a message to it, sent now, reaches the client that has just logged in.

        Otherwise it may be stored after the client was given what is stored, and wait for the next login.
        """
        return True

    def backend(self, domain: str = "myapp.localhost", port: int | None = None) -> str:
        """What an operator writes into APPXMPP_BACKEND (without the secret)."""
        return f"component://{domain}@127.0.0.1:{port or self.component_port}"

    def account_backend(self, jid: str, port: int | None = None, **options: str) -> str:
        """The same for an account, whose server is on this machine; `options` stand behind the `?`."""
        if options.get("tls") == "direct":
            port = port or self.c2s_tls_port
        told = "&".join(f"{name}={value}" for name, value in {"host": "127.0.0.1", **options}.items())
        return f"client://{jid}:{port or self.c2s_port}?{told}"

    def environment(self) -> dict[str, str]:
        """What a program under `python -m support.servers` is told."""
        domain, secret = next(iter(self.components.items()))
        return {
            "XMPP_SERVER": self.kind,
            "XMPP_DOMAIN": self.domain,
            "XMPP_C2S_PORT": str(self.c2s_port),
            "XMPP_COMPONENT_PORT": str(self.component_port),
            "XMPP_HTTP_PORT": str(self.http_port),
            "XMPP_COMPONENT_DOMAIN": domain,
            "XMPP_COMPONENT_SECRET": secret,
            "XMPP_COMPONENTS": " ".join(f"{d}={s}" for d, s in self.components.items()),
            "XMPP_CA_FILE": str(self.certificate.certificate),
            "XMPP_PID": str(self._process.pid if self._process else 0),
        }

    def _subfolder(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir()
        folders.give(path, self.user)
        return path

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        folders.give(path, self.user)
        return path
