"""libappxmpp from C: alone and beside a peer; plain, under valgrind, and with AddressSanitizer."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from c_library import (
    ASAN,
    BUILD,
    C99,
    INCLUDE,
    MEMCHECK,
    ROOT,
    TESTS,
    VALGRIND,
    WARNINGS,
    environment,
    library,
    program,
    run,
)
from c_peer import Peer

HELGRIND = (*VALGRIND, "--tool=helgrind", f"--suppressions={TESTS / 'helgrind.supp'}")


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    for tool in ("gcc", "g++", "valgrind", "cmake", "pkg-config"):
        assert shutil.which(tool), f"{tool} is not installed: run `make setup` as root"


@pytest.mark.parametrize("compiler", ["gcc -std=c99", "gcc -std=c11", "g++ -xc++ -std=c++17"])
def test_the_header_compiles_alone(compiler: str) -> None:
    header = '#include "appxmpp.h"\n'
    words = [*compiler.split(), *WARNINGS, "-I", INCLUDE, "-fsyntax-only"]
    run(*words, *([] if "c++" in compiler else ["-xc"]), "-", input=header)


def test_two_files_of_one_program_include_it() -> None:
    two = program(TESTS / "two_files_a.c", str(TESTS / "two_files_b.c"))
    run(two)


@pytest.mark.parametrize("under", ["plain", "memcheck", "asan"])
@pytest.mark.parametrize("name", ["test_offline", "test_live"])
def test_every_function(name: str, under: str, peer: Peer) -> None:
    built = program(TESTS / f"{name}.c", *(ASAN if under == "asan" else ()), name=f"{name}-{under}")
    env = environment(peer.backend())
    if name == "test_offline":
        del env["APPXMPP_BACKEND"]
    done = run(*(MEMCHECK if under == "memcheck" else ()), built, env=env, timeout=170)
    assert done.stdout == "ok\n"


def test_every_function_has_a_test() -> None:
    declared = set(re.findall(r"\b(appxmpp_[a-z_]+)\(", re.sub(r"//.*", "", (INCLUDE / "appxmpp.h").read_text())))
    called = set(re.findall(r"\b(appxmpp_[a-z_]+)\(", "".join(path.read_text() for path in TESTS.glob("test_*.c"))))
    assert declared
    assert declared - called == set()


def test_only_our_symbols_are_exported() -> None:
    names = run("nm", "-D", "--defined-only", library() / "libappxmpp.so").stdout.split("\n")
    exported = sorted(line.split()[2] for line in names if line)
    assert exported == (ROOT / "capi" / "symbols.txt").read_text().split()


@pytest.mark.parametrize("under", ["plain", "memcheck", "asan"])
def test_a_panic_comes_back_as_a_result(under: str) -> None:
    folder = library("test-panic")
    flags = ASAN if under == "asan" else ()
    built = program(TESTS / "test_panic.c", *flags, lib=folder, name=f"test_panic-{under}")
    done = run(*(MEMCHECK if under == "memcheck" else ()), built)
    assert done.stdout == "ok\n"
    assert done.stderr == ""


@pytest.mark.timeout(900)
def test_an_account_s_server_is_looked_up() -> None:
    folder = library("srv")
    assert run(program(TESTS / "test_srv.c", lib=folder)).stdout == "ok\n"


#: With less to do than when they run alone. A forked process never frees what its parent had: that is no leak.
AGAIN = {
    "test_fork": ((), ("--leak-check=no",)),
    "test_growth": (("connection", "40"), ()),
    "test_threads": (("1", "24"), ()),
}


@pytest.mark.parametrize("under", ["memcheck", "asan"])
@pytest.mark.parametrize("name", AGAIN)
def test_memory_when_it_forks_repeats_and_shares(name: str, under: str, peer: Peer) -> None:
    arguments, options = AGAIN[name]
    flags = ASAN if under == "asan" else ()
    built = program(TESTS / f"{name}.c", "-D_GNU_SOURCE", *flags, name=f"{name}-{under}")
    prefix = (*MEMCHECK, *options) if under == "memcheck" else ()
    assert run(*prefix, built, *arguments, env=environment(peer.backend()), timeout=170).stdout.startswith("ok")


def test_fork(peer: Peer) -> None:
    assert run(program(TESTS / "test_fork.c"), env=environment(peer.backend()), timeout=120).stdout == "ok\n"


def test_loading_starts_no_thread_and_unloading_leaves_it(peer: Peer) -> None:
    loader = BUILD / "bin" / "test_load"
    loader.parent.mkdir(parents=True, exist_ok=True)
    run(*C99, "-I", INCLUDE, "-o", loader, TESTS / "test_load.c", "-ldl")
    done = run(loader, library() / "libappxmpp.so", env=environment(peer.backend()), timeout=120)
    assert done.stdout.startswith("ok: loaded in ")


@pytest.mark.parametrize("what", ["jid", "stanza", "stream", "options", "error", "connection"])
def test_nothing_grows(what: str, peer: Peer) -> None:
    built = program(TESTS / "test_growth.c", "-D_GNU_SOURCE")
    done = run(built, what, 10_000, env=environment(peer.backend()), timeout=170)
    assert done.stdout.startswith(f"ok: {what}")


@pytest.mark.parametrize("seed", range(4))
def test_sixteen_threads_with_one_handle(seed: int, peer: Peer) -> None:
    built = program(TESTS / "test_threads.c")
    assert run(built, seed, 400, env=environment(peer.backend()), timeout=120).stdout.startswith("ok")


@pytest.mark.parametrize("seed", [0, 1])
def test_sixteen_threads_under_helgrind(seed: int, peer: Peer) -> None:
    built = program(TESTS / "test_threads.c")
    done = run(*HELGRIND, built, seed, 24, env=environment(peer.backend()), timeout=170)
    assert done.stdout.startswith("ok")
