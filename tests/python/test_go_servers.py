"""The Go examples as their first comments start them, beside Prosody and ejabberd."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import folders
from support.gateway import Gateway
from support.process import Process
from support.server import COMPONENTS, Server
from support.user import User

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "go"
ENVIRONMENT = ROOT / "tests" / "go" / "env"
DOMAIN = "myapp.localhost"
SECRET = COMPONENTS[DOMAIN]


def command(example: str) -> list[str]:
    """The command in the first line of an example, without its settings."""
    first = (EXAMPLES / example / "main.go").read_text(encoding="utf-8").splitlines()[0]
    found = re.fullmatch(r"// (?:[A-Z_]+=\S+ )+(go run \./\w+)", first)
    assert found, first
    return found[1].split()


@pytest.fixture(scope="session")
def built() -> None:
    """Compiles once, so that the tests below wait for programs and not for compilers."""
    subprocess.run([ENVIRONMENT, "go", "build", "-o", os.devnull, "./echo"], cwd=EXAMPLES, check=True)
    subprocess.run([ENVIRONMENT, "go", "build", "-o", os.devnull, "./webhook"], cwd=EXAMPLES, check=True)


@contextmanager
def running(example: str, ready: str, settings: Mapping[str, str]) -> Iterator[Process]:
    process = Process([str(ENVIRONMENT), *command(example)], name=example, env={**os.environ, **settings}, cwd=EXAMPLES)
    try:
        process.wait_for_line(ready)
        yield process
    finally:
        process.kill()  # The whole session: `go run` leaves its child.


def test_echo(server: Server, user: Callable[..., User], built: None) -> None:
    told = {"APPXMPP_BACKEND": f"component://{DOMAIN}@127.0.0.1:{server.component_port}", "APPXMPP_SECRET": SECRET}
    with running("echo", "connected", told) as process:
        alice = user()
        alice.message(f"myapp@{DOMAIN}", "hello <go> ☺")
        reply = alice.expect("message", body="hello <go> ☺")
        assert reply.from_ == f"myapp@{DOMAIN}/bot"
        assert reply.type == "chat"
        alice.befriend(f"myapp@{DOMAIN}")
        process.wait_for_line(re.escape(f"{alice.jid.partition('/')[0]}: subscribe"))


def test_webhook_behind_the_gateway(server: Server, user: Callable[..., User], built: None) -> None:
    port = folders.free_ports(1)[0]
    app = {
        "secret": SECRET,
        "backend": server.backend(DOMAIN),
        "url": f"http://127.0.0.1:{port}",
        "webhook_secret": "hook-secret",
    }
    with Gateway([app]) as gateway:
        gateway.wait_ready()
        told = {
            "APPXMPP_BACKEND": f"http://{DOMAIN}@127.0.0.1:{gateway.port}",
            "APPXMPP_SECRET": SECRET,
            "WEBHOOK_SECRET": "hook-secret",
            "LISTEN": f"127.0.0.1:{port}",
        }
        with running("webhook", "listening at", told):
            alice = user()
            alice.message(f"myapp@{DOMAIN}", "hello")
            assert alice.expect("message", body="You said: hello").from_ == f"myapp@{DOMAIN}/bot"
