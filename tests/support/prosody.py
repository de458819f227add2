"""Prosody 0.12 as Debian packages it."""

from __future__ import annotations

import os
import subprocess

from .process import Process, as_user
from .server import Server


class Prosody(Server):
    kind = "prosody"
    user = "prosody"
    program = "prosody"

    def _configure(self) -> None:
        data = self._subfolder("data")
        components = self._component_config or "".join(
            f'Component "{domain}"\n\tcomponent_secret = "{secret}"\n' for domain, secret in self.components.items()
        )
        self._config = self._write(
            "prosody.cfg.lua",
            f"""
data_path = "{data}"
pidfile = "{self.folder}/prosody.pid"
log = {{ {{ levels = {{ min = "debug" }}, to = "console" }} }}
interfaces = {{ "127.0.0.1" }}; local_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.c2s_port} }}; c2s_direct_tls_ports = {{ {self.c2s_tls_port} }}
component_ports = {{ {self.component_port} }}
http_ports = {{ {self.http_port} }}; https_ports = {{ }}
modules_enabled = {{ "saslauth", "tls", "disco", "roster", "ping", "version", "offline", "posix", "smacks" }}
modules_disabled = {{ "s2s" }}
authentication = "internal_plain"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
c2s_stanza_size_limit = 1048576
smacks_max_queue_size = 10000
ssl = {{ key = "{self.certificate.key}", certificate = "{self.certificate.certificate}" }}

VirtualHost "{self.domain}"
	ssl = {{ key = "{self.certificate.key}", certificate = "{self.certificate.certificate}" }}

{components}""",
        )

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.folder)}

    def _launch(self) -> Process:
        return Process(
            ["prosody", "--config", str(self._config), "-F"],
            name="prosody",
            env=self._environment(),
            cwd=self.folder,
            user=self.user,
            log=self.log,
        )

    def _ready(self) -> list[str]:
        ports = {"c2s": self.c2s_port, "c2s_direct_tls": self.c2s_tls_port, "component": self.component_port}
        return [rf"Activated service '{service}' on .*:{port}" for service, port in ports.items()]

    def _register(self, name: str, password: str) -> None:
        command = ["prosodyctl", "--config", str(self._config), "register", name, self.domain, password]
        subprocess.run(
            [*as_user(self.user), *command], env=self._environment(), cwd=self.folder, check=True, capture_output=True
        )
