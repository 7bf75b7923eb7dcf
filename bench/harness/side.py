"""One side of a comparison: a running cluster of three nodes that a load can be put on."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from bench.harness import load as generator
from bench.harness.load import Figures, Load
from bench.harness.stage import Stage


class Side(Protocol):
    """Starts in `with`, stops at its end."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def fill(self, load: Load) -> None:
        """Put each key once."""

    def drive(self, load: Load, stage: Stage, seed: int) -> Figures:
        """One round."""

    def cpu_seconds(self) -> float:
        """Of all nodes since they started."""


class Kind(Protocol):
    """A class of sides: made for a stage, with its data below `root`. Missing where it isn't installed."""

    name: str

    def __call__(self, stage: Stage, root: Path) -> Side: ...


class Server:
    """A side that the load generator reaches over the network."""

    name: str

    def target(self, load: Load) -> tuple[str, str]:
        """The load generator's -target and -endpoint for this load."""
        raise NotImplementedError

    def fill(self, load: Load) -> None:
        generator.fill(*self.target(load), load)

    def drive(self, load: Load, stage: Stage, seed: int) -> Figures:
        return generator.drive(*self.target(load), load, stage, seed)
