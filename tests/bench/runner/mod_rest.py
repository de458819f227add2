"""Prosody's mod_rest: installed, or taken out of Debian's newer prosody-modules package without installing it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .build import shell
from .proc import BenchError

INSTALLED = [
    Path("/usr/lib/prosody/modules"),
    Path("/usr/share/prosody-modules"),
    Path("/usr/local/lib/prosody/modules"),
]
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITE = "sid"  # Debian 12 has no mod_rest, and the one of 2025 cannot serve a component


def plugin_folder(choice: str, out: Path) -> Path:
    """The folder to put on Prosody's plugin path, which has mod_rest and as little else as can be."""
    if choice == "no":
        raise BenchError("mod_rest was left out (MOD_REST=no)")
    if choice != "auto":
        return copy_alone(Path(choice), out)
    for folder in INSTALLED:
        if (folder / "mod_rest").is_dir():
            return copy_alone(folder / "mod_rest", out)
    unpacked = out / "prosody-modules"
    if not list(unpacked.glob("**/mod_rest")):
        unpack(unpacked)
    return copy_alone(next(unpacked.glob("**/mod_rest")), out)


def copy_alone(module: Path, out: Path) -> Path:
    if not (module / "mod_rest.lua").is_file():
        raise BenchError(f"MOD_REST={module} has no mod_rest.lua in it")
    folder = out / "plugins"
    folder.mkdir(exist_ok=True)
    if (folder / "mod_rest").resolve() != module.resolve():
        shutil.rmtree(folder)
        shutil.copytree(module, folder / "mod_rest")
    return folder


def unpack(target: Path) -> None:
    """Fetches the package with an apt state of its own, from the mirror this machine is configured for."""
    apt = target.with_name("apt")
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    sources = apt / "sources.list"
    sources.write_text(debian_source())
    options = [
        "-o",
        f"Dir::Etc::sourcelist={sources}",
        "-o",
        "Dir::Etc::sourceparts=/dev/null",
        "-o",
        f"Dir::State::lists={apt / 'lists'}",
        "-o",
        f"Dir::Cache={apt / 'cache'}",
        "-o",
        "APT::Sandbox::User=root",
        "-o",
        "Acquire::Languages=none",
    ]
    what = (
        "Debian's newer prosody-modules (no mod_rest otherwise; MOD_REST=FOLDER names one, MOD_REST=no leaves it out)"
    )
    shell(["apt-get", *options, "update"], what=f"the package list for {what}")
    shell(["apt-get", *options, "download", f"prosody-modules/{SUITE}"], cwd=apt, what=what)
    target.mkdir(exist_ok=True)
    shell(["dpkg", "-x", *sorted(apt.glob("prosody-modules_*.deb"))[-1:], target], what="its contents")
    if not list(target.glob("**/mod_rest")):
        raise BenchError("Debian's prosody-modules has no mod_rest in it: name a folder with MOD_REST=FOLDER")


def debian_source() -> str:
    """One line for sources.list: the configured Debian mirror, with the newer suite."""
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)", "Created-By: Packages"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError("there is no apt here to fetch mod_rest with: MOD_REST=FOLDER names one") from error
    signed = f"[signed-by={KEYRING}] " if Path(KEYRING).exists() else ""
    for line in listed.splitlines():
        origin, uri = line.split("|", 1)
        if origin == "Debian" and "security" not in uri:
            return f"deb {signed}{uri} {SUITE} main\n"
    raise BenchError(
        "apt knows no Debian mirror here (apt-get update), so mod_rest cannot be fetched: "
        "MOD_REST=FOLDER names one, MOD_REST=no leaves it out"
    )
