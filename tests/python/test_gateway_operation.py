"""The gateway as an operator meets it: signals, the service manager, commands, what is packaged."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import folders
from support.gateway import ROOT, Callback, Gateway, Phone, Post, binary, http_answer
from support.gateway import XML_HEADERS as HEADERS
from support.process import Process
from support.server import Server
from support.servers import KINDS
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.servers

DIST = ROOT / "core/gateway/dist"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One kind will do: what is tested here is on this side of the stream."""
    with KINDS["prosody"]() as running:
        yield running


@pytest.fixture
def callback() -> Iterator[Callback]:
    with Callback() as running:
        yield running


def app(server: Server, **more: Any) -> dict[str, Any]:
    return {"backend": server.backend("myapp.localhost"), "secret": "s3cret", "bounce_wait_ms": 0, **more}


def is_text(text: str) -> Any:
    return lambda stanza: any(child.tag.endswith("body") and child.text == text for child in stanza)


def test_the_service_manager_is_told(server: Server) -> None:
    place = folders.folder("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "socket"))
        manager.settimeout(PATIENCE)

        def hear(line: str) -> str:
            while line not in (message := manager.recv(4096).decode()).split("\n"):
                pass
            return message

        env = {"NOTIFY_SOCKET": str(place / "socket"), "WATCHDOG_USEC": "200000"}
        with Gateway([app(server)], env=env) as gateway:
            assert "STATUS=serving HTTP, not connected" in hear("READY=1")
            hear("STATUS=serving HTTP, every stream is up")
            hear("WATCHDOG=1")
            hear("WATCHDOG=1")
            gateway.process.signal(signal.SIGHUP)
            hear("RELOADING=1")
            assert "STATUS=the configuration was reloaded" in hear("READY=1")
            gateway.process.signal(signal.SIGTERM)
            hear("STOPPING=1")
            assert gateway.process.wait() == 0
    folders.remove(place)


def test_the_service_manager_is_told_of_a_stream_that_is_lost() -> None:
    place = folders.folder("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "socket"))
        manager.settimeout(PATIENCE)

        def hear(status: str) -> None:
            while status not in manager.recv(4096).decode().split("\n"):
                pass

        with (
            KINDS["prosody"]() as server,
            Gateway([app(server)], env={"NOTIFY_SOCKET": str(place / "socket")}),
        ):
            hear("STATUS=serving HTTP, every stream is up")
            server.stop()
            hear("STATUS=serving HTTP, myapp: no stream to the XMPP server")
            server.start()
            hear("STATUS=serving HTTP, every stream is up")
    folders.remove(place)


def test_a_reload_keeps_what_the_callback_chose_and_asks_a_new_one(server: Server, callback: Callback) -> None:
    callback.options = http_answer(200, [("Accept", "application/json")])
    chose = "the callback chose its media type.*json"
    with Gateway([app(server)]) as gateway, Phone(server, server.account("chooser")) as phone:

        def posted() -> str:
            phone.send("<message to='bot@myapp.localhost' type='chat' id='m'><body>hi</body></message>")
            return callback.posts.wait().headers["Content-Type"]

        gateway.wait_ready()
        with_callback = app(server, callback_url=callback.url)
        gateway.configure([with_callback])
        gateway.process.signal(signal.SIGHUP)
        gateway.process.wait_for_line("reloaded: callback_url", chose)
        assert posted() == "application/json"
        gateway.configure([{**with_callback, "credentials": ["Bearer new"]}])
        gateway.process.signal(signal.SIGHUP)
        gateway.process.wait_for_line("reloaded: credentials")
        assert posted() == "application/json"
        with Callback() as other:
            other.options = http_answer(200, [("Accept", "application/x-www-form-urlencoded")])
            gateway.configure([{**with_callback, "callback_url": other.url}])
            gateway.process.signal(signal.SIGHUP)
            gateway.process.wait_for_line("the callback chose its media type.*urlencoded")


@contextlib.contextmanager
def limited(server: Server, nofile: str, idle: int, served: int) -> Iterator[Gateway]:
    """A gateway that may have so many files open (SOFT:HARD), when it serves `served` of `idle` connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        gateway = stack.enter_context(Gateway([app(server)], command=["prlimit", f"--nofile={nofile}", binary()]))
        gateway.wait_ready()
        for _ in range(idle):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), PATIENCE))
        until(lambda: idlers(gateway) >= served, what="idle connections")
        yield gateway
        assert "cannot accept" not in gateway.process.output()


def test_a_low_limit_of_open_files_is_raised(server: Server) -> None:
    with limited(server, "1024:8192", idle=1300, served=1300) as gateway:
        assert gateway.request("GET", "/healthz", timeout=5).status == 200
        gateway.process.wait_for_line("may have 8192 files open, so that max_connections is 7936, not 16384")


def test_a_limit_of_open_files_is_kept_to(server: Server) -> None:
    with limited(server, "256:256", idle=100, served=64) as gateway:
        gateway.process.wait_for_line("may have 256 files open, so that max_connections is 64, not 16384")
        health = f"http://127.0.0.1:{gateway.metrics_port}/healthz"
        with urllib.request.urlopen(health, timeout=5) as page:
            assert page.status == 200


def idlers(gateway: Gateway) -> int:
    found = re.search(r"^appxmpp_http_connections (\d+)$", gateway.metrics(), re.MULTILINE)
    return int(found[1]) if found else 0


def test_sighup_takes_over_what_can_change_and_names_the_rest(server: Server, callback: Callback) -> None:
    first, second = "Bearer first", "Bearer second"
    message = "<message to='myapp.localhost' type='chat'><body>x</body></message>"

    def status(gateway: Gateway, credentials: str) -> int:
        return gateway.request("POST", "/rest", message, {**HEADERS, "Authorization": credentials}).status

    with Gateway([app(server, credentials=[first])]) as gateway:
        gateway.wait_ready()
        assert (status(gateway, first), status(gateway, second)) == (202, 401)
        changed = app(server, credentials=[second], callback_url=callback.url + "/new", webhook_queue=7)
        gateway.configure([changed], drain_seconds=3)
        gateway.process.signal(signal.SIGHUP)
        gateway.process.wait_for_line("reloaded: callback_url, credentials", "restart applies it: webhook_queue")
        gateway.process.wait_for_line("restart applies it: drain_seconds")
        until(lambda: status(gateway, second) == 202, what="the new credentials")
        assert status(gateway, first) == 401
        assert callback.posts.wait().path == "/new"
        gateway.config.write_text("[[app]]\nbakend = 'x'\n")
        gateway.process.signal(signal.SIGHUP)
        gateway.process.wait_for_line("was not reloaded, the old one holds.*bakend")
        assert status(gateway, second) == 202


def test_sigterm_finishes_what_is_under_way(server: Server, callback: Callback) -> None:
    release = threading.Event()

    def answer(_: Post) -> bytes:
        release.wait(PATIENCE)
        return http_answer(200, [("Content-Type", "text/plain")], "late but here")

    callback.answer = answer
    with (
        Gateway([app(server, callback_url=callback.url)]) as gateway,
        Phone(server, server.account("drain")) as phone,
    ):
        gateway.wait_ready()
        phone.send("<message to='bot@myapp.localhost' type='chat' id='d1'><body>hi</body></message>")
        callback.posts.wait()
        gateway.process.signal(signal.SIGTERM)
        gateway.process.wait_for_line("finishing what is under way")
        until(lambda: not listens(gateway.port), what="the end of listening")
        assert gateway.process.running()
        release.set()
        phone.heard.wait(is_text("late but here"))
        assert gateway.process.wait() == 0


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_a_second_sigterm_does_not_wait(server: Server, callback: Callback) -> None:
    release = threading.Event()

    def answer(_: Post) -> bytes:
        release.wait(PATIENCE)
        return http_answer(204)

    callback.answer = answer
    with (
        Gateway([app(server, callback_url=callback.url)], drain_seconds=600) as gateway,
        Phone(server, server.account("now")) as phone,
    ):
        gateway.wait_ready()
        phone.send("<message to='bot@myapp.localhost' type='chat' id='d1'><body>hi</body></message>")
        callback.posts.wait()
        gateway.process.signal(signal.SIGTERM)
        gateway.process.wait_for_line("finishing what is under way")
        gateway.process.signal(signal.SIGTERM)
        gateway.process.wait_for_line("stopped at once")
        assert gateway.process.wait() == 0
    release.set()


def test_readiness_follows_the_stream() -> None:
    with KINDS["prosody"]() as server, Gateway([app(server)]) as gateway:
        gateway.wait_ready()
        assert 'appxmpp_stream_up{app="myapp"} 1' in gateway.metrics()
        server.stop()
        until(lambda: not gateway.is_ready(), what="the loss of the stream")
        page = gateway.request("GET", "/readyz")
        assert (page.status, page.body) == (503, b"myapp: no stream to the XMPP server\n")
        assert gateway.request("GET", "/healthz").status == 200
        assert 'appxmpp_stream_up{app="myapp"} 0' in gateway.metrics()
        refused = gateway.request("POST", "/rest", "<message to='a@localhost'/>", HEADERS)
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) >= 1
        server.start()
        until(gateway.is_ready, what="the stream's return")
        reasons = set(re.findall(r'reconnects_total{app="myapp",reason="(\w+)"}', gateway.metrics()))
        assert reasons & {"server_shutdown", "closed", "lost"}
        assert reasons <= {"server_shutdown", "closed", "lost", "refused"}


def command(*args: str | Path) -> tuple[int, str]:
    run = subprocess.run([binary(), *args], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return run.returncode, run.stdout + run.stderr


def test_send_says_what_became_of_each(server: Server) -> None:
    with Gateway([app(server)]) as gateway, Phone(server, server.account("sent")) as phone:
        gateway.wait_ready()
        status, said = command("send", "-c", gateway.config, "--body", "hello <b>", phone.bare)
        assert (status, said) == (0, f"{phone.bare}: sent\n")
        phone.heard.wait(is_text("hello <b>"))
        status, said = command("send", "-c", gateway.config, "--body", "x", phone.bare, "@nowhere")
        assert status == 1
        assert "@nowhere: not sent: no address" in said
        status, said = command("send", "-c", gateway.config, "--body", "", phone.bare)
        assert status == 1
        assert "refused with 422" in said
    status, said = command("send", "-c", gateway.config, "--body", "x", phone.bare)
    assert status != 0


def write(folder: Path, text: str) -> Path:
    path = folder / "appxmpp.toml"
    path.write_text(text)
    return path


def test_doctor_names_each_thing(server: Server, callback: Callback, tmp_path: Path) -> None:
    config = f'[[app]]\nbackend = "{server.backend("other.localhost")}"\nsecret = "SECRET"\nurl = "{callback.url}"\n'
    good = config.replace("other", "myapp").replace("SECRET", "s3cret")
    status, said = command("doctor", "-c", write(tmp_path, good))
    assert status == 0, said
    assert "WRONG" not in said
    before, _, after = said.partition("now logs in as myapp.localhost and sends itself a message")
    for line in ("configuration is valid", "no gateway with this configuration answers", "accepts connections"):
        assert line in before
    for line in ("the server accepts", "comes back through"):
        assert line in after
    status, said = command("doctor", "-c", write(tmp_path, good.replace('"s3cret"', '"wrong"')))
    assert status == 1
    assert re.search("WRONG.*(not-authorized|secret)", said), said
    assert "wrong things" not in said
    callback.close()
    (dead,) = folders.free_ports(1)
    status, said = command("doctor", "-c", write(tmp_path, good.replace(f":{callback.port}", f":{dead}")))
    assert status == 1
    assert "start the web app" in said


@pytest.fixture
def ejabberd() -> Iterator[Server]:
    """It lets several connections of one component in, and spreads what comes over them."""
    with KINDS["ejabberd"]() as running:
        yield running


def test_doctor_takes_nothing_from_a_gateway_that_runs(ejabberd: Server, callback: Callback) -> None:
    with (
        Gateway([app(ejabberd, callback_url=callback.url)]) as gateway,
        Phone(ejabberd, ejabberd.account("talker")) as phone,
    ):
        gateway.wait_ready()
        said = 0

        def say() -> None:
            nonlocal said
            phone.send(f"<message to='bot@myapp.localhost' type='chat' id='m{said}'><body>hi</body></message>")
            assert f"id='m{said}'" in callback.posts.wait().body.decode().replace('"', "'")
            said += 1

        say()
        argv = [binary(), "doctor", "-c", str(gateway.config)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as doctor:
            assert doctor.stdout
            while doctor.poll() is None:
                say()
            text = doctor.stdout.read()
        say()
        assert doctor.returncode == 0, text
        assert f"a gateway runs (127.0.0.1:{gateway.metrics_port})" in text
        assert "the gateway that runs says: ready; no second log-in is tried" in text
        assert not callback.posts.peek()
        ejabberd.stop()
        until(lambda: not gateway.is_ready(), what="the loss of the stream")
        status, text = command("doctor", "-c", gateway.config)
        assert status == 1
        assert "WRONG  the gateway that runs says: no stream to the XMPP server. Its log says why" in text
        assert re.search("WRONG .*component_ports", text), text


def test_doctor_says_what_the_dns_says(tmp_path: Path) -> None:
    local = '[[app]]\nbackend = "component://bot.example@localhost:1"\nsecret = "x"\n'
    status, said = command("doctor", "-c", write(tmp_path, local))
    assert status == 1
    assert re.search("ok     the name localhost is .*127.0.0.1", said), said
    assert re.search("WRONG  localhost:1 does not accept connections.*let it listen for components", said), said
    account = '[[app]]\nbackend = "client://a@xmpp.invalid"\nsecret = "x"\nurl = "http://app.invalid"\n'
    status, said = command("doctor", "-c", write(tmp_path, account))
    assert status == 1
    assert "the DNS names no server for accounts of xmpp.invalid (SRV _xmpp-client._tcp.xmpp.invalid)" in said
    assert re.search("WRONG  the name xmpp.invalid has no address.*; correct backend", said), said
    assert re.search("WRONG  the name app.invalid has no address.*; correct url", said), said
    assert "2 things are wrong" in said


def test_check_refuses_a_wrong_configuration(tmp_path: Path) -> None:
    good = '[[app]]\nbackend = "component://bot.example@127.0.0.1"\nsecret = "x"\nurl = "http://127.0.0.1:8080"\n'
    status, said = command("check", "-c", write(tmp_path, good))
    assert status == 0
    assert "x" not in re.findall(r"\bx\b", said)
    status, said = command("check", "-c", write(tmp_path, good + 'calback_url = "x"\n'))
    assert status == 78
    assert "callback_url" in said


def test_who_never_chose_a_store_is_told_that_nothing_lasts(tmp_path: Path) -> None:
    text = '[[app]]\nbackend = "component://bot.example@127.0.0.1:1"\nsecret = "x"\n'
    path = write(tmp_path, text + '[http]\nlisten = "127.0.0.1:0"\nmetrics = "off"\n')
    status, said = command("check", "--config", path)
    assert status == 0
    assert "state in memory; a message counts as sent when it is written to a live stream" in said
    assert "warning: nothing survives a restart" in said
    gateway = Process([binary(), "gateway", "--config", str(path)], name="gateway")
    gateway.wait_for_line("nothing survives a restart", "the gateway serves HTTP")
    assert gateway.stop(30) == 0
    durable = write(tmp_path, text + "[store]\ndurable = true\n")
    status, said = command("check", "--config", durable)
    assert status == 78
    assert "durable in [store] is true" in said
    assert "sqlite:/" in said


def test_the_packaged_files_are_those_of_this_version(tmp_path: Path) -> None:
    """Made by `appxmpp man core/gateway/dist/man`, `appxmpp completions SHELL` and `appxmpp example`."""
    assert command("man", tmp_path)[0] == 0
    pages = sorted(page.name for page in tmp_path.iterdir())
    assert pages == sorted(page.name for page in (DIST / "man").iterdir())
    assert "appxmpp-gateway.1" in pages
    for page in pages:
        assert (tmp_path / page).read_text() == (DIST / "man" / page).read_text(), page
    for shell, name in (("bash", "appxmpp.bash"), ("zsh", "_appxmpp"), ("fish", "appxmpp.fish")):
        assert command("completions", shell) == (0, (DIST / "completions" / name).read_text()), shell
    assert command("example") == (0, (DIST / "appxmpp.toml").read_text())


def test_the_debian_package_lists_files_that_exist() -> None:
    crate = ROOT / "core/gateway"
    _, _, deb = (crate / "Cargo.toml").read_text().partition("[package.metadata.deb]")
    assets: list[list[str]] = [json.loads(line) for line in re.findall(r'^    (\[".*\]),$', deb, re.MULTILINE)]
    assert len(assets) == deb.partition("assets = [")[2].partition("\n]")[0].count("\n    [")
    for source, _, _ in assets:
        if source != "target/release/appxmpp":
            assert list(crate.glob(source)), source
    assert ["dist/appxmpp.toml", "etc/appxmpp/", "644"] in assets
    # Without these cargo-deb tells systemd nothing of the unit.
    assert 'maintainer-scripts = "dist/debian"' in deb
    for script in ("postinst", "prerm", "postrm"):
        assert "#DEBHELPER#" in (DIST / "debian" / script).read_text().splitlines()
    assert 'unit-name = "appxmpp", unit-scripts = "dist"' in deb
    assert "Type=notify" in (DIST / "appxmpp.service").read_text().splitlines()


def test_the_container_file_fits_the_program(tmp_path: Path) -> None:
    text = (DIST / "Containerfile").read_text().replace("\\\n", "")
    lines = [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    stage = lines[max(index for index, (word, _) in enumerate(lines) if word == "FROM") :]
    last = dict(stage)
    assert last["USER"] == "appxmpp"
    (entry,), (_, config_option, place) = json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])
    assert last["COPY"].split()[-2:] == ["/src/target/release/appxmpp", entry]
    assert json.loads(last["CMD"])[0] == "gateway"
    assert (config_option, place) == ("--config", "/etc/appxmpp/appxmpp.toml")
    pairs = [pair for word, text in stage if word == "ENV" for pair in text.split()]
    environment = dict(pair.split("=", 1) for pair in pairs)
    state = environment.pop("STATE_DIRECTORY")
    assert last["VOLUME"] == state
    assert f"install -d -o appxmpp -g appxmpp {state}" in last["RUN"]
    ports = last["EXPOSE"].split()
    assert [address.rpartition(":")[2] for address in environment.values()] == ports
    # The variables are settings: a wrong one would be refused.
    path = write(tmp_path, '[[app]]\nbackend = "component://bot.example@127.0.0.1"\nsecret = "x"\n')
    for name in environment:
        for env, expected in ((environment, 0), ({**environment, name: "nowhere"}, 78)):
            argv = [binary(), "check", config_option, str(path)]
            done = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, timeout=PATIENCE, check=False)
            assert done.returncode == expected, done.stderr
    argv = [binary(), "check", config_option, str(path)]
    env = {**os.environ, "STATE_DIRECTORY": state}
    said = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert f"state in {state}/state.db; a message counts as sent when it is on disk" in said
    # The image has what a build of the workspace needs, and not what was built here.
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {"target", "build", ".venv"} <= set(ignored)
    assert not {"core", "python", "capi", "tests"} & set(ignored)


def test_the_document_names_every_key_and_metric() -> None:
    document = (ROOT / "core/gateway/README.md").read_text()
    _, example = command("example")
    keys = re.findall(r"^#?([a-z_]+) = ", example, re.MULTILINE)
    assert len(keys) > 30
    assert [key for key in keys if f"| `{key}` |" not in document] == []
