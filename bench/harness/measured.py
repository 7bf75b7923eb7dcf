"""A question with figures of its own, by name: how they become a ratio, JSON and lines for a person.

compare.py is for a load on two clusters; this is for everything else: one side alone at two sizes, or
our library beside another one. A round is measured whole before the next one begins, and the ratio is
the median of the rounds' ratios, because the machine's speed drifts.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.harness.stage import OURS, THEIRS

Numbers = Mapping[str, float]
"""A side's figures of one round; a name ends in its unit."""
Round = Mapping[str, Numbers]
"""Side -> its figures."""


@dataclass(frozen=True, slots=True)
class Measured:
    """`meaning` says in words what is divided by what. `peer` is "" where ours is alone."""

    name: str
    meaning: str
    rounds: tuple[Round, ...]
    ratio_of: Callable[[Round], float]
    peer: str = ""

    @property
    def ratio(self) -> float | None:
        """Median over the rounds that have all it needs; None where none has."""
        found = []
        for one in self.rounds:
            try:
                found.append(self.ratio_of(one))
            except KeyError:
                continue
        return statistics.median(found) if found else None

    def side(self, side: str) -> dict[str, float] | None:
        """Each figure's median over the rounds that have it."""
        seen = [one[side] for one in self.rounds if side in one]
        figures = {name for one in seen for name in one}
        medians = {
            name: statistics.median(one[name] for one in seen if name in one) for name in sorted(figures)
        }
        return medians or None

    def to_json(self) -> dict[str, Any]:
        """The object of `--json`; the same keys as compare.Result's."""
        return {
            "name": self.name,
            "ours": self.side(OURS),
            "peer": self.peer or None,
            "theirs": self.side(THEIRS),
            "ratio": self.ratio,
            "rounds": [{side: dict(numbers) for side, numbers in one.items()} for one in self.rounds],
        }

    def ratio_line(self) -> str:
        """The first line for a person."""
        return f"{self.name:24} {self.ratio:6.2f}x {self.meaning}" if self.ratio is not None else self.name

    def lines(self) -> list[str]:
        """A line for each figure and side."""
        found = []
        for side, who in ((OURS, "neumann"), (THEIRS, self.peer)):
            for name, value in (self.side(side) or {}).items():
                found.append(f"{self.name:24} {who:20} {name:32} {number_text(value):>14}")
        return found


def number_text(value: float) -> str:
    """Four digits that count, or all of a large number."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def rate_ratio(figure: str, theirs: str = "") -> Callable[[Round], float]:
    """Ours over theirs, of a figure of which more is better."""
    return lambda one: one[OURS][figure] / one[THEIRS][theirs or figure]


def growth(large: str, small: str) -> Callable[[Round], float]:
    """Of a flat cost: ours at the large size over ours at the small one."""
    return lambda one: one[OURS][large] / one[OURS][small]


def progress(line: str) -> None:
    """To standard error, while it is measured."""
    print(line, file=sys.stderr, flush=True)


def tell(name: str, number: int, rounds: int, one: Round) -> None:
    """A line on a round that has ended."""
    sides = "; ".join(
        ", ".join(f"{figure} {number_text(value)}" for figure, value in numbers.items())
        for numbers in one.values()
    )
    progress(f"{name}: round {number}/{rounds} {sides}")
