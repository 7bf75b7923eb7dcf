"""The segments of a member's log that are final, and whether a file is one of them, to its last bit (R4).

A segment is settled once it is sealed here and committed to its last entry. That a peer has a file of that
name, whole and sealed, does not make it the same: one that led keeps the segment that it had sealed with an
end that was never committed. But frames are a chain: the point where a segment ends names every frame in
it, and the segment behind it says that point. Repair, scrub and archive ask here.
"""

from __future__ import annotations

import posixpath

from neumann.env import Disk, Lane
from neumann.errors import Corrupt
from neumann.format import names
from neumann.format.ids import LogPoint
from neumann.raft import Raft
from neumann.wal import Log
from neumann.wal.front import end_before
from neumann.wal.verify import SegmentSummary, verify_segment


class Settled:
    """One member's. Its methods change nothing; all may be called on another thread. `lane` is the log's,
    in which alone its files are changed."""

    def __init__(self, disk: Disk, wal: Log, raft: Raft, lane: Lane) -> None:
        self.lane = lane
        self._disk = disk
        self._wal = wal
        self._raft = raft

    def is_settled(self, name: str) -> bool:
        """Whether it is a segment of this log, sealed, committed to its last entry, and not dropped."""
        first_index = self._first_index(name)
        if first_index is None or self._wal.has_dropped(first_index):
            return False
        following = next((s.first_index for s in self._wal.segments() if s.first_index > first_index), None)
        return following is not None and following - 1 <= min(
            self._raft.commit_index, self._raft.durable_index
        )

    def was_dropped(self, name: str) -> bool:
        """Whether it is a segment that this log has dropped; it may not be unlinked yet."""
        first_index = self._first_index(name)
        return first_index is not None and self._wal.has_dropped(first_index)

    def _first_index(self, name: str) -> int | None:
        """By its name; None if it is no segment of this log's timeline."""
        parsed = names.parse_segment(name)
        return parsed[1] if parsed is not None and parsed[0] == self._wal.timeline else None

    def end(self, name: str) -> LogPoint | None:
        """Where a settled segment ends; None while nothing says it: the file behind it is damaged too, and
        both lie before the log's base. Reads that file's header then; call it in a lane."""
        parsed, wal = names.parse_segment(name), self._wal
        assert parsed is not None, name
        oldest = wal.oldest()
        if parsed[1] >= oldest.first_index:
            return wal.sealed_end(parsed[1])
        return end_before(self._disk, posixpath.dirname(oldest.path), wal.timeline, oldest, parsed[1])

    def read(self, name: str, path: str) -> SegmentSummary:
        """Read the file at `path`, each byte of it. Corrupt, with the path, unless it is the settled segment
        `name`, as far as `end` is known."""
        try:
            return self._read(name, path)
        except Corrupt as error:
            raise Corrupt(error.message, detail=error.detail | {"path": path}) from error

    def _read(self, name: str, path: str) -> SegmentSummary:
        summary, wal, end = verify_segment(self._disk, path), self._wal, self.end(name)
        if not summary.sealed:
            raise Corrupt(f"{path}: it ends at entry {summary.end.index} without its seal")
        cluster_id, timeline, first_index, *_ = summary.header
        of_this_log = (cluster_id, timeline) == (wal.cluster_id, wal.timeline)
        if not of_this_log or names.segment_name(timeline, first_index) != name:
            raise Corrupt(f"{path}: is another segment than {name}")
        if end is not None and end != summary.end:
            raise Corrupt(
                f"{path}: its entries are not those that were committed: it ends at (index, term, chain "
                f"value) {tuple(summary.end)}, and the log goes on behind {tuple(end)}"
            )
        return summary
