"""What a log knows in memory of one segment: five columns with a row for each frame.

Rows are appended only, `lasts` after the other columns, and a truncation makes a new Segment. So a
reader on another thread that holds a Segment sees whole rows without a lock.
"""

from __future__ import annotations

import posixpath
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import NamedTuple

from neumann.format import special
from neumann.format.frame import HEADER_BYTES, Frame, FrameHeader, Kind
from neumann.format.ids import LogPoint
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.format.special import Marker


class SegmentInfo(NamedTuple):
    """A segment, for those outside the log. Without frames last_index is first_index - 1, times are 0.

    `bytes` is what its header and frames fill. `sealed`: its bytes are final and durable.
    """

    name: str
    path: str
    first_index: int
    last_index: int
    first_time_ns: int
    last_time_ns: int
    bytes: int
    sealed: bool


def is_seal(frame: Frame) -> bool:
    """True for a marker that ends its segment."""
    if frame.header.kind is not Kind.MARKER:
        return False
    marker = special.decode(frame)
    return isinstance(marker, Marker) and marker.seal


class Segment:
    """One segment: where it lies, the point it continues, and its frames' columns.

    lasts, terms, chains, times: of each frame; ends: the file offset behind it. `closed`: its last
    frame is a seal. Where the file is damaged below the newest manifest, the columns begin behind that
    manifest's point, at `start_bytes`, and may stay empty; `first_index` is always that of the file.
    """

    __slots__ = (
        "chains",
        "closed",
        "ends",
        "first_index",
        "lasts",
        "path",
        "previous",
        "start_bytes",
        "terms",
        "times",
    )

    def __init__(
        self,
        path: str,
        previous: LogPoint,
        first_index: int | None = None,
        start_bytes: int = SEGMENT_HEADER_BYTES,
    ) -> None:
        self.path = path
        self.previous = previous
        self.first_index = previous.index + 1 if first_index is None else first_index
        self.start_bytes = start_bytes
        self.closed = False
        self.lasts, self.terms, self.times, self.ends = array("Q"), array("Q"), array("Q"), array("Q")
        self.chains = array("I")

    def append(self, header: FrameHeader) -> None:
        """Add the frame that follows."""
        first, last, term, _, time_ns, parent, chain, _, _ = header
        assert not self.closed, "a frame behind the seal of its segment"
        assert first == self.last_index + 1 and parent == self.last_chain, "a frame that does not follow"
        if self.lasts:
            assert term >= self.terms[-1] and time_ns > self.times[-1], "a frame that goes back"
        self.ends.append(self.end_bytes + header.frame_bytes)
        self.terms.append(term)
        self.chains.append(chain)
        self.times.append(time_ns)
        self.lasts.append(last)

    def extend(self, headers: list[FrameHeader]) -> None:
        """Fill an empty segment with frames that were checked to follow one another."""
        assert not self.lasts
        sizes = [HEADER_BYTES + header.body_bytes for header in headers]
        self.ends = array("Q", accumulate(sizes, initial=self.start_bytes))[1:]
        self.terms = array("Q", [header.term for header in headers])
        self.chains = array("I", [header.chain for header in headers])
        self.times = array("Q", [header.time_ns for header in headers])
        self.lasts = array("Q", [header.last_index for header in headers])

    def trimmed(self, count: int) -> Segment:
        """A copy with the first `count` frames, open again where that cuts its seal."""
        copy = Segment(self.path, self.previous, self.first_index, self.start_bytes)
        copy.ends, copy.terms, copy.chains = self.ends[:count], self.terms[:count], self.chains[:count]
        copy.times, copy.lasts = self.times[:count], self.lasts[:count]
        copy.closed = self.closed and count == len(self.lasts)
        return copy

    @property
    def is_whole(self) -> bool:
        """False where the columns begin behind damage: the file is not to be copied or dropped."""
        return self.start_bytes == SEGMENT_HEADER_BYTES and self.first_index == self.previous.index + 1

    @property
    def last_index(self) -> int:
        """Of the last frame, or of the point that it continues."""
        return self.lasts[-1] if self.lasts else self.previous.index

    @property
    def last_chain(self) -> int:
        """Of the last frame, or of the point that it continues."""
        return self.chains[-1] if self.chains else self.previous.chain

    @property
    def end_bytes(self) -> int:
        """The offset behind the last frame."""
        return self.ends[-1] if self.ends else self.start_bytes

    def point(self, count: int) -> LogPoint:
        """The end of the first `count` frames."""
        if count == 0:
            return self.previous
        return LogPoint(self.lasts[count - 1], self.terms[count - 1], self.chains[count - 1])

    def offset(self, count: int) -> int:
        """The file offset behind the first `count` frames."""
        return self.ends[count - 1] if count else self.start_bytes

    def count_through(self, index: int) -> int:
        """How many frames end at or before `index`."""
        return bisect_right(self.lasts, index)

    def count_before(self, index: int) -> int:
        """How many frames end before `index`."""
        return bisect_left(self.lasts, index)

    def info(self, sealed: bool) -> SegmentInfo:
        """The same for those outside."""
        return SegmentInfo(
            posixpath.basename(self.path),
            self.path,
            self.first_index,
            self.last_index,
            self.times[0] if self.times else 0,
            self.times[-1] if self.times else 0,
            self.end_bytes,
            sealed,
        )
