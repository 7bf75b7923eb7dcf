"""R6: only committed entries leave the machine, and the archive is a gap-free continuation of the log."""

from __future__ import annotations

import posixpath

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.errors import Corrupt
from neumann.format import frame, names, segment, special
from neumann.format.special import Archived
from tests.sim.checkers.committed import Committed
from tests.sim.checkers.violation import require


class Archive:
    """One timeline's part of the archive; fed with the directory from time to time.

    `is_closed`: the cluster was restored since, and nobody archives of that timeline any more.
    """

    def __init__(self, committed: Committed, timeline_counter: int = 1) -> None:
        self.last = committed.base
        self.segments = 0
        self.is_closed = False
        self._timeline_counter = timeline_counter
        self._committed = committed
        self._frames_seen = 0
        self._through = 0
        self._contents: dict[str, bytes] = {}

    def look(self, disk: Disk, directory: str) -> None:
        """Check what came since the last look; what was there must be as it was."""
        for done in self._committed.frames[self._frames_seen :]:
            entry = special.decode(done) if done.header.kind is frame.Kind.ARCHIVED else None
            if isinstance(entry, Archived):
                self._through = max(self._through, entry.through)
        self._frames_seen = len(self._committed.frames)
        found = disk.list(directory)
        for name in found:
            parsed = names.parse_segment(name)
            if parsed is None or parsed[0].counter != self._timeline_counter:
                continue
            is_known = parsed[0].counter == 1 or names.history_name(parsed[0]) in found
            require(is_known, f"{name} is archived before the history of its timeline")
            data = read_file(disk, posixpath.join(directory, name))
            known = self._contents.get(name)
            if known is None and parsed[1] > self._through and is_damaged(data, name):
                continue  # its source rotted while it was copied; it is copied again before it counts
            if known is None:
                require(not self.is_closed, f"{name} is archived after the restore that left its timeline")
                self._check(name, data)
                self._contents[name] = data
            require(known in (None, data), f"the archive's {name} has changed")
        require(
            self._through <= self.last.index,
            f"the log says archived through {self._through}; the archive ends at {self.last.index}",
        )

    def _check(self, name: str, data: bytes) -> None:
        header = segment.decode_header(data, name)
        run = frame.decode_run(data[segment.SEGMENT_HEADER_BYTES :])
        require(bool(run), f"{name} is archived without an entry")
        follows = header.first_index == self.last.index + 1
        require(follows, f"the archive ends at {self.last.index} and goes on with {name}")
        if self.segments:
            require(header.previous == self.last, f"{name} does not continue the archive's chain")
        for one in run:
            end = one.header.end
            require(self._committed.has(end), f"{name} holds {end}, which is not committed")
        self.last = run[-1].header.end
        self.segments += 1


def is_damaged(data: bytes, name: str) -> bool:
    """Whether these bytes of a segment are none that a node sealed."""
    try:
        segment.decode_header(data, name)
        frame.decode_run(data[segment.SEGMENT_HEADER_BYTES :])
    except Corrupt:
        return True
    return False
