"""Our side: three `neumann` processes, through the driver of the drill."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.harness.load import Load
from bench.harness.side import Server
from bench.harness.stage import Stage
from tests.procedures.cluster import BIN, Cluster, Sections


class Neumann(Server):
    """Default settings but for `sections`. Started under a profiler where the stage asks for it."""

    name = "neumann"

    def __init__(self, stage: Stage, root: Path, sections: Sections | None = None) -> None:
        self._cluster = Cluster(root, sections=sections)
        self._profile = stage.profile

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

    def target(self, load: Load) -> tuple[str, str]:
        if load.http:
            urls = [member.admin_url for member in self._cluster.members]
            return "neumann-http", ",".join(url.removeprefix("http://") for url in urls)
        return "neumann", self._cluster.leader().address

    @property
    def contact(self) -> str:
        """What `neumann.connect` takes."""
        return self._cluster.contact

    def leader(self) -> str:
        """Its id; all members are voters again, and have a leader."""
        self._cluster.wait_voters(len(self._cluster.members))
        self._cluster.wait_serving()
        return self._cluster.leader().id

    def kill(self, node_id: str) -> None:
        """SIGKILL, without waiting for its end."""
        process = self._cluster[node_id].process
        assert process is not None
        process.send(signal.SIGKILL)

    def start(self, node_id: str) -> None:
        """Start one that was killed."""
        self._cluster[node_id].kill()
        self._cluster[node_id].start("--bootstrap", launcher=self._launcher(node_id))

    def cpu_seconds(self) -> float:
        return sum(member.process.cpu_seconds() for member in self._cluster.members if member.process)


class WithoutSnapshots(Neumann):
    """Ours as a peer: no snapshot becomes due, by entries or by bytes, in the time of a run."""

    name = "no snapshots"

    def __init__(self, stage: Stage, root: Path) -> None:
        super().__init__(stage, root, {"snapshot": {"interval_entries": 10**9, "interval_bytes": "1024GiB"}})
