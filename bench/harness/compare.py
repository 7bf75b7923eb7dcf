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
from bench.harness.load import Figures, Load, Missing
from bench.harness.neumann import Neumann
from bench.harness.side import Kind, Side
from bench.harness.stage import OURS, THEIRS, Stage

_RATE = "rate"  # more is better; every other figure is a time


@dataclass(frozen=True, slots=True)
class Result:
    """`figure` is the field of Figures that the ratio compares."""

    name: str
    figure: str
    peer: str
    rounds: tuple[dict[str, Figures], ...]

    @property
    def is_latency(self) -> bool:
        return self.figure != _RATE

    @property
    def ratio(self) -> float | None:
        """How many times better ours is, median over the pairs; None where one side was not measured.

        A rate is ours over theirs, a latency theirs over ours.
        """
        over, under = (THEIRS, OURS) if self.is_latency else (OURS, THEIRS)
        factors: list[float] = [
            getattr(one[over], self.figure) / getattr(one[under], self.figure)
            for one in self.rounds
            if one.keys() == {OURS, THEIRS}
        ]
        return statistics.median(factors) if factors else None

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
            "ours": asdict(ours) if ours else None,
            "peer": self.peer,
            "theirs": asdict(theirs) if theirs else None,
            "ratio": self.ratio,
            "rounds": [{side: asdict(figures) for side, figures in one.items()} for one in self.rounds],
        }

    def ratio_line(self) -> str:
        """How many times as good as the peer, and of a latency also how much of the peer's it is."""
        if self.ratio is None:
            return self.name
        line = f"{self.name:24} {self.ratio:6.2f}x against {self.peer}, {self.figure}"
        return f"{line} ({1 / self.ratio:.2f} of its)" if self.is_latency else line

    def lines(self) -> list[str]:
        """A line for each side that was measured."""
        found = []
        for side, who in ((OURS, "neumann"), (THEIRS, self.peer)):
            seen = self.side(side)
            if seen is not None:
                found.append(
                    f"{self.name:24} {who:20} {seen.rate:,.0f} rows/s, p50 {seen.p50_ms:.2f} p99"
                    f" {seen.p99_ms:.2f} max {seen.max_ms:.1f} ms, {seen.cpu_us:.1f} us of CPU a row"
                )
        return found


def compare(stage: Stage, name: str, load: Load, figure: str = _RATE, peer: Kind = Etcd) -> Result:
    """Start both clusters, put every key once, and drive them in turn. Without the peer, ours alone."""
    generator.build()
    root = stage.root / name
    with ExitStack() as running:
        sides: dict[str, Side] = {}
        if OURS in stage.sides:
            sides[OURS] = running.enter_context(Neumann(stage, root / OURS))
        if THEIRS in stage.sides:
            try:
                sides[THEIRS] = running.enter_context(peer(stage, root / THEIRS))
            except Missing as error:
                if OURS not in sides:
                    raise
                _progress(f"{name}: ours alone: {error}")
        for side in sides.values():
            side.fill(load)
        rounds: list[dict[str, Figures]] = []
        for number in range(1, stage.rounds + 1):
            rounds.append({})
            for which, side in sides.items():
                figures = rounds[-1][which] = _drive(side, load, stage, seed=number)
                _progress(
                    f"{name}: round {number}/{stage.rounds} {side.name:12}"
                    f"{figures.rate:9,.0f}/s p50 {figures.p50_ms:.2f} p99 {figures.p99_ms:.2f} ms"
                )
    return Result(name, figure, peer.name, tuple(rounds))


def _drive(side: Side, load: Load, stage: Stage, seed: int) -> Figures:
    cpu_before = side.cpu_seconds()
    figures = side.drive(load, stage, seed)
    rows = figures.rate * (stage.warmup_s + stage.seconds)
    return replace(figures, cpu_us=(side.cpu_seconds() - cpu_before) / rows * 1e6)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
