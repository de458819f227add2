"""The harness itself: the servers, the user and the bad network do what the other tests rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.component import EchoComponent
from support.postgres import Postgres
from support.proxy import TO_SERVER, Proxy
from support.server import Server
from support.servers import KINDS
from support.user import User
from support.waiting import until

pytestmark = pytest.mark.servers

MakeUser = Callable[..., User]
TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize("tls", [False, True])
def test_users_talk_to_each_other_and_to_a_component(server: Server, user: MakeUser, tls: bool) -> None:
    alice, bob = user(tls=tls), user()
    alice.message(bob.jid, "hi <bob> é 📱")
    assert bob.expect("message", from_=alice.jid).body == "hi <bob> é 📱"
    with EchoComponent(server, "second.localhost"):
        alice.message("any@second.localhost/x", "echo?")
        assert alice.expect("message", from_="any@second.localhost/x").body == "echo?"


def test_a_restart_keeps_ports_and_accounts(own_server: Server, user: MakeUser) -> None:
    alice = user()
    own_server.restart()
    again = user(alice.account)
    with EchoComponent(own_server):
        again.message("bot@myapp.localhost", "still here")
        assert again.expect("message", body="still here")


def test_a_paused_server_is_silent_and_then_catches_up(own_server: Server, user: MakeUser) -> None:
    alice, bob = user(), user()
    own_server.pause()
    alice.message(bob.jid, "held")
    with pytest.raises(AssertionError, match="not there after"):
        bob.expect("message", timeout=0.3)
    own_server.resume()
    assert bob.expect("message").body == "held"


def test_the_proxy_holds_cuts_and_refuses(server: Server, user: MakeUser) -> None:
    bob = user()
    with Proxy(server.c2s_port) as proxy:
        alice = user(port=proxy.port)
        proxy.block(TO_SERVER)
        alice.message(bob.jid, "held")
        with pytest.raises(AssertionError, match="not there after"):
            bob.expect("message", timeout=0.3)
        proxy.mend()
        assert bob.expect("message").body == "held"
        proxy.cut()
        until(lambda: not alice.client.is_connected(), what="the cut")
        proxy.refuse()
        with pytest.raises(AssertionError, match="could not log in"):
            User(server, port=proxy.port).connect()
        proxy.accept()
        with User(server, port=proxy.port) as carol:
            carol.barrier()
        assert proxy.accepted == 2


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_server_outlives_the_run_that_started_it(kind: str, end: int) -> None:
    """Also when that run is killed; then its folder goes when the next run starts."""
    command = [sys.executable, "-m", "support.servers", kind, "--accounts", "0"]
    with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        told = dict(
            line.removeprefix("export ").strip().split("=", 1)
            for line in iter(run.stdout.readline, "# running until Ctrl-C\n")
        )
        pid, folder = int(told["XMPP_PID"].strip("'")), Path(told["XMPP_CA_FILE"].strip("'")).parent.parent
        assert Path(f"/proc/{pid}").exists()
        assert folder.exists()
        os.kill(run.pid, end)
    until(lambda: not Path(f"/proc/{pid}").exists(), what=f"the end of {kind}")
    if end == signal.SIGKILL:
        subprocess.run(
            [sys.executable, "-c", "from support import folders; folders.remove(folders.folder('next'))"],
            cwd=TESTS,
            check=True,
        )
    assert not folder.exists()


def test_a_program_finds_the_server_in_its_environment(server: Server) -> None:
    told = server.environment()
    assert (told["XMPP_SERVER"], told["XMPP_COMPONENT_DOMAIN"]) == (server.kind, "myapp.localhost")
    assert int(told["XMPP_PID"]) > 1


def test_postgresql_keeps_its_rows_when_it_is_restarted_or_killed() -> None:
    with Postgres() as cluster:
        cluster.query("create table kept (number int)")
        for number, end in enumerate((cluster.stop, cluster.kill)):
            cluster.query(f"insert into kept values ({number})")
            end()
            cluster.start()
        assert cluster.query("select number from kept order by 1") == [["0"], ["1"]]
        assert cluster.database() != cluster.url()
        folder = cluster.folder
    assert not folder.exists()
