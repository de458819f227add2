"""The unit of systemd as systemd's own tool reads it, and the Debian package as dpkg does."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import folders
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


@pytest.fixture(scope="module")
def package() -> Iterator[Path]:
    """The Debian package, with the program as the tests have it instead of a release build."""
    own = ROOT / "build/tools/bin/cargo-deb"
    tool = str(own) if own.exists() else shutil.which("cargo-deb")
    if not tool or not shutil.which("dpkg-deb"):
        pytest.skip("NOT TESTED: the Debian package, because cargo-deb is not there; `make deb` installs it")
    binary()
    folder = folders.folder("deb")
    argv = [tool, "--package=appxmpp-gateway", "--profile=dev", "--no-build", "--fast", f"--output={folder}/made.deb"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    yield folder / "made.deb"
    folders.remove(folder)


def dpkg(*arguments: object) -> str:
    argv = ["dpkg-deb", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


def test_the_package_holds_what_it_should(package: Path, tmp_path: Path) -> None:
    listed = {line.split()[-1]: line.split()[:2] for line in dpkg("--contents", package).splitlines()}
    for path, mode in {
        "./usr/bin/appxmpp": "-rwxr-xr-x",
        "./etc/appxmpp/appxmpp.toml": "-rw-r--r--",
        "./usr/lib/systemd/system/appxmpp.service": "-rw-r--r--",
        "./usr/share/man/man1/appxmpp-gateway.1.gz": "-rw-r--r--",
        "./usr/share/bash-completion/completions/appxmpp": "-rw-r--r--",
        "./usr/share/doc/appxmpp/copyright": "-rw-r--r--",
    }.items():
        assert listed[path] == [mode, "0/0"], path
    dpkg("--extract", package, tmp_path)
    # What the document refers to is there.
    document = (tmp_path / "usr/share/doc/appxmpp/README.md").read_text()
    assert "](SCALING.md)" in document
    assert (tmp_path / "usr/share/doc/appxmpp/SCALING.md").exists()
    assert (tmp_path / "usr/lib/systemd/system/appxmpp.service").read_text() == UNIT.read_text()
    # It runs, and takes its own example of a configuration.
    argv = [tmp_path / "usr/bin/appxmpp", "check", "--config", tmp_path / "etc/appxmpp/appxmpp.toml"]
    env = {**os.environ, "APPXMPP_SECRET": "x"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


def test_an_upgrade_keeps_the_configuration_and_an_installation_starts_nothing(package: Path, tmp_path: Path) -> None:
    dpkg("--control", package, tmp_path)
    assert (tmp_path / "conffiles").read_text().split() == ["/etc/appxmpp/appxmpp.toml"]
    assert "libc6" in dpkg("--field", package, "Depends")
    postinst = (tmp_path / "postinst").read_text()
    assert "#DEBHELPER#" not in postinst
    # It needs a configuration and a secret first. An upgrade starts again what runs, and keeps what is enabled.
    actions = [line.split()[1:3] for line in postinst.splitlines() if line.split()[:1] == ["deb-systemd-invoke"]]
    assert actions == [["try-restart", "appxmpp.service"]]
    before, _, after = postinst.partition("--quiet was-enabled appxmpp.service; then")
    assert "deb-systemd-helper enable appxmpp.service" in after
    assert "helper enable" not in before
    for script in ("postinst", "prerm", "postrm"):
        subprocess.run(["sh", "-n", tmp_path / script], check=True, timeout=PATIENCE)
