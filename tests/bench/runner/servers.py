"""The Prosody of a run: the tests' own, with a quiet log and, where it is at hand, mod_rest."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from .options import ROOT
from .proc import BenchError, cpu_seconds

sys.path.insert(0, str(ROOT / "tests"))

from support import folders, prosody

SECRET = "bench-secret"

CONFIG = """\
data_path = "{folder}/data"
pidfile = "{folder}/prosody.pid"
plugin_paths = {{ {plugins} }}
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
interfaces = {{ "127.0.0.1" }}; local_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {c2s_port} }}; component_ports = {{ {component_port} }}
http_ports = {{ {http_port} }}; https_ports = {{ }}
modules_enabled = {{ "saslauth", "posix" }}
modules_disabled = {{ "s2s", "offline" }}
authentication = "internal_plain"

VirtualHost "localhost"
"""


class Prosody(prosody.Prosody):
    """Prosody with XEP-0114 components; `rest_callbacks` names mod_rest components and where each posts its stanzas."""

    def __init__(
        self, components: list[str], *, plugins: Path | None = None, rest_callbacks: dict[str, str] | None = None
    ):
        if why := self.missing():
            raise BenchError(why)
        self._plugins, self._rest_callbacks = plugins, rest_callbacks or {}
        try:
            super().__init__(dict.fromkeys(components, SECRET))
        except AssertionError as error:
            raise BenchError(f"Prosody does not start: {error}") from error
        self.address = f"127.0.0.1:{self.component_port}"

    def _configure(self) -> None:
        self._subfolder("data")
        plugins = ""
        if self._plugins:
            # Its own user may not read our folders.
            copied = shutil.copytree(self._plugins, self.folder / "plugins")
            for path in [copied, *copied.rglob("*")]:
                folders.give(path, self.user)
            plugins = f'"{copied}"'
        config = CONFIG.format(
            folder=self.folder,
            plugins=plugins,
            c2s_port=self.c2s_port,
            component_port=self.component_port,
            http_port=self.http_port,
        )
        for name, secret in self.components.items():
            config += f'\nComponent "{name}"\n\tcomponent_secret = "{secret}"\n'
        for name, url in self._rest_callbacks.items():
            config += f'\nComponent "{name}" "rest"\n\tcomponent_secret = "{SECRET}"\n\trest_callback_url = "{url}"\n'
        self._config = self._write("prosody.cfg.lua", config)

    def _ready(self) -> list[str]:
        ports = {"c2s": self.c2s_port, "component": self.component_port}
        return [rf"Activated service '{service}' on .*:{port}" for service, port in ports.items()]

    def cpu(self) -> float:
        assert self._process
        return cpu_seconds(self._process.pid)
