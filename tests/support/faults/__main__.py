"""Runs faults and prints the table; the exit status is 0 if nothing was lost, disordered or stuck."""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from queue import SimpleQueue

from ..gateway import ROOT, binary
from ..process import as_user
from ..servers import KINDS
from .runs import Result, runs, table
from .verdict import Verdict

FOLDER = ROOT / "build/faults"


def main() -> int:
    parser = argparse.ArgumentParser(prog="support.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="how many, over all servers (default 200)")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat it")
    parser.add_argument("--server", choices=list(KINDS), action="append", help="default: each")
    parser.add_argument("--only", default="", metavar="WORDS", help="faults whose name has these words")
    parser.add_argument("--short", action="store_true", help="without faults that take a minute, as in make test")
    parser.add_argument("--lines", action="store_true", help="one server's results as lines of JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    kinds = options.server or list(KINDS)
    if options.lines:
        for result in runs(kinds[0], options.runs, seed, options.only, short=options.short):
            print(json.dumps(asdict(result)), flush=True)
        return 0
    again = f"make test-faults SEED={seed} RUNS={options.runs}{' SHORT=1' * options.short}"
    print(f"faults: {options.runs} runs, seed {seed} ({again} repeats them)", flush=True)
    results = side_by_side(kinds, options.runs, seed, options.only, short=options.short)
    FOLDER.mkdir(parents=True, exist_ok=True)
    report = {"seed": seed, "runs": [asdict(result) for result in results]}
    (FOLDER / f"{seed}.json").write_text(json.dumps(report, indent=1))
    print(table(results))
    bad = sum(bool(result.verdict.problems) for result in results)
    missing = options.runs - len(results)
    print(
        f"faults: {len(results) - bad} passed, {bad} failed, {missing} not run; {FOLDER.relative_to(ROOT)}/{seed}.json"
    )
    return 1 if bad or missing else 0


def side_by_side(kinds: Sequence[str], count: int, seed: int, only: str, *, short: bool) -> list[Result]:
    """Each server's runs in a process of their own."""
    binary()
    lines: SimpleQueue[str | None] = SimpleQueue()
    for index, kind in enumerate(kinds):
        share = count // len(kinds) + (index < count % len(kinds))
        options = ["--lines", "--server", kind, "--runs", str(share), "--seed", str(seed), "--only", only]
        options += ["--short"] * short
        child = subprocess.Popen(
            [*as_user(None), sys.executable, "-m", "support.faults", *options], stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=_read, args=(child, lines), daemon=True).start()
    results: list[Result] = []
    running = len(kinds)
    while running:
        line = lines.get()
        if line is None:
            running -= 1
            continue
        fields = json.loads(line)
        result = Result(**{**fields, "verdict": Verdict(**fields["verdict"])})
        results.append(result)
        tell(result)
    return results


def _read(child: subprocess.Popen[str], lines: SimpleQueue[str | None]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    child.wait()
    lines.put(None)


def tell(result: Result) -> None:
    verdict = result.verdict
    state = "FAILED" if verdict.problems else "ok"
    again = " ".join(f"{it.again}/{it.bound}" for it in (verdict.outbound, verdict.inbound, verdict.replies))
    counts = f"{verdict.promised:5} promised {verdict.received:5} received {again:>20} again"
    print(f"{result.run:5} {result.seconds:5.1f} s {counts}  {state}  {result.fault} ({result.server})", flush=True)
    for problem in verdict.problems:
        print(f"      {problem}", flush=True)
    if result.log:
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{result.run}.log").write_text(result.log)


if __name__ == "__main__":
    sys.exit(main())
