"""The documents point at what exists, and name what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/**/README.md")])
DOCUMENTS = [d for d in DOCUMENTS if not {"target", ".venv", "build", "node_modules"} & set(d.relative_to(ROOT).parts)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_make_targets_named_in_the_documents_exist(document: str) -> None:
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE))
    rules = "".join((ROOT / path).read_text(encoding="utf-8") for path in ("Makefile", "capi/capi.mk"))
    made = set(re.findall(r"^([a-z][a-z-]*):", rules, re.MULTILINE))
    assert named - made == set()


def test_the_paths_of_the_architecture_paper_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:core|python|capi|tests|examples)/[\w./-]*)`", text)
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_target_of_the_makefile_is_explained() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for target in ("demo", "test", "check", "bench", "fmt", "lint"):
        assert re.search(rf"^  {target} +\w", listed.stdout, re.MULTILINE), f"{target} is not in make help"


def test_doap_is_well_formed_and_its_licences_are_there() -> None:
    project = ET.parse(ROOT / "doap.xml").getroot()[0]
    assert project.findtext("{http://usefulinc.com/ns/doap#}name") == "appxmpp"
    assert (ROOT / "LICENSE-MIT").exists()
    assert (ROOT / "LICENSE-APACHE").exists()
