"""The engine over ctypes and libappxmpp: with this Python always, with Python 2.7 and PyPy where they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import appxmpp._native
import pytest
from fake_server import ACCEPT, FakeServer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def find(kind: str) -> str | None:
    """An interpreter of that kind that works."""
    if kind == "python3":
        return sys.executable
    named = {"python2.7": "APPXMPP_PYTHON27", "pypy": "APPXMPP_PYPY"}[kind]
    known = {"python2.7": ["python2.7", "python2"], "pypy": ["pypy", "pypy3"]}[kind]
    pyenv = sorted(Path.home().glob(".pyenv/versions/2.7*/bin/python")) if kind == "python2.7" else []
    for candidate in [os.environ.get(named), *(shutil.which(name) for name in known), *map(str, pyenv)]:
        ask = "import platform, sys; print(platform.python_implementation(), sys.version_info[0])"
        wanted = {"python2.7": "('CPython', 2)\n", "pypy": "PyPy"}[kind]
        if candidate:
            said = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False).stdout
            if said.startswith(wanted) or (kind == "pypy" and "PyPy" in said):
                return candidate
    return None


def interpreter(kind: str) -> str:
    found = find(kind)
    if found is None:
        where = {"python2.7": "PATH, or APPXMPP_PYTHON27", "pypy": "PATH, or APPXMPP_PYPY"}[kind]
        pytest.skip(f"NOT TESTED ON {kind.upper()}: no such interpreter ({where}=/path names one)")
    return found


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The py2.py3 wheel with the library of these sources."""
    subprocess.run(["cargo", "build", "--quiet", "--package", "appxmpp-capi"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    command = [sys.executable, str(ROOT / "python" / "build_ctypes_wheel.py"), str(target / "debug" / "libappxmpp.so")]
    out = subprocess.run([*command, str(tmp_path_factory.mktemp("wheel"))], capture_output=True, text=True, check=True)
    return Path(out.stdout.strip())


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, as every installer would unpack it."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.unpack_archive(wheel, folder, "zip")
    return folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "APPXMPP_"))}
    return {**clean, "PYTHONPATH": str(folder), **more}


