"""Finds frames by index in the segments of a log: pure lookups in the columns that are in memory.

`segments` follow one another, oldest first, and there is one at least. Another thread may ask: who changes a
log makes another list of segments, and only adds to the columns of the last one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from neumann.errors import Unavailable
from neumann.format.ids import LogPoint
from neumann.wal.segment import Segment

Segments = Sequence[Segment]


class Run(NamedTuple):
    """Frames of one segment: number `low` up to, and without, `high`."""

    segment: Segment
    low: int
    high: int

    @property
    def piece(self) -> tuple[str, int, int]:
        """(path, offset, length) of their bytes."""
        begin = self.segment.offset(self.low)
        return self.segment.path, begin, self.segment.offset(self.high) - begin


def number_of(segments: Segments, index: int) -> int:
    """Of the segment that holds, or will hold, `index`; 0 for what lies below."""
    if index >= segments[-1].first_index:
        return len(segments) - 1
    return max(0, bisect_right(segments, index, key=lambda segment: segment.first_index) - 1)


def end_at(segments: Segments, index: int) -> LogPoint | None:
    """The frame end at `index`, the base too; None inside a frame or outside the log."""
    segment = segments[number_of(segments, index)]
    point = segment.point(segment.count_through(index))
    return point if point.index == index else None


def point_before(segments: Segments, index: int) -> LogPoint:
    """The end of the last frame before the one that holds `index`."""
    segment = segments[number_of(segments, index)]
    return segment.point(segment.count_before(index))


def sealed_end(segments: Segments, first_index: int) -> LogPoint | None:
    """Where the segment that begins at `first_index` ends, and the next one goes on; None for the last one
    and for what is not there."""
    for segment, following in pairwise(segments):
        if segment.first_index == first_index:
            return following.previous
    return None


def runs(segments: Segments, after_index: int, last_index: int) -> list[Run]:
    """The frames in (after_index, last_index], which are two frame ends, by segment. Unavailable if they are
    not there (any more)."""
    assert after_index < last_index, "an empty range"
    found = []
    reached = after_index
    for segment in segments[number_of(segments, after_index + 1) :]:
        low, high = segment.count_through(after_index), segment.count_through(last_index)
        if segment.point(low).index != reached:
            break
        if low < high:
            found.append(Run(segment, low, high))
            reached = segment.lasts[high - 1]
        if reached == last_index:
            return found
    raise Unavailable(f"entries {after_index + 1}..{last_index} are not whole frames of the log")
