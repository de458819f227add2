"""16 threads with one handle under ThreadSanitizer, std and the library instrumented too: where a nightly Rust is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest
from c_library import BUILD, C99, INCLUDE, ROOT, TESTS, environment, linked, run
from c_peer import Peer


def nightly(*command: str) -> str:
    """What a command of the nightly toolchain says."""
    try:
        done = subprocess.run(["rustup", "run", "nightly", *command], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        untested("there is no rustup")
    if done.returncode:
        untested(done.stderr.strip().rpartition("\n")[2])
    return done.stdout


def untested(why: str) -> NoReturn:
    pytest.skip(f"NOT TESTED UNDER THREADSANITIZER: {why} (rustup toolchain install nightly --component rust-src)")


def instrumented(target: str) -> Path:
    """A folder with libappxmpp.so, built with its std. What fails here says nothing of the library: nightly changes."""
    command = ("cargo", "build", "-Zbuild-std", "--target", target, "--package", "appxmpp-capi")
    env = {**os.environ, "RUSTFLAGS": "-Zsanitizer=thread", "CARGO_TARGET_DIR": str(BUILD / "tsan-target")}
    done = subprocess.run(
        ["rustup", "run", "nightly", *command], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        untested(f"it cannot be built: {done.stderr.strip().rpartition(chr(10))[2]}")
    return linked(BUILD / "tsan-target" / target / "debug", BUILD / "lib-tsan")


@pytest.fixture(scope="module")
def program() -> Path:
    root = Path(nightly("rustc", "--print", "sysroot").strip()) / "lib" / "rustlib"
    if not (root / "src" / "rust" / "library" / "Cargo.lock").exists():
        untested("the nightly toolchain has no rust-src")
    target = next(line.split()[1] for line in nightly("rustc", "-vV").splitlines() if line.startswith("host: "))
    library = instrumented(target)
    calls = run("nm", "-D", "--undefined-only", library / "libappxmpp.so").stdout
    assert "__tsan_write8" in calls, "the library is not instrumented"
    # Rust's runtime of the sanitizer, for both: that of gcc is another one.
    (runtime,) = (root / target / "lib").glob("librustc*_rt.tsan.a")
    made = BUILD / "bin" / "test_threads-tsan"
    made.parent.mkdir(parents=True, exist_ok=True)
    compiled = made.with_suffix(".o")
    run(*C99, "-fsanitize=thread", "-I", INCLUDE, "-c", "-o", compiled, TESTS / "test_threads.c")
    run("gcc", "-rdynamic", "-o", made, compiled, "-Wl,--whole-archive", runtime, "-Wl,--no-whole-archive",
        "-L", library, "-lappxmpp", f"-Wl,-rpath,{library}", "-pthread", "-ldl", "-lm", "-lrt")  # fmt: skip
    return made


# The standard library and all that the library stands on is compiled once more, the first time.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
def test_sixteen_threads_under_threadsanitizer(seed: int, program: Path) -> None:
    with Peer() as peer:
        done = run(program, seed, 100, env=environment(peer.backend()), timeout=300)
    assert done.stdout.startswith("ok")
    assert "ThreadSanitizer" not in done.stderr
