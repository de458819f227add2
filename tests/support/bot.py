"""`appxmpp run` as an operator starts it, on an app of the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from . import folders
from .process import Process
from .recorder import Recorder
from .server import Server
from .waiting import PATIENCE, until

APPS = Path(__file__).parent.parent / "python" / "apps"
COMMAND = Path(sys.executable).parent / "appxmpp"


class ServiceFailure(Exception):
    """A function of the xmpp module raised inside the app: the class's name, and its text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class Bot:
    """A running bot; `deliveries` is what its handlers were given.

    Without `wait` it is started and no more, for tests in which it cannot get on.
    """

    def __init__(
        self,
        server: Server | None,
        app: str | Path = "everything",
        *,
        domain: str = "myapp.localhost",
        app_id: str = "myapp",
        secret: str | None = None,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        state: Path | None = None,
        wait: bool = True,
    ) -> None:
        self.app = APPS / app
        self.domain = domain
        self.jid = f"{app_id}@{domain}"
        self.recorder = Recorder()
        self.http_port = folders.free_ports(1)[0]
        self._home = folders.folder("bot")
        self.state = state or self._home / "state.sqlite"
        told = {
            "APPXMPP_TEST_RECORDER": str(self.recorder.path),
            "APPXMPP_STATE": str(self.state),
            "PYTHONPATH": str(APPS),
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            "HOME": str(self._home),
        }
        if server:
            told["APPXMPP_BACKEND"] = server.backend(domain, port)
            if "APPXMPP_SECRET_FILE" not in (env or {}):
                told["APPXMPP_SECRET"] = server.components.get(domain, "") if secret is None else secret
        self.environment = {**os.environ, **told, **(env or {})}
        self.process = self._start()
        if wait:
            try:
                self.wait_connected()
            except BaseException:
                self.close()
                raise

    def _start(self) -> Process:
        return Process(
            [str(COMMAND), "run", "app.yaml", "--port", str(self.http_port)],
            name="appxmpp run",
            env=self.environment,
            cwd=self.app,
        )

    def start(self) -> None:
        """Starts it again, with the same ports and state."""
        self.process = self._start()
        self.wait_connected()

    def wait_connected(self, timeout: float = PATIENCE) -> None:
        """Returns when it said that the server took it."""
        self.process.wait_for_line(r"(?<!not )\bconnected\b", timeout=timeout)
        until(self._serves, what="the app's own HTTP route")

    def _serves(self) -> bool:
        try:
            return self.get("/") is not None
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return answer.read().decode()  # type: ignore[no-any-return]

    def post(self, path: str, body: bytes = b"", timeout: float = 30) -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", body, method="POST")
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read().decode()  # type: ignore[no-any-return]

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Calls `xmpp.NAME(...)` inside the app; raises ServiceFailure when it raises."""
        answer = json.loads(self.post("/call", json.dumps({"name": name, "args": args, "kwargs": kwargs}).encode()))
        if "raised" in answer:
            raise ServiceFailure(answer["raised"], answer["text"])
        return answer["returned"]

    def expect(self, path: str, timeout: float = PATIENCE, **fields: str) -> Any:
        return self.recorder.expect(path, timeout, **fields)

    def logs(self) -> str:
        return self.process.output()

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.process.signal(signal.SIGTERM)
        return self.process.wait()

    def interrupt(self) -> int:
        """Ctrl-C, and its exit status."""
        self.process.signal(signal.SIGINT)
        return self.process.wait()

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.stop()
        self.recorder.close()
        folders.remove(self._home)

    def __enter__(self) -> Bot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def appxmpp(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [str(COMMAND), *arguments],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
