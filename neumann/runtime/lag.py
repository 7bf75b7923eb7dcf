"""What client entries are not archived yet: how old the oldest is, and how many they are.

Also where the log has a declared break, which only a special entry's header tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from neumann.format.frame import FrameHeader, Kind
from neumann.wal import SegmentInfo

_SAMPLE_NS = 200_000_000
_SAMPLES_MAX = 100_000


@dataclass(slots=True)
class _Sample:
    """Client entries of 0.2 s: the time of their first frame, when it was applied here (monotonic; 0 is
    before this start), and the last of them."""

    time_ns: int
    seen_ns: int
    through: int


class LagSamples:
    """When client entries were written, one sample each 0.2 s: enough to tell a lag in seconds. Their
    number is kept at special entries, of which one ends each segment: exact where an archive can end.

    A long outage is remembered from its begin: when there are too many, every second one goes.

    Log time runs ahead of a wall clock that was set back, so an age by it alone would be 0 for as long:
    an entry is at least as old as this node has had it.
    """

    def __init__(self) -> None:
        self.break_index = 0
        self.archived_time_ns = 0
        self._samples: deque[_Sample] = deque()
        self._entries = 0
        self._entries_at: deque[tuple[int, int]] = deque()

    def note(self, header: FrameHeader, seen_ns: int = 0) -> None:
        """A frame was applied, by a monotonic clock at `seen_ns`, or found at start."""
        if header.kind is Kind.DATA:
            samples = self._samples
            self._entries += header.last_index - header.first_index + 1
            newest = samples[-1] if samples else None
            if newest is None or max(header.time_ns - newest.time_ns, seen_ns - newest.seen_ns) >= _SAMPLE_NS:
                if len(samples) >= _SAMPLES_MAX:
                    self._thin_samples()
                self._samples.append(_Sample(header.time_ns, seen_ns, header.last_index))
            else:
                newest.through = header.last_index
            return
        if header.kind is Kind.BREAK:
            self.break_index = header.first_index
        if not self._entries_at or self._entries_at[-1][1] != self._entries:
            if len(self._entries_at) >= _SAMPLES_MAX:
                self._entries_at = deque(islice(self._entries_at, 0, None, 2))
            self._entries_at.append((header.last_index, self._entries))

    def _thin_samples(self) -> None:
        """Each takes the entries of its follower, which goes."""
        samples = list(self._samples)
        for sample, follower in zip(samples[::2], samples[1::2], strict=False):
            sample.through = follower.through
        self._samples = deque(samples[::2])

    def archived(self, segments: Sequence[SegmentInfo], through: int) -> None:
        """Everything through there is archived: up to when that is, as far as the log still tells."""
        for segment in segments:
            if segment.last_index == through:
                self.archived_time_ns = segment.last_time_ns

    def age_behind_ns(self, index: int, wall_ns: int, monotonic_ns: int) -> int:
        """Age of the oldest client entry behind `index`; 0 if there is none. Forgets those before."""
        samples = self._samples
        while samples and samples[0].through <= index:
            samples.popleft()
        if not samples:
            return 0
        oldest = samples[0]
        oldest.seen_ns = oldest.seen_ns or monotonic_ns
        return max(wall_ns - oldest.time_ns, monotonic_ns - oldest.seen_ns)

    def entries_behind(self, index: int) -> int:
        """How many client entries lie behind `index`, an end of a segment. Forgets what is before."""
        known = self._entries_at
        while len(known) > 1 and known[1][0] <= index:
            known.popleft()
        return self._entries - (known[0][1] if known and known[0][0] <= index else 0)
