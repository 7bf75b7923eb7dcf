"""What a leader knows of one other member: how far it matches, and how much is on the way to it.

    PROBE      where the logs agree is not known: one message without frames asks, again at each
               heartbeat; nothing else is sent
    REPLICATE  frames are sent ahead of their answers, up to the flow limits
    SNAPSHOT   what it needs next was dropped from the leader's log: it is offered a snapshot

Who answers may be another storage than the one that the configuration names: a member that came back
with an empty disk. It is served like a learner beside the voter that it shall replace, and `counts` is
False: what it has is part of no majority (design section 6).

Invariants: match_index < next_index; both only stand at frame ends; match_index falls only when another
incarnation answers, because only a restart can lose what was durable (design section 4, floor), or when
the one that answered is about to give its state up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from enum import Enum

from neumann.format.ids import Incarnation


class Mode(Enum):
    """How a member is served."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One other member, seen from the leader. `in_flight` holds (last_index, frames, bytes)."""

    __slots__ = (
        "_retired",
        "bytes_in_flight",
        "commit_told",
        "counts",
        "frames_in_flight",
        "in_flight",
        "incarnation",
        "match_index",
        "mode",
        "named",
        "next_index",
        "probe_due",
        "round_answered",
    )

    def __init__(self, next_index: int, named: bytes) -> None:
        self.named = named
        self.counts = True
        self.incarnation: Incarnation | None = None
        self._retired: set[Incarnation] = set()
        self.match_index = 0
        self.next_index = next_index
        self.round_answered = 0
        self.commit_told = 0
        self.in_flight: deque[tuple[int, int, int]] = deque()
        self.probe(next_index)

    def probe(self, next_index: int) -> None:
        """Ask at once whether it has what lies before `next_index`."""
        assert next_index > self.match_index
        self.mode = Mode.PROBE
        self.next_index = next_index
        self.probe_due = True
        self._clear_flight()

    def offer_snapshot(self) -> None:
        """The log that it needs is gone here."""
        if self.mode is not Mode.SNAPSHOT:
            self.mode = Mode.SNAPSHOT
            self.probe_due = True
            self._clear_flight()

    def sent(self, last_index: int, frame_count: int, run_bytes: int) -> None:
        """Frames up to `last_index` are on the way; the next run starts behind them."""
        assert self.mode is Mode.REPLICATE and last_index >= self.next_index
        self.in_flight.append((last_index, frame_count, run_bytes))
        self.frames_in_flight += frame_count
        self.bytes_in_flight += run_bytes
        self.next_index = last_index + 1

    def matched(self, index: int) -> bool:
        """It is durable there up to `index`. True if that is more than was known."""
        while self.in_flight and self.in_flight[0][0] <= index:
            _, frame_count, run_bytes = self.in_flight.popleft()
            self.frames_in_flight -= frame_count
            self.bytes_in_flight -= run_bytes
        if self.mode is not Mode.REPLICATE:
            self.mode = Mode.REPLICATE
            self.next_index = max(self.match_index, index) + 1
        elif self.next_index <= index:
            self.next_index = index + 1
        if index <= self.match_index:
            return False
        self.match_index = index
        return True

    def name(self, storage_id: bytes) -> None:
        """The storage id that the configuration names; what another one answered does not count."""
        self.named = storage_id
        self.counts = self.incarnation is None or self.incarnation.storage_id == storage_id

    def meet(self, incarnation: Incarnation, next_index: int) -> bool:
        """An answer came from this incarnation; forget the match of an earlier one. False if the
        answer itself is from one that a later one has already replaced, heard of before or not."""
        known = self.incarnation
        if incarnation == known:
            return True
        is_earlier = known is not None and known.storage_id == incarnation.storage_id and known > incarnation
        if is_earlier or incarnation in self._retired:
            return False
        if self.incarnation is not None:
            self.forget(next_index)
        self.incarnation = incarnation
        self.counts = incarnation.storage_id == self.named
        return True

    def forget(self, next_index: int) -> None:
        """Nothing that was answered so far counts any more; another incarnation may answer."""
        if self.incarnation is not None:
            self._retired.add(self.incarnation)
            self.incarnation = None
        self.counts = True
        self.match_index = self.round_answered = self.commit_told = 0
        self.probe(next_index)

    def _clear_flight(self) -> None:
        self.in_flight.clear()
        self.frames_in_flight = 0
        self.bytes_in_flight = 0


def heir(progress: Mapping[str, Progress], voters: Collection[str]) -> str:
    """Who shall lead next: the voter that has most of the log, and of equals the one that answered last, as
    in an idle cluster another may have died long ago. "" if there is none."""
    heirs = {voter: progress[voter] for voter in voters if voter in progress and progress[voter].counts}
    return max(heirs, key=lambda v: (heirs[v].match_index, heirs[v].round_answered), default="")
