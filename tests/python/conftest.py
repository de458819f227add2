"""Fixtures for the tests that need a real server; logs are attached to a test that fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from support.bot import Bot
from support.server import Account, Server
from support.servers import KINDS
from support.user import User


def pytest_configure() -> None:
    # A terminated run has to stop its servers like an interrupted one.
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@pytest.fixture(autouse=True)
def _settings_are_put_back() -> Iterator[None]:
    """A setting that a test leaves behind is the next test's riddle."""

    def settings() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.startswith("APPXMPP_")}

    before = settings()
    yield
    assert settings() == before


def _start(kind: str) -> Server:
    if why := KINDS[kind].missing():
        pytest.fail(why, pytrace=False)
    return KINDS[kind]()


@pytest.fixture(scope="session", params=list(KINDS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Prosody, then ejabberd: running for the whole session, and never stopped by a test."""
    with _start(request.param) as running:
        yield running


@pytest.fixture(params=list(KINDS))
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that the test may stop, restart and freeze."""
    with _start(request.param) as running:
        yield running


@pytest.fixture(scope="session")
def bot(server: Server) -> Iterator[Bot]:
    """The app `everything` as myapp.localhost; one for all tests, which therefore use accounts of their own."""
    with Bot(server) as running:
        yield running


@pytest.fixture
def user(request: pytest.FixtureRequest) -> Iterator[Callable[..., User]]:
    """Makes users that are logged in, and logs them out at the end."""
    name = "own_server" if "own_server" in request.fixturenames else "server"
    running: Server = request.getfixturevalue(name)
    with ExitStack() as stack:

        def make(account: Account | None = None, **options: Any) -> User:
            return stack.enter_context(User(running, account, **options))

        yield make


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = (yield).get_result()
    if report.skipped and not hasattr(report, "wasxfail"):
        _only_what_cannot_be_had(report)
    if report.failed and report.when in ("setup", "call"):
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Server | Bot):
                report.sections.append((f"log of {name}", value.logs()))


def _only_what_cannot_be_had(report: pytest.TestReport) -> None:
    """A skipped test fails, unless it says NOT TESTED and why: for what `make` cannot install here."""
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith("NOT TESTED"):
        report.outcome = "failed"
        report.longrepr = f"a test may be skipped only for what cannot be installed (NOT TESTED ...), not for: {reason}"
