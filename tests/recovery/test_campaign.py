"""Dozens of random recovery targets in each run of the tests; scripts/pitr asks as many as wanted."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from neumann.recovery import left, lineage, plan
from neumann.recovery.lineage import Position, Stretch
from neumann.recovery.plan import Stop
from neumann.recovery.targets import Target
from tests.recovery.campaign import WrongAnswer, run_seed


@pytest.mark.parametrize("seed", [3, 8, 21])
def test_fixed_seeds(tmp_path: Path, seed: int) -> None:
    counted = run_seed(seed, str(tmp_path))
    assert counted["targets"] == counted["reached"] + sum(n for k, n in counted.items() if k[:4] == "exit")


def test_fresh_seeds(tmp_path: Path) -> None:
    first = secrets.randbelow(1 << 32)
    print(f"scripts/pitr --targets 60 --seed {first}")
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        run_seed(first + number, str(tmp_path / str(number)))


@pytest.mark.parametrize(
    "planted",
    [
        "a time is exclusive",
        "an index is one too far",
        "forks are not seen",
        "a timeline that was left is left for good",
    ],
)
def test_it_bites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str) -> None:
    right = plan._stop

    def stop(catalog: object, line: list[Stretch], target: Target) -> Stop:
        found = right(catalog, line, target)  # type: ignore[arg-type]
        if planted == "a time is exclusive" and found.time_ns is not None:
            return found._replace(time_ns=found.time_ns - 1)
        if planted == "an index is one too far" and found.position is not None:
            number, index = found.position
            return found._replace(position=(number, index + 1))
        return found

    def position(line: list[Stretch], index: int) -> Position:
        return max(n for n, stretch in enumerate(line) if stretch.base.index <= index), index

    monkeypatch.setattr(plan, "_stop", stop)
    if planted == "a timeline that was left is left for good":
        monkeypatch.setattr(left, "contenders", lambda *_: [])
    if planted == "forks are not seen":
        monkeypatch.setattr(lineage, "position_of_index", position)
    with pytest.raises(WrongAnswer):
        for seed in range(40):
            (tmp_path / str(seed)).mkdir()
            run_seed(seed, str(tmp_path / str(seed)))
