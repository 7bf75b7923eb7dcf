"""Our side: three `neumann` processes with default settings, through the driver of the drill."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.procedures.cluster import BIN, Cluster


class Neumann:
    """A running cluster; stopped at the end of the `with`. `profile`: directory for cProfile files."""

    name = "neumann"

    def __init__(self, root: Path, profile: Path | None = None) -> None:
        self._cluster = Cluster(root)
        self._profile = profile

    def __enter__(self) -> Self:
        try:
            for member in self._cluster.members:
                member.start("--bootstrap", launcher=self._launcher(member.id))
            self._cluster.wait_serving()
            self._cluster.wait_voters(len(self._cluster.members))
        except BaseException:
            self._cluster.stop()
            raise
        return self

    def _launcher(self, node_id: str) -> Sequence[str | Path]:
        if self._profile is None:
            return (BIN / "neumann",)
        self._profile.mkdir(parents=True, exist_ok=True)
        return (sys.executable, "-m", "cProfile", "-o", self._profile / f"{node_id}.prof", BIN / "neumann")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.stop()

    def leader(self) -> str:
        """host:port of the leader's RPC side."""
        return self._cluster.leader().address

    def cpu_seconds(self) -> float:
        """Of all nodes since they started."""
        return sum(member.process.cpu_seconds() for member in self._cluster.members if member.process)
