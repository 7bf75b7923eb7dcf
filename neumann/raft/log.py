"""The local log as Raft sees it: where each frame ends, and nothing of what is in it.

A log is a base point (what lies before it is dropped or was never here) and the frames behind it. All
questions are answered at frame ends, because only there may logs be compared, cut or continued
(design section 4, "Frame"). Invariants:

* ends strictly grow, terms never fall, and each frame's parent is the chain value before it;
* `base` and `last` are frame ends; they are equal while the log is empty.

Append is O(1), a lookup O(log n), dropping the front is amortised O(1). Frames' bytes stay in wal/.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from neumann.format.frame import FrameHeader
from neumann.format.ids import LogPoint


class Extent(NamedTuple):
    """One local frame: its entries first..last, its term and its chain value."""

    first_index: int
    last_index: int
    term: int
    chain: int


class Run(NamedTuple):
    """Consecutive whole frames behind `prev`; `last_index == prev.index` if there are none."""

    prev: LogPoint
    last_index: int
    frame_count: int
    run_bytes: int


class FrameLog:
    """Frame ends in four parallel arrays. Position `_head` is the base, what follows are frames."""

    __slots__ = ("_chains", "_ends", "_head", "_terms", "_totals", "base", "last")

    def __init__(self, base: LogPoint) -> None:
        self.reset(base)

    def __len__(self) -> int:
        """Number of frames behind the base."""
        return len(self._ends) - self._head - 1

    def reset(self, point: LogPoint) -> None:
        """Forget everything; an empty log behind `point`."""
        self.base: LogPoint = point
        self.last: LogPoint = point
        self._head = 0
        self._ends = array("Q", (point.index,))
        self._terms = array("Q", (point.term,))
        self._chains = array("Q", (point.chain,))
        self._totals = array("Q", (0,))

    def append(self, header: FrameHeader) -> None:
        """Add the next frame."""
        last = self.last
        assert header.first_index == last.index + 1 and header.parent == last.chain
        assert header.term >= last.term
        self._ends.append(header.last_index)
        self._terms.append(header.term)
        self._chains.append(header.chain)
        self._totals.append(self._totals[-1] + header.frame_bytes)
        self.last = header.end

    def truncate_after(self, index: int) -> None:
        """Cut every frame behind `index`, which is a frame end or the base."""
        keep = self._position(index) + 1
        for column in (self._ends, self._terms, self._chains, self._totals):
            del column[keep:]
        self.last = self._point(keep - 1)

    def drop_before(self, point: LogPoint) -> None:
        """Make `point`, a frame end of this log, the new base."""
        position = self._position(point.index)
        assert self._point(position) == point
        self.base = point
        self._head = position
        if position > len(self._ends) // 2:
            for column in (self._ends, self._terms, self._chains, self._totals):
                del column[:position]
            self._head = 0

    def end_at(self, index: int) -> LogPoint | None:
        """The frame end (or base) at `index`; None inside a frame and outside the log."""
        if index == self.last.index:
            return self.last
        position = bisect_left(self._ends, index, self._head)
        if position == len(self._ends) or self._ends[position] != index:
            return None
        return self._point(position)

    def end_before(self, index: int, term: int) -> LogPoint | None:
        """The last frame end (or base) that is at or below `index` and not of a later term than
        `term`; None if even the base is beyond either."""
        ends = bisect_right(self._ends, index, self._head)
        position = min(ends, bisect_right(self._terms, term, self._head)) - 1
        return self._point(position) if position >= self._head else None

    def frame_containing(self, index: int) -> Extent:
        """The frame that holds entry `index`, which is behind the base and not behind the end."""
        assert self.base.index < index <= self.last.index
        position = bisect_left(self._ends, index, self._head)
        end = self._point(position)
        return Extent(self._ends[position - 1] + 1, *end)

    def previous_end(self, index: int) -> LogPoint:
        """The frame end (or base) directly before the frame that holds entry `index`."""
        assert self.base.index < index <= self.last.index
        return self._point(bisect_left(self._ends, index, self._head) - 1)

    def run_after(self, index: int, bytes_max: int, frames_max: int) -> Run:
        """The longest run of frames behind the frame end `index` within both limits; at least one
        frame if there is one."""
        start = self._position(index)
        newest = len(self._ends) - 1
        fits = bisect_right(self._totals, self._totals[start] + bytes_max, start) - 1
        stop = min(max(min(fits, start + frames_max), start + 1), newest)
        run_bytes = self._totals[stop] - self._totals[start]
        return Run(self._point(start), self._ends[stop], stop - start, run_bytes)

    def _position(self, index: int) -> int:
        position = bisect_left(self._ends, index, self._head)
        assert position < len(self._ends) and self._ends[position] == index, "not a frame end"
        return position

    def _point(self, position: int) -> LogPoint:
        return LogPoint(self._ends[position], self._terms[position], self._chains[position])
