"""Builds the programs of the benchmark, each kind once and only when a section asks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path

from .options import ROOT
from .proc import BenchError

BENCH = ROOT / "tests" / "bench"


def shell(argv: list, *, cwd: Path = ROOT, what: str, env: dict | None = None) -> None:
    """Runs a build step; its output is shown only when it fails."""
    print(f"  building {what} …", flush=True)
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(
            argv, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise BenchError(f"{what} cannot be built: {argv[0]} is not installed") from None
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise BenchError(f"{what} cannot be built: `{' '.join(argv)}` failed:\n{tail}")


class Programs:
    """Paths of built programs under one output folder."""

    def __init__(self, out: Path):
        self.out = out
        out.mkdir(parents=True, exist_ok=True)

    @cached_property
    def c(self) -> Path:
        """Null server, raw writer, raw gateway and load drivers."""
        shell(["make", "-s", "-C", BENCH / "c", f"OUT={self.out / 'bin'}"], what="the C programs")
        return self.out / "bin"

    @cached_property
    def strophe(self) -> Path:
        shell(["make", "-s", "-C", BENCH / "c", f"OUT={self.out / 'bin'}", "strophe"], what="the libstrophe peer")
        return self.out / "bin"

    @cached_property
    def tokio(self) -> Path:
        """tokio-xmpp peers: minutes of compiling the first time."""
        target = self.out / "peers"
        shell(
            ["cargo", "build", "--release", "--locked", "--target-dir", target],
            cwd=BENCH / "peers",
            what="the tokio-xmpp peers",
        )
        return target / "release"

    @cached_property
    def ours(self) -> Path:
        """Our own library in Rust programs, by the workspace's release profile."""
        target = self.out / "ours"
        shell(
            ["cargo", "build", "--release", "--locked", "-p", "appxmpp-bench", "--target-dir", target],
            what="the appxmpp programs",
        )
        return target / "release"

    def install(self, built: Path, name: str) -> Path:
        """The folder `name` with libappxmpp as `make install` makes it: stripped."""
        folder = self.out / name
        shell([ROOT / "capi" / "install.sh"], what=name, env={
            "BUILT": str(built), "PREFIX": str(folder), "LIBDIR": "", "DESTDIR": "",
        })  # fmt: skip
        return folder

    def library(self, *words: str, env: dict[str, str] | None = None) -> Path:
        """libappxmpp, stripped as it is installed; built with these words and settings of cargo's."""
        name = "-".join(["libappxmpp", *(word.strip("-") for word in words)])
        target = self.out / (f"ours-{name}" if words else "ours")
        shell(
            ["cargo", "build", "--release", "--locked", "-p", "appxmpp-capi", "--target-dir", target, *words],
            what=name,
            env=env,
        )
        return (self.install(target / "release", name) / "lib" / "libappxmpp.so").resolve()

    @cached_property
    def capi(self) -> Path:
        """libappxmpp's programs in C."""
        library = self.library().parents[1]
        arguments = [f"OUT={self.out / 'bin'}", f"APPXMPP={library}"]
        shell(["make", "-s", "-C", BENCH / "c", *arguments, "appxmpp"], what="the libappxmpp programs")
        return self.out / "bin"

    @cached_property
    def go(self) -> Path:
        """The Go package in a program, over the same libappxmpp."""
        library = self.capi.parent / "libappxmpp" / "lib"
        program = self.out / "bin" / "go_peer"
        shell(
            [ROOT / "tests" / "go" / "env", "go", "build", "-o", program.resolve(), "."],
            cwd=BENCH / "peers" / "go",
            what="the Go program",
            env={"APPXMPP_LIBDIR": str(library.resolve()), "CGO_LDFLAGS": f"-Wl,-rpath,{library.resolve()}"},
        )
        return program

    @cached_property
    def gateway(self) -> Path:
        """The daemon, as it is shipped."""
        target = self.out / "ours"
        shell(
            ["cargo", "build", "--release", "--locked", "-p", "appxmpp-gateway", "--target-dir", target],
            what="the gateway",
        )
        program = target / "release" / "appxmpp"
        if not program.exists():
            raise BenchError("the gateway crate has no program `appxmpp` yet")
        return program

    @cached_property
    def python(self) -> Path:
        """An interpreter with slixmpp."""
        venv = self.out / "venv"
        python = venv / "bin" / "python"
        if not python.exists():
            shell([sys.executable, "-m", "venv", venv], what="a Python environment")
        if not list(venv.glob("lib/python*/site-packages/slixmpp")):
            shell(
                [python, "-m", "pip", "install", "-q", "-r", BENCH / "peers" / "python" / "requirements.txt"],
                what="the slixmpp peer",
            )
        return python

    @cached_property
    def appxmpp_python(self) -> Path:
        """The same interpreter with this tree's own wheel, optimised."""
        python = self.python
        wheels = self.out / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        shell(
            [python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT / "python"],
            what="the Python wheel",
            env={"CARGO_TARGET_DIR": str(self.out / "ours")},
        )
        shell(
            [python, "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", *wheels.glob("*.whl")],
            what="its installation",
        )
        return python
