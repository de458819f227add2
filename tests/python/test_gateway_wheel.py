"""The gateway's commands as the Python package has them: the same program, called from Python's process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from appxmpp import _native
from appxmpp import gateway as commands

from support.gateway import Callback, Gateway, basic, binary, http_answer
from support.waiting import PATIENCE, until

#: Installed beside this interpreter, and as a module.
SCRIPT = [str(Path(sys.executable).with_name("appxmpp"))]
APP = {"backend": "dev://bot.example.net", "bounce_wait_ms": 0}


@pytest.fixture
def callback() -> Iterator[Callback]:
    with Callback() as running:
        running.answer = lambda _: http_answer(204)
        yield running


def run(*arguments: str | Path, command: list[str] = SCRIPT) -> tuple[int, str, str]:
    argv = [*command, *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_reloads_and_drains(callback: Callback, number: int) -> None:
    with Gateway([APP], command=SCRIPT) as running:
        running.wait_ready()
        headers = {"Authorization": basic("bot.example.net", "dev"), "Content-Type": "application/xmpp+xml"}
        message = "<message to='bot@bot.example.net'><body>x</body></message>"
        assert running.request("POST", "/rest", message, headers).status == 202
        assert 'appxmpp_stream_up{app="bot"} 1' in running.metrics()
        running.configure([{**APP, "callback_url": callback.url}])
        running.process.signal(signal.SIGHUP)
        running.process.wait_for_line("reloaded: callback_url")
        running.process.signal(number)
        running.process.wait_for_line("finishing what is under way")
        assert running.process.wait() == 0
        assert "Traceback" not in running.process.all_output()


def test_a_second_signal_does_not_wait(callback: Callback) -> None:
    with Gateway([{**APP, "url": callback.url}], command=SCRIPT, drain_seconds=600) as running:
        running.wait_ready()
        # A request under way keeps it from ending.
        with socket.create_connection(("127.0.0.1", running.port), PATIENCE) as client:
            client.sendall(b"POST /rest HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
            # The other one is that of the question.
            until(lambda: "appxmpp_http_connections 2\n" in running.metrics(), what="the connection")
            running.process.signal(signal.SIGTERM)
            running.process.wait_for_line("finishing what is under way")
            assert running.process.running()
            running.process.signal(signal.SIGINT)
            assert running.process.wait() == 0


def test_every_command_is_the_same_as_the_programs_own(tmp_path: Path) -> None:
    native = [binary()]
    config = tmp_path / "appxmpp.toml"
    config.write_text('[[app]]\nbackend = "dev://bot.example.net"\n')
    for arguments in (
        ["check", "--config", str(config)],
        ["check", "--config", "/no/such/file"],
        ["example"],
        ["completions", "bash"],
        ["doctor", "--config", str(config)],
        ["gateway", "--help"],
        ["send", "--help"],
        ["send"],
        ["deadletters", "list", "--config", str(config)],
    ):
        assert run(*arguments) == run(*arguments, command=native), arguments
    assert run("check", "--config", config)[0] == 0
    assert run("check", "--config", "/no/such/file")[0] == 78
    assert run("man", tmp_path)[0] == 0
    assert (tmp_path / "appxmpp-gateway.1").exists()


def test_help_lists_them_all() -> None:
    assert list(commands.COMMANDS) == [name for name, _ in _native.gateway_commands()]
    status, said, _ = run("--help")
    assert status == 0
    for command in ("run", "dev", "demo", *commands.COMMANDS):
        assert f"\n    {command}" in said
    assert run("--help", command=[sys.executable, "-m", "appxmpp"])[1] == said


def test_the_program_without_python_says_where_the_rest_is() -> None:
    for command in ("run", "dev", "demo"):
        status, _, said = run(command, command=[binary()])
        assert (status, "pip install appxmpp" in said) == (2, True)
    assert "unrecognized subcommand 'dance'" in run("dance", command=[binary()])[2]


def test_a_reader_that_leaves_is_no_fault() -> None:
    for command in ([binary()], SCRIPT):
        shell = f"{' '.join(command)} example | head -1; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_daemon_does_not_load_the_rest_of_the_package() -> None:
    """A gateway in Python's process is to stay small."""
    code = (
        "import sys, appxmpp.__main__ as entry; sys.argv[1:] = ['example']; entry.main();"
        "heavy = {'argparse', 'yaml', 'appxmpp.cli', 'http.server'} & set(sys.modules);"
        "print(heavy, file=sys.stderr)"
    )
    assert run("-c", code, command=[sys.executable])[2] == "set()\n"
