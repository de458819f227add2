"""The short form of `make test-faults`: each fault that takes no minute once, half of them in front of each server."""

from __future__ import annotations

import random

import pytest

from support.faults.runs import possible, runs, table
from support.servers import KINDS

pytestmark = pytest.mark.servers


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", list(KINDS))
def test_nothing_acknowledged_is_lost(kind: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    count = -(-sum(fault.weight > 0 and not fault.is_long for fault in possible()) // len(KINDS))
    print(f"seed {seed}: make test-faults RUNS={count * len(KINDS)} SEED={seed} SHORT=1")
    results = list(runs(kind, count, seed, short=True))
    print(table(results))
    for result in results:
        assert not result.verdict.problems, f"{result.fault} ({result.run}): {result.verdict.problems}\n{result.log}"
    total = sum(result.verdict.promised for result in results)
    assert total > 100 * len(results) / 2, "hardly any load"
