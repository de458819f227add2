"""The unit of systemd, as systemd's own tool reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.gateway import ROOT, binary
from support.waiting import PATIENCE

UNIT = ROOT / "core/gateway/dist/appxmpp.service"
PROGRAM = "/usr/bin/appxmpp"

pytestmark = pytest.mark.servers


def complaints(folder: Path, text: str) -> str:
    """What systemd-analyze says of a unit; it ends with 0 for settings that it merely ignores."""
    tool = shutil.which("systemd-analyze")
    if not tool:
        pytest.skip("NOT TESTED: the unit by systemd-analyze verify, which is not installed (package systemd)")
    unit = folder / UNIT.name
    unit.write_text(text.replace(f"ExecStart={PROGRAM}", f"ExecStart={binary()}"))
    argv = [tool, "verify", "--man=no", str(unit)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    said = done.stdout + done.stderr
    # Other units of this machine are not ours to judge.
    ours = [line for line in said.splitlines() if UNIT.name in line]
    assert done.returncode == 0 or ours, said
    return "\n".join(ours)


def test_systemd_takes_every_line_of_it(tmp_path: Path) -> None:
    assert complaints(tmp_path, UNIT.read_text()) == ""


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("ProtectSystem=strict", "ProtectSytem=strict"),
        ("WatchdogSec=30", "WatchdogSec=soon"),
        (f"ExecStart={PROGRAM}", "ExecStart=/nowhere/appxmpp"),
    ],
)
def test_a_line_that_is_wrong_would_be_found(tmp_path: Path, line: str, wrong: str) -> None:
    text = UNIT.read_text()
    assert line in text
    assert complaints(tmp_path, text.replace(line, wrong)) != ""
