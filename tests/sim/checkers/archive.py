"""R6: only committed entries leave the machine, and the archive is a gap-free continuation of the log."""

from __future__ import annotations

import posixpath

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.format import frame, names, segment, special
from neumann.format.ids import LogPoint
from neumann.format.special import Archived
from tests.sim.checkers.committed import Committed
from tests.sim.checkers.violation import require


class Archive:
    """Fed with the archive's directory from time to time."""

    def __init__(self, committed: Committed) -> None:
        self.last = LogPoint(0, 0, 0)
        self.segments = 0
        self._committed = committed
        self._frames_seen = 0
        self._through = 0
        self._contents: dict[str, bytes] = {}

    def look(self, disk: Disk, directory: str) -> None:
        """Check what came since the last look; what was there must be as it was."""
        for name in disk.list(directory):
            if names.parse_segment(name) is None:
                continue
            data = read_file(disk, posixpath.join(directory, name))
            known = self._contents.get(name)
            if known is None:
                self._check(name, data)
                self._contents[name] = data
            require(known in (None, data), f"the archive's {name} has changed")
        for done in self._committed.frames[self._frames_seen :]:
            entry = special.decode(done) if done.header.kind is frame.Kind.ARCHIVED else None
            if isinstance(entry, Archived):
                self._through = max(self._through, entry.through)
        self._frames_seen = len(self._committed.frames)
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
