"""The README does what it says: its server configuration, its app.yaml and its bot are taken out and run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.bot import Bot
from support.servers import KINDS
from support.user import User

pytestmark = pytest.mark.servers

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(marker: str) -> str:
    """The fenced block behind `<!-- run: MARKER -->`."""
    found = re.search(rf"<!-- run: {re.escape(marker)} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"no block {marker} in the README"
    return found[1]


def setting(name: str) -> str:
    found = re.search(rf"^export {name}=(.*)$", README, re.MULTILINE)
    assert found, f"no {name} in the README"
    return found[1]


@pytest.mark.parametrize("kind", list(KINDS))
def test_moving_from_app_engine_step_by_step(kind: str, tmp_path: Path) -> None:
    if why := KINDS[kind].missing():
        pytest.fail(why)
    config = block(kind)
    assert "the secret from the file" in config
    secret_file = tmp_path / "mybot.secret"
    secret_file.write_text("4f1c0ffee\n")
    secret_file.chmod(0o600)
    program = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert program
    (tmp_path / "main.py").write_text(program[1])
    (tmp_path / "app.yaml").write_text(block("app.yaml"))
    config = config.replace("the secret from the file", "4f1c0ffee")
    with KINDS[kind]({"bot.example.com": "4f1c0ffee"}, config) as server:
        told = {
            "APPXMPP_BACKEND": setting("APPXMPP_BACKEND").replace("5347", str(server.component_port)),
            "APPXMPP_SECRET_FILE": str(secret_file),
        }
        with User(server) as alice, Bot(server, tmp_path, domain="bot.example.com", app_id="mybot", env=told):
            alice.message("mybot@bot.example.com", "hello there")
            assert alice.expect("message", from_bare="mybot@bot.example.com").body == "You said: hello there"
