"""scripts/sim-compiled tells what scripts/sim tells."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEEDS = "0..9"


def _reports(script: str) -> list[str]:
    """The line of each seed: what happened how often, and a digest of its whole trace."""
    done = subprocess.run(
        [ROOT / "scripts" / script, "--seeds", SEEDS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("seed ")]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_compiled_world_is_the_same_world() -> None:
    plain = _reports("sim")
    assert len(plain) == 10 and _reports("sim-compiled") == plain
