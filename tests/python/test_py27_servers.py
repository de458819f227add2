"""A webapp2 2.5.2 app on Python 2.7 itself, beside Prosody and ejabberd, from the wheel."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_py27_engine import interpreter, wheel  # noqa: F401

from support import folders
from support.process import Process
from support.server import COMPONENTS, Server
from support.user import User

pytestmark = pytest.mark.servers

APP = Path(__file__).resolve().parent / "apps" / "legacy27"
BOT = "myapp@myapp.localhost"
REQUIREMENTS = ["webapp2==2.5.2", "WebOb==1.8.9", "PyYAML==5.4.1"]


@pytest.fixture(scope="session")
def python27() -> str:
    return interpreter("python2.7")


@pytest.fixture(scope="session")
def site(python27: str, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A folder into which the interpreter's own pip has installed the wheel, and the rest without waitress."""
    folder = tmp_path_factory.mktemp("site27")
    pip = [python27, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(folder)]
    done = subprocess.run([*pip, "--no-deps", str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*pip, *REQUIREMENTS], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED ON PYTHON 2.7: pip of {python27} cannot install webapp2: {done.stderr[-400:]}")
    return folder


@pytest.fixture(scope="session")
def waitress(python27: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the last waitress for Python 2.7."""
    folder = tmp_path_factory.mktemp("waitress27")
    pip = [python27, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(folder)]
    done = subprocess.run([*pip, "waitress==1.4.4"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED ON PYTHON 2.7: pip of {python27} cannot install waitress: {done.stderr[-400:]}")
    return folder


@contextmanager
def running(python27: str, site: Path, server: Server, *options: str, **more: str) -> Iterator[Process]:
    told = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "APPXMPP_"))}
    told |= {"PYTHONPATH": str(site), "PYTHONUNBUFFERED": "1", "APPXMPP_BACKEND": server.backend()}
    told |= {"APPXMPP_SECRET": COMPONENTS["myapp.localhost"], **more}
    command = [python27, "-B", "-m", "appxmpp", "run", str(APP), *options]
    process = Process(command, name="python2.7", env=told, cwd=APP)
    try:
        yield process
    finally:
        process.kill()


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_an_unchanged_app_answers(python27: str, site: Path, server: Server, user: Callable[..., User]) -> None:
    port = folders.free_ports(1)[0]
    with running(python27, site, server, "--port", str(port)) as process:
        process.wait_for_line("connected as myapp.localhost")
        alice = user()
        alice.message(BOT, "Grüße 📱")
        assert alice.expect("message", body="py2: Grüße 📱").from_ == f"{BOT}/bot"
        process.wait_for_line("heard")
        alice.message(BOT, "/who")
        alice.expect("message", body="nobody")
        alice.message(BOT, "/boom")
        process.wait_for_line("as only Python 2 spells it")
        alice.befriend(BOT)
        alice.presence(to=BOT)
        alice.message(BOT, "/who")
        alice.expect("message", body="you are here ☺")
        assert page(port, "/x") == (200, "a page")
        assert page(port, "/classic") == (200, "a classic page")
        for path in ("/_ah/xmpp/message/chat/", "/%5Fah/x", "//_AH/", "/x/../_ah;y/", "/x\\_ah/"):
            assert page(port, path.replace("\\", "%5C"))[0] == 403, path
        assert process.stop() == 0


def test_waitress_serves_the_pages_where_it_is(python27: str, site: Path, waitress: Path, server: Server) -> None:
    port = folders.free_ports(1)[0]
    paths = os.pathsep.join([str(site), str(waitress)])
    with running(python27, site, server, "--port", str(port), PYTHONPATH=paths) as process:
        process.wait_for_line("connected as myapp.localhost")
        assert page(port, "/x") == (200, "a page")
        assert page(port, "/_ah/xmpp/message/chat/")[0] == 403
        assert "wsgiref" not in process.all_output()
        assert process.stop() == 0


def test_wrong_settings_are_told(python27: str, site: Path, server: Server) -> None:
    with running(python27, site, server, "--port", "none", APPXMPP_SECRET="wrong-one") as process:
        assert process.wait() == 77
        assert "wrong-one" not in process.all_output()
    with running(python27, site, server, APPXMPP_BACKEND="smtp://x") as process:
        assert process.wait() == 78
        assert 'no backend has the scheme "smtp"' in process.all_output()
