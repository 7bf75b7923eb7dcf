"""An archiver at work on real files with real commands; only the log that it proposes to is made up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from neumann.archive.archiver import Archiver, Brought, Settings
from neumann.env import Env
from neumann.env.disk import RealDisk
from neumann.errors import Unavailable
from neumann.format import names
from neumann.format.history import History
from neumann.format.manifest import Archiving
from neumann.format.names import Paths
from neumann.format.special import Archived, Break
from neumann.recovery.formation import empty_base
from neumann.wal.segment import SegmentInfo
from tests.recovery.world import Cluster

HISTORY = empty_base("n1", "h:1", b"s" * 16, 1, b"c" * 16, 7, 1024).history
HISTORY_NAME = names.history_name(HISTORY.timeline)


class Log:
    """archiver.ArchivedLog over a few files: what is proposed is applied at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "raft").mkdir()
        self.state = Archiving()
        self.proposed: list[int] = []
        self.breaks: list[Break] = []
        self.segments: list[SegmentInfo] = []
        self.first = 1
        self.refuse = 0
        self.snapshots = 0
        self.asked: list[tuple[int, int]] = []
        self.peers: Callable[[int, int], Brought] = lambda first, last: Brought(silent=("n2",))

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            first = self.segments[-1].last_index + 1 if self.segments else self.first
            name = names.segment_name(HISTORY.timeline, first)
            path = self.root / "raft" / name
            path.write_bytes(f"entries {first}".encode())
            info = SegmentInfo(name, str(path), first, first + 9, first, first + 9, path.stat().st_size, True)
            self.segments.append(info)

    def archiving(self) -> Archiving:
        return self.state

    def history(self) -> History:
        return HISTORY

    def first_retained_index(self) -> int:
        return self.first

    async def make_whole(self, path: str) -> bool:
        """These never rot."""
        return True

    def sealed_segments(self, after_index: int) -> list[SegmentInfo]:
        return [s for s in self.segments if s.last_index > after_index]

    def client_age_ns(self, after_index: int) -> int:
        times = [s.first_time_ns for s in self.sealed_segments(after_index)]
        return time.time_ns() - min(times) if times else 0

    def client_entries(self, after_index: int) -> int:
        return sum(s.last_index - s.first_index + 1 for s in self.sealed_segments(after_index))

    async def bring(self, first_index: int, last_index: int) -> Brought:
        self.asked.append((first_index, last_index))
        return self.peers(first_index, last_index)

    def force_snapshot(self) -> None:
        self.snapshots += 1

    def propose(self, special: Archived | Break) -> Awaitable[int]:
        return self._propose(special)

    async def _propose(self, special: Archived | Break) -> int:
        await asyncio.sleep(0)
        if self.refuse:
            self.refuse -= 1
            raise Unavailable("no leader")
        if isinstance(special, Break):
            self.breaks.append(special)
            self.state = self.state._replace(through=max(special.last, self.state.through))
        else:
            self.proposed.append(special.through)
            self.state = Archiving(True, max(special.through, self.state.through))
        return len(self.proposed)


class RealLog(Log):
    """The same with the segments of a real log, which wal-push and a restore can read."""

    def __init__(self, root: Path) -> None:
        self.cluster = Cluster.fresh(RealDisk(), str(root), 1, archive=str(root / "cluster-archive"))
        super().__init__(root)

    def add(self, count: int = 1, value_bytes: int = 50) -> None:
        for _ in range(count):
            self.cluster.put(f"k{len(self.segments)}", "x" * value_bytes)
            self.cluster.seal()
        self.segments = [s for s in self.cluster.log.segments() if s.sealed]

    def history(self) -> History:
        return self.cluster.manifest.history


class World:
    """A node's directory, an archive, and an archiver over both."""

    def __init__(self, root: Path, env: Env, log: Log) -> None:
        self.archive = root / "archive"
        self.archive.mkdir()
        self.root = root
        self.log = log
        self.settings = Settings(f"cp %p {self.archive}/%f", 20.0)
        self.archiver = Archiver(env, Paths(str(root)), self.log, lambda: self.settings)

    def archived(self) -> list[str]:
        return sorted(path.name for path in self.archive.iterdir())

    def names(self) -> list[str]:
        return [names.history_name(self.log.history().timeline), *(s.name for s in self.log.segments)]

    @contextlib.asynccontextmanager
    async def leading(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.archiver.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)
