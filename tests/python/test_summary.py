"""What `make test` says at its end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.gateway import ROOT
from support.waiting import PATIENCE


def last_line(folder: Path, *said: str) -> str:
    """Of `make test` with one part, which says what is given."""
    part = "".join(f"\t@echo '{line}'\n" for line in said)
    vectors = "".join(
        f"\t@echo 'vectors {language} {table} 1'\n"
        for language in ("rust", "python", "ctypes", "c", "go")
        for table in ("jid", "presence", "roster", "route", "send", "xml")
    )
    (folder / "Makefile").write_text(f"include Makefile\n.PHONY: part\npart:\n{part}{vectors}")
    make = f"make -f {folder}/Makefile"
    argv = [*make.split(), f"MAKE={make}", "-o", "setup", "test", "TEST_PARTS=part", f"LOGS={folder}/logs"]
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_the_last_line_names_what_was_not_tested(tmp_path: Path) -> None:
    skipped = "SKIPPED [3] test_x.py:1: NOT TESTED: Flask example: no network"
    line = last_line(tmp_path, "5 passed, 4 skipped", skipped, skipped, "NOT TESTED the other: no 32-bit gcc")
    assert line.startswith("make test: all parts passed, 5 tests")
    assert line.endswith("; NOT TESTED: Flask example: no network; the other: no 32-bit gcc")


def test_it_says_nothing_of_the_kind_where_all_was(tmp_path: Path) -> None:
    line = last_line(tmp_path, "5 passed")
    assert line.startswith("make test: all parts passed, 5 tests")
    assert "NOT TESTED" not in line
