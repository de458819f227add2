"""What libappxmpp weighs: the stripped library as it is installed, whole and without what can be left out."""

from __future__ import annotations

import json
import statistics
import subprocess

from .build import Programs
from .options import Options
from .report import Report

SECTION = "size"
#: What is built, with which of cargo's words and settings (those of `make install`), and what it may have in MB.
BUILDS = {
    "libappxmpp.so (rustls, accounts, SQLite)": ((), {}, "≤ 6 MB"),
    "libappxmpp.so --no-default-features (no TLS, accounts and SQLite; opt-level=s)": (
        ("--no-default-features",),
        {"CARGO_PROFILE_RELEASE_OPT_LEVEL": "s"},
        "≤ 2 MB",
    ),
}


def run(options: Options, programs: Programs, report: Report) -> None:
    """Size on disk, and the time to load, the file being in memory."""
    for name, (words, env, bound) in BUILDS.items():
        library = programs.library(*words, env=env)
        size = library.stat().st_size / 1e6
        argv = [programs.c / "load", library]
        found = [json.loads(subprocess.check_output(argv)) for _ in range(5 * options.rounds)]
        loads, threads = [one["load_ms"] for one in found], max(one["threads"] for one in found)
        load = statistics.median(loads)
        report.add(SECTION, name, size_mb=size, load_ms=load, threads=threads)
        print(f"  {name}: {size:.2f} MB, loaded in {load:.2f} ms, threads {threads}", flush=True)
        report.target(SECTION, f"size of {name}, stripped", bound, size)
        report.target(SECTION, f"time to load {name}", "≤ 5 ms", load, loads)
        report.target(SECTION, f"threads after loading {name}, the program's own included", "≤ 1", threads)
