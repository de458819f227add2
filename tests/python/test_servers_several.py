"""Several apps in one process, each with a domain of its own and all with one state file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from appxmpp import _native

from support.server import COMPONENTS, Server
from support.user import User
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.servers

CHAT = "/_ah/xmpp/message/chat/"
NO_ERROR = 0


@pytest.fixture
def apps(own_server: Server, tmp_path: Path) -> Iterator[list[_native.App]]:
    with ExitStack() as stack:
        apps = []
        for domain, secret in COMPONENTS.items():
            app = _native.App(own_server.backend(domain), secret=secret, state=str(tmp_path / "state.db"))
            stack.callback(app.close, 5)
            apps.append(app)
        for app in apps:
            assert app.wait_ready(PATIENCE)
        yield apps


def take(app: _native.App, path: str) -> dict[str, str]:
    """The fields of the next delivery for `path`; others are done with."""
    while True:
        (delivery,) = app.next_batch(1, PATIENCE)
        app.done(delivery, 200)
        if delivery.path == path:
            return dict(delivery.fields)


def test_each_app_gets_what_is_for_its_domain(apps: list[_native.App], user: Callable[..., User]) -> None:
    alice = user()
    for app in apps:
        alice.message(f"anything@{app.domain}", f"for {app.domain}")
    for app in apps:
        fields = take(app, CHAT)
        assert (fields["to"], fields["body"]) == (f"anything@{app.domain}", f"for {app.domain}")
    assert [app.next_batch(8, 0) for app in apps] == [[], []]


def test_apps_of_one_process_can_talk_to_each_other(apps: list[_native.App]) -> None:
    one, other = apps
    assert one.send_message([f"desk@{other.domain}"], "hello", None, "chat", False) == [NO_ERROR]
    fields = take(other, CHAT)
    assert (fields["from"].partition("/")[0], fields["body"]) == (f"{one.app_id}@{one.domain}", "hello")
    assert one.next_batch(8, 0) == []


def test_subscriptions_are_each_app_s_own(apps: list[_native.App], user: Callable[..., User]) -> None:
    alice, (one, other) = user(), apps
    alice.befriend(f"{one.app_id}@{one.domain}")
    until(lambda: one.get_presence([alice.bare], None)[0][0], what="alice's presence")
    assert other.get_presence([alice.bare], None)[0][0] is False
