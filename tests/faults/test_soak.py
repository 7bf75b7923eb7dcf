"""Three real servers under real faults: nothing is lost, and what clients saw is linearizable."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.world import why_impossible

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(why_impossible() != "", reason=why_impossible())


def soak(tmp_path: Path, *words: str, timeout_s: float) -> dict[str, Any]:
    """A run of scripts/soak that passed, as its report."""
    found = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.faults", *words, "--json", str(found)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"it did not end by itself: {error.stdout!r}") from None
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(found.read_text())
    return report


def test_a_short_run(tmp_path: Path) -> None:
    """Bug 37: split brain and total loss, found as soon as real processes were killed and cut off."""
    report = soak(tmp_path, "--minutes", "0.15", timeout_s=270)
    for kind in ("kills", "partitions", "pauses", "full_disks", "acknowledged", "gets"):
        assert report[kind] > 0, kind
    assert report["lost_writes"] == report["non_linearizable_keys"] == 0
    assert report["failures"] == []


@pytest.mark.slow
def test_a_leader_whose_disk_hangs() -> None:
    """It goes on with the others' disks for ten election timeouts, then it abdicates; nothing is lost."""
    command = [sys.executable, "-m", "tests.faults.frozen"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=270)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if "impossible" in found:
        pytest.skip(found["impossible"])
    assert found["then"] != found["leader"]
    assert found["took_s"] < 20
    assert found["between"] > 0
    assert found["afterwards"] > 0
    assert found["missing"] == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_longer_run(tmp_path: Path) -> None:
    report = soak(tmp_path, "--minutes", "8", "--kills", "60", "--partitions", "25", timeout_s=590)
    assert report["kills"] >= 60
    assert report["partitions"] >= 25
    assert report["failures"] == []
