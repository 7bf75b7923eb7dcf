"""Whole clusters under faults, on fixed seeds and on a fresh one; and the simulation's own promise.

A failing seed names the line that repeats it. scripts/sim runs as many seeds as one likes.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

import pytest

from tests.sim import scenario
from tests.sim.faults import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_fixed_seed(kind: str) -> None:
    report = scenario.run(1, kind)
    print(report)
    assert report.acknowledged > 100 and report.reads > 50 and report.snapshots > 1


def test_a_fresh_seed() -> None:
    seed = 1_000_000 + secrets.randbelow(1_000_000_000)
    print(f"fresh seed {seed} {scenario.kind_of(seed)}")
    print(scenario.run(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 150))
def test_many_seeds(seed: int) -> None:
    print(scenario.run(seed))


def test_a_seed_is_a_run() -> None:
    """The same seed gives the same trace, also where sets and dicts of strings hash differently."""
    program = "from tests.sim import scenario; print(scenario.run(7, 'crash', trouble_s=2.0).digest)"

    def digest(hash_seed: str) -> str:
        environment = dict(os.environ, PYTHONHASHSEED=hash_seed)
        ran = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()

    here = scenario.run(7, "crash", trouble_s=2.0).digest
    assert here == digest("1") == digest("2")
    assert here != scenario.run(8, "crash", trouble_s=2.0).digest
