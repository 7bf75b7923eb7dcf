"""Numbers that a node counts about itself, once a batch and never once an entry.

Plain integers and fixed buckets; server/metrics.py gives them their exported names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from neumann.runtime.usage import Usage

SECONDS_BOUNDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)


class Histogram:
    """Counts of observations up to each bound in seconds; the last bucket has no bound."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(SECONDS_BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count `times` observations of the same value."""
        self.buckets[bisect_left(SECONDS_BOUNDS, seconds)] += times
        self.total += seconds * times

    def observe_ns(self, nanoseconds: int, times: int = 1) -> None:
        """The same for a difference of two monotonic clocks."""
        self.observe(nanoseconds / 1e9, times)


class Metrics:
    """One node's counters; they live as long as the process."""

    def __init__(self) -> None:
        self.put_seconds = Histogram()
        self.get_seconds = Histogram()
        self.stale_get_seconds = Histogram()
        self.fsync_seconds = Histogram()
        self.apply_seconds = Histogram()
        self.snapshot_seconds = Histogram()
        self.compaction_seconds = Histogram()
        self.loop_stall_seconds = Histogram()
        self.proposals: dict[str, int] = {"ok": 0, "refused": 0, "unknown": 0}
        self.leader_changes = 0
        self.snapshot_failures = 0
        self.snapshot_files_missing = 0
        self.compaction_written_bytes = 0
        self.usage = Usage(0, 0, 0)
        self.snapshot_last_success_ns = 0
        self.divergence = 0
        self.scrub_last_success_ns = 0
        self.corruption: Counter[tuple[str, str]] = Counter()
        self.rejected_peers: dict[str, int] = {}
        self.rejected_last_ns: dict[str, int] = {}
        """Monotonic, by reason."""

    def damaged(self, kind: str, outcome: str) -> None:
        """Count damage that was found: in which kind of file, and what became of it."""
        self.corruption[kind, outcome] += 1

    def merged(self, seconds: float, written_bytes: int) -> None:
        """Count a merge that has ended."""
        self.compaction_seconds.observe(seconds)
        self.compaction_written_bytes += written_bytes

    def reject_peer(self, reason: str, now_ns: int) -> None:
        """Count a message that was refused: of another cluster, timeline, or storage id."""
        self.rejected_last_ns[reason] = now_ns
        self.rejected_peers[reason] = self.rejected_peers.get(reason, 0) + 1
