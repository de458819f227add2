"""ejabberd 23.01 as Debian packages it.

Started through `erl` rather than ejabberdctl: one process with one pid, and any user may do it.
"""

from __future__ import annotations

import glob
import json
import os
import urllib.error
import urllib.request
from typing import Any

from .process import Process
from .server import Account, Server

#: Of this component's two connections, one sender always gets the same one.
BALANCED = "balanced.localhost"


class Ejabberd(Server):
    kind = "ejabberd"
    user = "ejabberd"
    program = "ejabberdctl"

    def _configure(self) -> None:
        self._spool = self._subfolder("spool")
        cookie = self._write("spool/.erlang.cookie", "appxmpp-tests")
        cookie.chmod(0o400)
        self._config = self._write(
            "ejabberd.yml",
            f"""
loglevel: info
log_rotate_count: 0
hosts: ["{self.domain}"]
certfiles: ["{self.certificate.both}"]
listen:
  - port: {self.c2s_port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    max_stanza_size: 1048576
    shaper: none
    access: all
    starttls: true
  - port: {self.c2s_tls_port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    max_stanza_size: 1048576
    shaper: none
    access: all
    tls: true
{self._component_config or self._components()}
  - port: {self.http_port}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers: {{/api: mod_http_api}}
domain_balancing:
  "{BALANCED}": {{type: bare_source, component_number: 2}}
s2s_access: none
auth_method: internal
auth_password_format: plain
api_permissions:
  "tests": {{from: [mod_http_api], who: {{ip: 127.0.0.1/8}}, what: [register, get_presence]}}
shaper_rules: {{max_user_offline_messages: 100}}
modules:
  mod_admin_extra: {{}}
  mod_caps: {{}}
  mod_disco: {{}}
  mod_http_api: {{}}
  mod_offline: {{access_max_user_messages: max_user_offline_messages}}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_stream_mgmt: {{}}
  mod_version: {{}}
""",
        )

    def _components(self) -> str:
        hosts = "".join(f'      "{domain}": {{password: "{secret}"}}\n' for domain, secret in self.components.items())
        listeners = {
            self.component_port: "",
            self.component_tls_port: f"    tls: true\n    certfile: {self.certificate.both}\n",
        }
        return "".join(
            f"""  - port: {port}
    ip: "127.0.0.1"
    module: ejabberd_service
    access: all
    shaper: none
    global_routes: false
{tls}    hosts:
{hosts}"""
            for port, tls in listeners.items()
        )

    def _launch(self) -> Process:
        found = glob.glob("/usr/lib/*/ejabberd-*/ebin/ejabberd.app")
        if not found:
            raise RuntimeError("ejabberd's Erlang code is not below /usr/lib: is the Debian package installed?")
        return Process(
            ["erl", "-sname", "appxmpp-tests@localhost", "-noinput"]
            + ["-erl_epmd_port", str(self.extra_port), "-start_epmd", "false"]
            + ["-kernel", "inet_dist_use_interface", "{127,0,0,1}"]
            + ["-mnesia", "dir", f'"{self._spool}"', "-ejabberd", "log_rotate_count", "0", "-s", "ejabberd"],
            name="ejabberd",
            env={
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "HOME": str(self._spool),
                "ERL_LIBS": os.path.dirname(os.path.dirname(os.path.dirname(found[0]))),
                "ERL_DIST_PORT": str(self.extra_port),
                "ERL_MAX_PORTS": "4096",
                "ERL_CRASH_DUMP_BYTES": "0",
                "EJABBERD_CONFIG_PATH": str(self._config),
                "EJABBERD_LOG_PATH": str(self.folder / "ejabberd.log"),
                "EJABBERD_PID_PATH": str(self.folder / "ejabberd.pid"),
            },
            cwd=self._spool,
            user=self.user,
            log=self.log,
        )

    def _ready(self) -> list[str]:
        ports = [self.c2s_port, self.component_port, self.http_port]
        return [r"ejabberd \S+ is started", *(rf"Start accepting .*:{port} " for port in ports)]

    def restore(self, account: Account) -> bool:
        # What was registered in its last seconds is not on disk yet.
        try:
            self._register(account.jid.partition("@")[0], account.password)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
            return False
        return True

    def delivers_to(self, account: Account) -> bool:
        name, host = account.jid.split("@")
        return bool(self._call("get_presence", user=name, host=host)["show"] != "unavailable")

    def _register(self, name: str, password: str) -> None:
        self._call("register", user=name, host=self.domain, password=password)

    def _call(self, command: str, **arguments: str) -> Any:
        """The answer to a command of its HTTP API."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/api/{command}",
            json.dumps(arguments).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)
