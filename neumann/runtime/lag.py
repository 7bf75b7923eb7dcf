"""How old the oldest client entry is that is not archived yet."""

from __future__ import annotations

from collections import deque

from neumann.format.frame import FrameHeader, Kind

_SAMPLE_NS = 200_000_000
_SAMPLES_MAX = 100_000


class LagSamples:
    """When client entries were written, one sample each 0.2 s: enough to tell a lag in seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES_MAX)

    def note(self, header: FrameHeader) -> None:
        """A frame was applied, or found at start."""
        samples = self._samples
        if header.kind is Kind.DATA and (
            not samples or header.time_ns >= samples[-1][1] + _SAMPLE_NS or header.first_index == 1
        ):
            samples.append((header.last_index, header.time_ns))

    def oldest_behind(self, index: int) -> int:
        """Time of the oldest sample behind `index`; 0 if there is none. Forgets those before."""
        samples = self._samples
        while samples and samples[0][0] <= index:
            samples.popleft()
        return samples[0][1] if samples else 0
