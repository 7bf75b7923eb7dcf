"""What client entries are not archived yet: how old the oldest is, and how many they are.

Also where the log has a declared break, which only a special entry's header tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from neumann.format.frame import FrameHeader, Kind
from neumann.wal import SegmentInfo

_SAMPLE_NS = 200_000_000
_SAMPLES_MAX = 100_000


class LagSamples:
    """When client entries were written, one sample each 0.2 s: enough to tell a lag in seconds. Their
    number is kept at special entries, of which one ends each segment: exact where an archive can end."""

    def __init__(self) -> None:
        self.break_index = 0
        self.archived_time_ns = 0
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES_MAX)
        self._entries = 0
        self._entries_at: deque[tuple[int, int]] = deque(maxlen=_SAMPLES_MAX)

    def note(self, header: FrameHeader) -> None:
        """A frame was applied, or found at start."""
        if header.kind is Kind.DATA:
            samples = self._samples
            self._entries += header.last_index - header.first_index + 1
            if not samples or header.time_ns >= samples[-1][1] + _SAMPLE_NS or header.first_index == 1:
                samples.append((header.last_index, header.time_ns))
            return
        if header.kind is Kind.BREAK:
            self.break_index = header.first_index
        if not self._entries_at or self._entries_at[-1][1] != self._entries:
            self._entries_at.append((header.last_index, self._entries))

    def archived(self, segments: Sequence[SegmentInfo], through: int) -> None:
        """Everything through there is archived: up to when that is, as far as the log still tells."""
        for segment in segments:
            if segment.last_index == through:
                self.archived_time_ns = segment.last_time_ns

    def oldest_behind(self, index: int) -> int:
        """Time of the oldest sample behind `index`; 0 if there is none. Forgets those before."""
        samples = self._samples
        while samples and samples[0][0] <= index:
            samples.popleft()
        return samples[0][1] if samples else 0

    def entries_behind(self, index: int) -> int:
        """How many client entries lie behind `index`, an end of a segment. Forgets what is before."""
        known = self._entries_at
        while len(known) > 1 and known[1][0] <= index:
            known.popleft()
        return self._entries - (known[0][1] if known and known[0][0] <= index else 0)
