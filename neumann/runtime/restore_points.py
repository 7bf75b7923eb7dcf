"""The restore points that a node's own log holds still: found by reading it, each sealed segment once.

In a lane of its own, a segment at a time: while an archive is out of reach the log grows to many GiB, and
neither wal-receive (runtime/tailing.py) nor an orderly end may wait until all of it is read.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from neumann.env import Disk, Env
from neumann.env.files import read_file
from neumann.errors import Unavailable
from neumann.format.times import time_text
from neumann.runtime.member import Member
from neumann.snapshot.segment_file import End, RestorePoint, scan
from neumann.wal import SegmentInfo

_Points = tuple[RestorePoint, ...]


class RestorePoints:
    """One of each node. It remembers those of whole segments that are committed: they never change."""

    def __init__(self, env: Env) -> None:
        self._disk = env.disk
        self._lane = env.lane("restore points")
        self._known: dict[SegmentInfo, _Points] = {}
        self._closed = False

    async def find(self, member: Member) -> dict[str, Any]:
        """The committed ones, oldest first, and where the log begins. Unavailable: the node ends."""
        segments, through = member.wal.segments(), member.raft.commit_index
        found: list[RestorePoint] = []
        for segment in segments:
            points = self._known.get(segment)
            if points is None:
                if self._closed:
                    raise Unavailable("this node is stopping", remedy="try another node")
                points, is_whole = await self._lane.run(partial(_read, self._disk, segment.path))
                if is_whole and segment.sealed and segment.last_index <= through:
                    self._known[segment] = points
            found += [point for point in points if point.index <= through]
        for dropped in self._known.keys() - set(segments):
            del self._known[dropped]
        return {
            "restore_points": [
                {"name": p.name, "index": p.index, "time": time_text(p.time_ns, 9)} for p in found
            ],
            "first_index": member.wal.base.index + 1,
        }

    def close(self) -> None:
        """The node ends; a segment that is being read is read first."""
        self._closed = True
        self._lane.close()


def _read(disk: Disk, path: str) -> tuple[_Points, bool]:
    """(those in that segment, whether it was read to its seal); none in one that was dropped meanwhile."""
    try:
        read = scan(read_file(disk, path), path, bodies=False)
    except FileNotFoundError:
        return (), False
    return read.points, read.end is End.SEALED
