"""Where a question is measured: how long, in which directory, and which sides take part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

OURS, THEIRS = "ours", "theirs"


@dataclass(frozen=True, slots=True)
class Stage:
    """Options of a run. Each question makes its own directories under `root`."""

    root: Path
    rounds: int = 3
    """Pairs of rounds, ours and theirs."""
    seconds: float = 5.0
    """Measured time of a round."""
    warmup_s: float = 1.0
    """Time before it, not counted."""
    sides: tuple[str, ...] = (OURS, THEIRS)
    profile: Path | None = None
    """Where each of our nodes leaves a cProfile of its loop; such a run's figures don't count."""
    quick: bool = False
    """Smaller stores, too, where a question is about sizes."""
    large: bool = False
    """The largest stores as well."""
