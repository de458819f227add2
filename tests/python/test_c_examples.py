"""The examples in C, compiled by the command in their first comment (with our folders) and run."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from c_library import BUILD, EXAMPLES, INCLUDE, MEMCHECK, WARNINGS, environment, library, run
from c_peer import Peer
from fake_server import ACCEPT

from support.server import Server
from support.user import User

ALL = sorted(path.stem for path in EXAMPLES.glob("*.c"))


def example(name: str) -> Path:
    source = EXAMPLES / f"{name}.c"
    command = re.search(r"^ \*   (cc -o .*)$", source.read_text(), re.M)
    assert command, f"{source} does not say how it is compiled"
    assert command[1] == f"cc -o {name} {name}.c $(pkg-config --cflags --libs appxmpp)"
    out, lib = BUILD / "examples" / name, library()
    out.parent.mkdir(parents=True, exist_ok=True)
    run("cc", *WARNINGS, "-O2", "-o", out, source, f"-I{INCLUDE}", f"-L{lib}", "-lappxmpp", f"-Wl,-rpath,{lib}")
    return out


@contextmanager
def running(
    *command: object, env: dict[str, str] | None = None, says: str, stdin: IO[str] | int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """A program that has said it is up."""
    argv = [str(word) for word in command]
    with subprocess.Popen(argv, env=env, stdin=stdin, stdout=-1, stderr=-1, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert says in line, line or (process.stderr and process.stderr.read())
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], feed: str | None = None) -> str:
    out, error = process.communicate(feed, timeout=20)
    assert process.returncode == 0, out + error
    assert error == ""
    return out


def test_there_are_four() -> None:
    assert ALL == ["echo", "iq_ping", "poll_loop", "sans_io"]


@pytest.mark.parametrize("under", [(), MEMCHECK], ids=["plain", "memcheck"])
def test_echo(under: tuple[str, ...]) -> None:
    with Peer() as peer:
        with running(*under, example("echo"), env=environment(peer.backend()), says="bot@bot.localhost/bot") as bot:
            peer.wait_login()
            peer.message("h\u00e9llo &amp; you")
            assert peer_heard(peer) == "h\u00e9llo & you"
            bot.terminate()
            assert ended(bot) == ""
        assert peer.ends.get(timeout=20), "the stream was closed"


def peer_heard(peer: Peer, timeout: float = 20) -> str:
    return peer.heard.get(timeout=timeout).findtext(ACCEPT + "body") or ""


def test_echo_says_what_is_wrong() -> None:
    done = subprocess.run([example("echo")], env=environment("xmpp://x"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'no backend has the scheme "xmpp"' in done.stderr


def test_echo_ends_before_its_stream_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        backend = f"component://bot.localhost:s3cret@127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen([example("echo")], env=environment(backend), stdout=-1, stderr=-1, text=True) as bot:
            try:
                # It takes signals from before it connects on.
                with silent.accept()[0]:
                    bot.terminate()
                    assert ended(bot) == ""
            finally:
                bot.kill()


def test_echo_that_is_refused_has_failed() -> None:
    with Peer(secret="another") as peer:
        env = environment(peer.backend(), APPXMPP_BACKEND=peer.backend().replace("another", "wrong"))
        done = subprocess.run([example("echo")], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "not-authorized" in done.stderr
    assert "wrong" not in done.stderr


@pytest.mark.parametrize("under", [(), MEMCHECK], ids=["plain", "memcheck"])
def test_iq_ping(under: tuple[str, ...]) -> None:
    with Peer() as peer:
        program = example("iq_ping")
        assert re.fullmatch(
            r"peer answered with a result in \d+\.\d\d ms\n",
            run(*under, program, "peer", env=environment(peer.backend())).stdout,
        )
        done = run(*under, program, "error@peer", env=environment(peer.backend()))
        assert done.stdout.startswith("error@peer answered with an error in ")


@pytest.mark.parametrize("under", [(), MEMCHECK], ids=["plain", "memcheck"])
def test_poll_loop(under: tuple[str, ...]) -> None:
    with Peer() as peer:
        with running(*under, example("poll_loop"), env=environment(peer.backend()), says="ready") as bot:
            peer.message("one")
            assert peer_heard(peer) == "one"
            assert bot.stdin
            bot.stdin.write("user@example.com two words\n")
            bot.stdin.flush()
            assert peer_heard(peer) == "two words"
            peer.message("three")
            assert peer_heard(peer) == "three"
            assert ended(bot) == ""


@pytest.mark.parametrize("under", [(), MEMCHECK], ids=["plain", "memcheck"])
def test_sans_io(under: tuple[str, ...]) -> None:
    with Peer() as peer:
        secret = BUILD / "secret"
        secret.write_text(f"{peer.secret}\n")
        command = (*under, example("sans_io"), "127.0.0.1", peer.port, peer.domain)
        with secret.open() as file, running(*command, stdin=file, says="ready") as bot:
            for text in ("one", "bye"):
                peer.message(text)
                assert peer_heard(peer) == text
            assert ended(bot).startswith("closed: ")


@pytest.mark.servers
@pytest.mark.parametrize("name", ["echo", "poll_loop"])
def test_a_bot_on_a_real_server(name: str, server: Server, user: Callable[..., User]) -> None:
    domain = "second.localhost"
    backend = f"component://{domain}@127.0.0.1:{server.component_port}"
    env = environment(backend, APPXMPP_SECRET=server.components[domain])
    with running(example(name), env=env, says="ready" if name == "poll_loop" else "is there") as bot:
        alice = user()
        for text in ("hello", "zw\u00f6lf & <more>"):
            alice.message(f"anything@{domain}", text)
            assert alice.expect("message", from_bare=f"anything@{domain}").body == text
        if name == "echo":
            bot.terminate()
        ended(bot)