class Engine:
    """An `App` in a process of the interpreter at hand."""

    def __init__(self, python: str, folder: Path, backend: str, **more: str) -> None:
        self.process = subprocess.Popen(
            [python, "-B", str(HERE / "py27_engine.py")],
            env=environment(folder, BACKEND=backend, **more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *call: Any) -> list[Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.wait()}"
        return json.loads(line)

    def __call__(self, *call: Any) -> Any:
        kind, *value = self.ask(*call)
        assert kind == "ok", value
        return value[0]

    def end(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(20)


@pytest.fixture(params=["python3", "python2.7", "pypy"])
def python(request: pytest.FixtureRequest) -> str:
    return interpreter(request.param)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture
def engine(python: str, installed: Path, server: FakeServer) -> Iterator[Engine]:
    running = Engine(python, installed, server.backend(secret=False))
    assert running("wait_ready", 20) is True
    yield running
    running.process.kill()
    running.process.wait()


def test_it_knows_who_it_is(engine: Engine) -> None:
    app_id, domain, version, _ = engine("identity")
    assert (app_id, domain) == ("myapp", "bot.localhost")
    assert version in ([2, 7], [3, version[1]])


def test_a_version_sees_and_uses_the_addresses_it_had_on_app_engine(python: str, installed: Path) -> None:
    with FakeServer("beta.latest.bot.localhost") as server:
        told = {"VERSION": "beta", "ADDRESSES": "appengine"}
        engine = Engine(python, installed, server.backend(secret=False), **told)
        try:
            assert engine("wait_ready", 20) is True
            server.message("hello", to="news")
            ((number, _, _, _, _, fields),) = engine("next_batch", 5, 20)
            shown = dict(fields)["to"]
            assert shown == "news@beta.latest.myapp.appspotchat.com"
            engine("done", number, 200)
            for sender, real in [(shown, "news"), ("myapp@bot.localhost", "myapp")]:
                assert engine("send_message", ["a@example.net"], "x", sender, "chat", False) == [0]
                assert server.next().get("from") == f"{real}@{server.domain}/bot"
        finally:
            engine.process.kill()
            engine.process.wait()


def test_messages_are_sent(engine: Engine, server: FakeServer) -> None:
    body = "Grüße <b> & ☺\n漢字 📱"
    assert engine("send_message", ["a@example.net", "no address", "b@example.net"], body, None, "chat", False) == [
        0,
        1,
        0,
    ]
    first, second = server.next(), server.next()
    assert (first.get("to"), second.get("to")) == ("a@example.net", "b@example.net")
    assert first.findtext(ACCEPT + "body") == body
    assert first.get("from") == "myapp@bot.localhost/bot"
    assert engine("send_message", ["a@example.net"], "<body>x</body>", "news@bot.localhost", "normal", True) == [0]
    raw = server.next()
    assert (raw.get("from"), raw.get("type"), raw.findtext(ACCEPT + "body")) == (
        "news@bot.localhost/bot",
        "normal",
        "x",
    )


@pytest.mark.parametrize(
    ("call", "name", "code"),
    [
        (["send_message", ["a@b"], "", None, "chat", False], "ServiceError", 3),
        (["send_message", ["a@b"], "<b>", None, "chat", True], "ServiceError", 4),
        (["send_message", ["a@b"], "x", None, "CHAT", False], "ServiceError", 5),
        (["send_message", ["a@b"], "x" * 150_000, None, "chat", False], "ServiceError", 7),
        (["send_message", ["a@b"] * 4, "x" * 90_000, "x@other.example", "chat", False], "ServiceError", 2),
        (["send_message", ["a@example.net"] * 90_000, "x", None, "chat", False], "CallTooLargeError", None),
        (["send_presence", "a@b", "", "busy", None, None], "ServiceError", 6),
        (["send_invite", "@", None], "ServiceError", 2),
        (["get_presence", [], None], "ServiceError", 2),
        (["send_message", [5], "x", None, "chat", False], "TypeError", None),
    ],
)
def test_refusals_have_app_engines_codes(engine: Engine, call: list[Any], name: str, code: int | None) -> None:
    kind, raised, number, text = engine.ask(*call)
    assert (kind, raised, number) == ("raised", name, code)
    assert len(text) > 10


def test_presence(engine: Engine, server: FakeServer) -> None:
    to = "myapp@bot.localhost"
    server.send(f"<presence from='a@example.net/x' to='{to}'><show>xa</show><status>tea ☕</status></presence>")
    ((number, path, service, sender, _, fields),) = engine("next_batch", 5, 20)
    assert (path, service, sender) == ("/_ah/xmpp/presence/available/", "xmpp_presence", "a@example.net")
    assert fields[:4] == [["from", "a@example.net/x"], ["to", to], ["show", "xa"], ["status", "tea ☕"]]
    engine("done", number, 200)
    asked = ["a@example.net", "b@example.net", "no address"]
    assert engine("get_presence", asked, None) == [[True, 4, True], [False, None, True], [False, None, False]]
    engine("send_presence", "a@example.net", "", "dnd", "später", None)
    while (presence := server.next("presence")).findtext(ACCEPT + "show") != "dnd":
        pass
    assert presence.findtext(ACCEPT + "status") == "später"
    engine("send_invite", "c@example.net", None)
    while (invite := server.next("presence")).get("to") != "c@example.net":
        pass
    assert invite.get("type") == "subscribe"


def test_deliveries_of_one_sender_wait_for_each_other(engine: Engine, server: FakeServer) -> None:
    for body in ("1", "2"):
        server.message(body, id=f"id{body}")
    server.message("other", sender="juliet@example.net/balcony")
    batch = []
    while len(batch) < 2:
        batch += engine("next_batch", 8, 20)
    assert sorted(dict(map(tuple, one[5]))["body"] for one in batch) == ["1", "other"]
    assert engine("next_batch", 8, 0.05) == []
    first = next(one for one in batch if one[4] == "id1")
    engine("done", first[0], 200)
    ((_, path, _, sender, stanza_id, fields),) = engine("next_batch", 8, 20)
    assert (path, sender, stanza_id) == ("/_ah/xmpp/message/chat/", "romeo@example.net", "id2")
    assert [name for name, _ in fields] == ["from", "to", "body", "stanza"]
    assert "<cli:body>2</cli:body>" in dict(map(tuple, fields))["stanza"]
    assert engine("stats")["deliveries_handled"] == 1


def test_the_numbers_are_the_native_modules(engine: Engine, server: FakeServer) -> None:
    assert engine("send_message", ["a@example.net"], "x", None, "chat", False) == [0]
    found = engine("stats")
    assert (found["ready"], found["connects"], found["stanzas_out"]) == (1, 1, 1)
    native = appxmpp._native.App(server.backend(), app_id="myapp")
    assert native.stats().keys() == found.keys()
    native.close(0)


def test_what_the_core_says_reaches_logging(python: str, installed: Path, server: FakeServer) -> None:
    code = (
        "import logging; logging.basicConfig(level=logging.INFO, format='%(name)s %(levelname)s %(message)s')\n"
        "from appxmpp import _ctypes; import os\n"
        "app = _ctypes.App(os.environ['BACKEND']); assert app.wait_ready(20)"
    )
    told = environment(installed, BACKEND=server.backend())
    said = subprocess.run([python, "-B", "-c", code], env=told, capture_output=True, text=True, check=False)
    assert re.search(r"^appxmpp\.net\.\w+ INFO connected.*bot\.localhost", said.stderr, re.M), said.stderr
    assert server.secret not in said.stderr
    assert said.returncode == 0


def test_a_forked_process_is_told(engine: Engine) -> None:
    assert engine("in_child").startswith("UnavailableError: this App was made before fork()")
    assert engine("stats")["ready"] == 1


def test_closing_says_goodbye(engine: Engine, server: FakeServer) -> None:
    server.wait_login()
    engine("close", 5)
    assert server.ends.get(timeout=20) is True
    assert engine.ask("next_batch", 1, 5)[:2] == ["raised", "UnavailableError"]
    assert engine.ask("send_message", ["a@b"], "x", None, "chat", False) in (
        ["ok", [2]],
        ["raised", "UnavailableError", None, engine.ask("next_batch", 1, 0)[3]],
    )
    assert engine.end() == 0


def test_the_end_of_the_process_says_goodbye(engine: Engine, server: FakeServer) -> None:
    server.wait_login()
    assert engine.end() == 0
    assert server.ends.get(timeout=20) is True


def test_a_wrong_secret_is_told(python: str, installed: Path) -> None:
    with FakeServer(secret="another") as server:
        engine = Engine(python, installed, server.backend(secret=False))
        kind, name, _, text = engine.ask("wait_ready", 30)
        assert (kind, name) == ("raised", "NotAuthorizedError"), text
        assert "s3cret" not in text
        assert engine.ask("next_batch", 1, 5)[:2] == ["raised", "NotAuthorizedError"]
        engine.process.kill()
        engine.process.wait()


def test_subscriptions_survive_in_the_state_file(
    python: str, installed: Path, server: FakeServer, tmp_path: Path
) -> None:
    state = tmp_path / "state.sqlite"
    engine = Engine(python, installed, server.backend(secret=False), STATE=str(state))
    assert engine("wait_ready", 20)
    engine("send_invite", "a@example.net", None)
    assert engine.end() == 0
    assert state.stat().st_size > 0


def test_the_package_finds_it_where_there_is_no_native_module(python: str, installed: Path, server: FakeServer) -> None:
    code = "from google.appengine.api import xmpp; print(xmpp.send_message('a@example.net', u'h\\xe9'))"
    told = environment(installed, APPXMPP_BACKEND=server.backend(), APPLICATION_ID="s~myapp")
    said = subprocess.run(
        [python, "-B", "-c", f"import appxmpp; {code}"], env=told, capture_output=True, text=True, check=False
    )
    assert (said.stdout, said.stderr) == ("0\n", "")
    assert server.next_body() == "hé"


def test_a_missing_library_is_told(python: str, installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    shutil.copytree(installed, folder, ignore=shutil.ignore_patterns("libappxmpp.so"))
    code = "import appxmpp; from google.appengine.api import xmpp; xmpp.send_message('a@example.net', 'x')"
    told = environment(folder, APPXMPP_BACKEND="component://bot.localhost:s@127.0.0.1:1")
    said = subprocess.run([python, "-B", "-c", code], env=told, capture_output=True, text=True, check=False)
    assert "libappxmpp cannot be loaded" in said.stderr


def test_the_wheel_is_one_for_both_pythons(wheel: Path, installed: Path) -> None:
    assert wheel.name.split("-")[2:4] == ["py2.py3", "none"]
    names = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert {"appxmpp/libappxmpp.so", "appxmpp/_ctypes.py", "google/appengine/api/xmpp/__init__.py"} <= names
    assert "appxmpp/cli.py" not in names
    record = next(installed.glob("*.dist-info")) / "RECORD"
    assert len(record.read_text().splitlines()) == len(names)


def test_every_module_of_the_wheel_compiles_on_python_2(installed: Path) -> None:
    command = [interpreter("python2.7"), "-m", "compileall", "-q", "-f", str(installed)]
    assert subprocess.run(command, check=False).returncode == 0
