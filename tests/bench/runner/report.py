"""Measurements and verdicts: collected while sections run, printed as tables, kept as JSON."""

from __future__ import annotations

import json
import operator
import os
import platform
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .options import ROOT

COMPARE = {"≤": operator.le, "≥": operator.ge}


@dataclass
class Series:
    """The values of one quantity, one per round."""

    section: str
    subject: str
    quantity: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Verdict:
    section: str
    target: str
    bound: str
    measured: float | None
    verdict: str
    range: tuple[float, float] | None = None  # lowest and highest of the rounds


class Report:
    def __init__(self) -> None:
        self.series: dict[tuple[str, str, str], Series] = {}
        self.verdicts: list[Verdict] = []
        self.notes: list[str] = []
        self.left_out: set[str] = set()
        self.started = time.time()

    def add(self, section: str, subject: str, **quantities: float) -> None:
        for quantity, value in quantities.items():
            key = (section, subject, quantity)
            self.series.setdefault(key, Series(*key)).values.append(value)

    def note(self, text: str) -> None:
        print(f"  note: {text}", flush=True)
        if text not in self.notes:
            self.notes.append(text)

    def leave_out(self, peer: str, why: str) -> None:
        """A peer that the caller does not want or this system does not have: nobody misses its targets."""
        self.left_out.add(peer)
        self.note(why)

    def values(self, section: str, subject: str, quantity: str) -> list[float]:
        found = self.series.get((section, subject, quantity))
        return found.values if found else []

    def target(
        self,
        section: str,
        text: str,
        bound: str,
        measured: float | None,
        rounds: list[float] | None = None,
        *,
        peer: str = "",
    ) -> None:
        """Judges one target; `bound` is "≤ 10 µs" or the like; a value of None says that it was not measured."""
        sign, limit = bound.split()[:2]
        met = measured is not None and COMPARE[sign](measured, float(limit.replace(",", "")))
        missing = "left out" if peer in self.left_out else "not measured"
        verdict = missing if measured is None else "ok" if met else "MISSED"
        spread = (min(rounds), max(rounds)) if rounds else None
        self.verdicts.append(Verdict(section, text, bound, measured, verdict, spread))

    def compare(self, section: str, text: str, bound: str, subject: str, peer: str, quantity: str) -> None:
        """Judges the median of the rounds' ratios."""
        pairs = self.pairs(section, subject, peer, quantity)
        self.target(section, text, bound, statistics.median(pairs) if pairs else None, pairs, peer=peer)

    def within(self, section: str, text: str, bound: str, subject: str, quantity: str) -> None:
        """Judges the median of the rounds."""
        values = self.values(section, subject, quantity)
        self.target(section, text, bound, statistics.median(values) if values else None, values)

    def median(self, section: str, subject: str, quantity: str) -> float | None:
        values = self.values(section, subject, quantity)
        return statistics.median(values) if values else None

    def ratio(self, section: str, subject: str, peer: str, quantity: str) -> float | None:
        """Median of the per-round ratios."""
        pairs = self.pairs(section, subject, peer, quantity)
        return statistics.median(pairs) if pairs else None

    def pairs(self, section: str, subject: str, peer: str, quantity: str) -> list[float]:
        """The per-round ratios: both were measured within seconds of each other."""
        ours, theirs = self.values(section, subject, quantity), self.values(section, peer, quantity)
        return [a / b for a, b in zip(ours, theirs, strict=False) if b]

    @property
    def missed(self) -> bool:
        """Whether a promise was not kept, or not looked at: what is not measured proves nothing."""
        return any(v.verdict in ("MISSED", "not measured") for v in self.verdicts)

    def print(self) -> None:
        print("\nMeasured (median of the rounds; rates with lowest to highest)")
        quantities = list(dict.fromkeys(s.quantity for s in self.series.values()))
        subjects = dict.fromkeys((s.section, s.subject) for s in self.series.values())
        rows = [(*who, *(shown(self.series.get((*who, q))) for q in quantities)) for who in subjects]
        print(table(("section", "subject", *(q.replace("_", " ") for q in quantities)), rows))
        print("\nTargets")
        rows = [
            (
                v.section,
                v.target,
                v.bound,
                "-" if v.measured is None else f"{v.measured:.3g}",
                "{:.3g} - {:.3g}".format(*v.range) if v.range else "",
                v.verdict,
            )
            for v in self.verdicts
        ]
        print(table(("section", "target", "bound", "measured", "rounds", "verdict"), rows))
        for note in self.notes:
            print(f"note: {note}")

    def save(self, path: Path, options: dict) -> None:
        data = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "seconds": round(time.time() - self.started, 1),
            "machine": machine(),
            "options": options,
            "measured": [{**asdict(s), "median": s.median} for s in self.series.values()],
            "targets": [asdict(v) for v in self.verdicts],
            "notes": self.notes,
        }
        path.write_text(json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")


def shown(series: Series | None) -> str:
    if series is None:
        return "-"
    if series.quantity != "per_second":
        return f"{series.median:,.2f}"
    low, high = min(series.values), max(series.values)
    return f"{series.median:,.0f} ({low:,.0f} - {high:,.0f})"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def machine() -> dict:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "kernel": platform.release(),
        "commit": commit.stdout.strip(),
    }
