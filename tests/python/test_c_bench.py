"""What the benchmark promises of the C library is looked at: its peer is there, and what is not measured counts."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from c_library import ROOT

sys.path.insert(0, str(ROOT / "tests" / "bench"))

from runner import components, measure
from runner.options import Options
from runner.proc import BenchError
from runner.report import Report

OURS = (components.C_ECHO, components.C_ECHO_ONE)


class Programs:
    """As if all were built; libstrophe's peer only where it is installed."""

    c = capi = go = Path("built")

    def __init__(self, has_strophe: bool) -> None:
        self._has_strophe = has_strophe

    @property
    def strophe(self) -> Path:
        if not self._has_strophe:
            raise BenchError("the libstrophe peer cannot be built")
        return Path("built")


def libraries(monkeypatch: pytest.MonkeyPatch, has_strophe: bool) -> tuple[Report, list[str]]:
    order = []

    def measured(_drive: Path, subject: measure.Subject, server: Any, **_: Any) -> dict[str, float]:
        order.append(f"{subject.name} {'prosody' if server else 'null'}")
        slow = subject.name == components.STROPHE
        return {"per_second": 1e5 / (1 + slow), "cpu_us": 1.0 + slow, "p50_us": 1.0}

    monkeypatch.setattr(components, "Prosody", lambda _: nullcontext("a server"))
    monkeypatch.setattr(measure, "echo", measured)
    monkeypatch.setattr(measure, "send", measured)
    report = Report()
    components.libraries(Options(rounds=2), Programs(has_strophe), report)  # type: ignore[arg-type]
    return report, order


def test_libstrophe_is_judged_by_what_tells_the_two_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    report, _ = libraries(monkeypatch, has_strophe=True)
    verdicts = {(v.section, v.target): v for v in report.verdicts if "libstrophe" in v.target}
    rates = {f"round trips of {name}, against libstrophe's" for name in OURS}
    cpus = {f"CPU per round trip of {name}, against libstrophe's" for name in OURS}
    assert {target for section, target in verdicts if section == "libraries: echo null"} == rates | cpus
    assert {target for section, target in verdicts if section == "libraries: echo prosody"} == cpus
    assert {v.verdict for v in verdicts.values()} == {"ok"}
    assert all(v.range for v in verdicts.values()), "the range over the rounds is told"
    assert not report.missed


def test_every_other_round_goes_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    _, order = libraries(monkeypatch, has_strophe=True)
    echoes = [name for name in order if "null" in name and not ("send" in name or "Send" in name or "writer" in name)]
    first, second = echoes[: len(echoes) // 2], echoes[len(echoes) // 2 :]
    assert len(first) == 4
    assert first == second[::-1]


def test_what_was_not_measured_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    report, _ = libraries(monkeypatch, has_strophe=False)
    assert {v.verdict for v in report.verdicts if "libstrophe" in v.target} == {"not measured"}
    assert report.missed


def test_what_is_left_out_on_purpose_is_not_missed() -> None:
    report = Report()
    report.leave_out("mod_rest", "mod_rest was left out (MOD_REST=no)")
    report.compare("section", "rate against mod_rest", "≥ 3", "ours", "mod_rest", "per_second")
    assert [v.verdict for v in report.verdicts] == ["left out"]
    assert not report.missed


def test_make_bench_installs_its_peer() -> None:
    steps = subprocess.run(["make", "-n", "bench"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert " libstrophe-dev" in steps
    assert steps.index(" libstrophe-dev") < steps.index("tests/bench/run")
