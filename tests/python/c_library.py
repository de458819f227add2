"""Builds libappxmpp and programs against it, as its users would."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "c"
INCLUDE = ROOT / "capi" / "include"
TESTS = ROOT / "tests" / "c"
EXAMPLES = ROOT / "examples" / "c"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")
C99 = ("gcc", "-std=c99", "-g", "-D_POSIX_C_SOURCE=200809L", *WARNINGS)

#: The library itself is not instrumented; what it allocates and C touches is.
ASAN = ("-fsanitize=address,undefined", "-fno-sanitize-recover")
# Without vgdb, whose pipes would be counted as the program's.
VALGRIND = ("valgrind", "--quiet", "--error-exitcode=99", "--vgdb=no")
LEAKS = "definite,indirect,possible"
MEMCHECK = (
    *VALGRIND,
    "--leak-check=full",
    f"--show-leak-kinds={LEAKS}",
    f"--errors-for-leak-kinds={LEAKS}",
    f"--suppressions={TESTS / 'memcheck.supp'}",
)


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; its output is part of the failure."""
    argv = [str(word) for word in command]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


@functools.cache
def version() -> str:
    manifest = (ROOT / "Cargo.toml").read_text()
    return manifest.split("[workspace.package]")[1].split('version = "')[1].split('"')[0]


@functools.cache
def library(*features: str) -> Path:
    """A folder with libappxmpp.so, its links and libappxmpp.a, as `capi/install.sh` would make it."""
    command = ["cargo", "build", "-p", "appxmpp-capi", "--message-format", "json-render-diagnostics"]
    if features:
        command += ["--features", ",".join(features)]
    messages = map(json.loads, run(*command, cwd=ROOT).stdout.splitlines())
    built = next(
        m
        for m in messages
        if m.get("target", {}).get("name") == "appxmpp"
        and m["reason"] == "compiler-artifact"
        and "cdylib" in m["target"]["kind"]
    )
    shared = next(file for file in map(Path, built["filenames"]) if file.suffix == ".so")
    return linked(shared.parent, BUILD / "-".join(("lib", *features)))


def linked(built: Path, folder: Path) -> Path:
    """`folder` with the libraries of `built`, under all their names."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(built / "libappxmpp.a", folder)
    shutil.copy2(built / "libappxmpp.so", folder / f"libappxmpp.so.{version()}")
    major, minor, _ = version().split(".")
    for name in ("libappxmpp.so", f"libappxmpp.so.{f'{major}.{minor}' if major == '0' else major}"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(f"libappxmpp.so.{version()}")
    return folder


def program(source: Path, *flags: str, lib: Path | None = None, compiler: Sequence[str] = C99, name: str = "") -> Path:
    """A program of one source file, linked to the shared library."""
    lib = lib or library()
    out = BUILD / "bin" / (name or source.stem)
    out.parent.mkdir(parents=True, exist_ok=True)
    run(*compiler, "-I", INCLUDE, "-I", TESTS, "-I", BUILD, "-o", out, source, *flags,
        "-L", lib, "-lappxmpp", f"-Wl,-rpath,{lib}", "-pthread")  # fmt: skip
    return out


def environment(backend: str, **more: str) -> dict[str, str]:
    more = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=98", **more}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("APPXMPP_")}
    return {**inherited, "APPXMPP_BACKEND": backend, **more}
