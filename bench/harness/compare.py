"""A question answered: one workload on both sides, in alternating rounds, and the ratio of the medians.

Machines drift by a factor of two within minutes, so a ratio is taken inside each pair of neighbouring
rounds, and the median of these is the result; absolute figures are medians over the rounds.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.harness import load as generator
from bench.harness.etcd import Etcd
from bench.harness.load import Figures, Load
from bench.harness.neumann import Neumann
from bench.harness.stage import OURS, THEIRS, Stage


@dataclass(frozen=True, slots=True)
class Result:
    """`figure` is the field of Figures that the ratio compares, ours over theirs."""

    name: str
    figure: str
    peer: str
    rounds: tuple[dict[str, Figures], ...]

    @property
    def ratio(self) -> float | None:
        """Median over the pairs; None where only one side was measured."""
        pairs = [
            getattr(one[OURS], self.figure) / getattr(one[THEIRS], self.figure)
            for one in self.rounds
            if one.keys() == {OURS, THEIRS}
        ]
        return statistics.median(pairs) if pairs else None

    def side(self, side: str) -> Figures | None:
        """Each figure's median over the rounds; the worst for max_ms."""
        seen = [one[side] for one in self.rounds if side in one]
        if not seen:
            return None
        medians = {name: statistics.median(getattr(one, name) for one in seen) for name in Figures.__slots__}
        return Figures(**{**medians, "max_ms": max(one.max_ms for one in seen)})

    def to_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        ours, theirs = self.side(OURS), self.side(THEIRS)
        return {
            "name": self.name,
            "figure": self.figure,
            "ours": asdict(ours) if ours else None,
            "peer": self.peer,
            "theirs": asdict(theirs) if theirs else None,
            "ratio": self.ratio,
            "rounds": [{side: asdict(figures) for side, figures in one.items()} for one in self.rounds],
        }


def compare(stage: Stage, name: str, load: Load, figure: str = "rate") -> Result:
    """Start both clusters, put every key once, and drive them in turn."""
    generator.build()
    with ExitStack() as running:
        sides: dict[str, Etcd | Neumann] = {}
        if OURS in stage.sides:
            sides[OURS] = running.enter_context(Neumann(stage.root / name / OURS, stage.profile))
        if THEIRS in stage.sides:
            sides[THEIRS] = running.enter_context(Etcd(stage.root / name / THEIRS))
        for cluster in sides.values():
            generator.fill(cluster.name, cluster.leader(), load)
        rounds: list[dict[str, Figures]] = []
        for number in range(1, stage.rounds + 1):
            rounds.append({})
            for side, cluster in sides.items():
                figures = rounds[-1][side] = _drive(cluster, load, stage, seed=number)
                _progress(f"{name}: round {number}/{stage.rounds} {cluster.name:8}{figures.rate:9,.0f}/s")
    return Result(name, figure, Etcd.name, tuple(rounds))


def _drive(cluster: Etcd | Neumann, load: Load, stage: Stage, seed: int) -> Figures:
    cpu_before = cluster.cpu_seconds()
    figures = generator.drive(cluster.name, cluster.leader(), load, stage, seed)
    rows = figures.rate * (stage.warmup_s + stage.seconds)
    return replace(figures, cpu_us=(cluster.cpu_seconds() - cpu_before) / rows * 1e6)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
