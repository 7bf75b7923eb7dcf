"""Makes things durable in the order of the core: vote, truncation, frames, then the answers.

One lane writes: the vote in both slots, then the log, one fdatasync for all that queued while it wrote
the batch before (group commit). Only when that is done are the answers that promise it sent, in the order
in which they were staged, and then `on_durable` tells. Before a truncation the sync mark is lowered
(R16). A failed write is final (R9); a disk without room for the next segment is waited for, and
meanwhile nothing is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from neumann.env import Clock, Lane
from neumann.errors import DiskFull
from neumann.format.ids import Candidate
from neumann.format.message import Message
from neumann.format.state import SyncMark, Vote
from neumann.runtime.marks import MarkKeeper
from neumann.runtime.metrics import Metrics
from neumann.wal import Log, Synced, TwoSlotFile, WriteBatch

_ROOM_LOOK_S = 1.0
Addressed = tuple[str, Message]


class Durability:
    """One member's writes. `floor` is the core's, written with the next vote; it is lifted by what is
    durable, so it may stay too high on the disk and never too low. `send(node_id, message)` is called
    with answers whose promise holds now; `on_durable(synced, vote, truncations)` with what a crash would keep
    from here on, and the core's count of `truncations` as of what was written last."""

    def __init__(
        self,
        lane: Lane,
        wal: Log,
        vote: Vote,
        vote_file: TwoSlotFile[Vote],
        marks: MarkKeeper,
        clock: Clock,
        metrics: Metrics,
        *,
        floor: Callable[[], tuple[int, int]],
        send: Callable[[str, Message], None],
        on_durable: Callable[[Synced | None, tuple[int, Candidate] | None, int], None],
        on_full: Callable[[DiskFull], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.vote = vote
        self._lane = lane
        self._wal = wal
        self._vote_file = vote_file
        self._marks = marks
        self._clock = clock
        self._metrics = metrics
        self._floor = floor
        self._send = send
        self._on_durable = on_durable
        self._on_full = on_full
        self._on_failure = on_failure
        self._vote_staged: tuple[int, Candidate] | None = None
        self._after_sync: list[Addressed] = []
        self._truncations = 0
        self._writing = False
        self._began_ns = 0
        self._stopped = False

    def stage(
        self, vote: tuple[int, Candidate] | None, after_sync: Sequence[Addressed], truncations: int
    ) -> None:
        """A vote to write, and answers for when it and the log staged so far are durable; the core's count of
        `truncations` behind that log."""
        if vote is not None:
            self._vote_staged = vote
        self._after_sync.extend(after_sync)
        self._truncations = truncations

    def write(self) -> None:
        """Give the lane everything that queued while it wrote the batch before."""
        if self._writing or self._stopped:
            return
        batch, vote, after = self._wal.take_batch(), self._vote_staged, self._after_sync
        truncations = self._truncations
        self._vote_staged, self._after_sync = None, []
        if batch is None and vote is None:
            self._release(after)
            return
        self._writing = True
        self._began_ns = self._clock.monotonic_ns()
        if batch is not None and batch.lower_to is not None:
            place = batch.lower_to
            lowered = SyncMark(place.segment_first, place.offset, *place.point, 0, 0)

            def then(error: BaseException | None) -> None:
                if error is None:
                    self._write_batch(batch, vote, after, truncations)
                else:
                    self._writing = False

            self._marks.lower(lowered, then)
        else:
            self._write_batch(batch, vote, after, truncations)

    @property
    def batch(self) -> int | None:
        """What the disk has now: another number for each batch; None while it has none."""
        return self._began_ns if self._writing else None

    async def stop(self) -> None:
        """Take nothing more; the batch in the lane is finished."""
        self._stopped = True
        while self._writing:
            await asyncio.sleep(0.001)

    def _write_batch(
        self,
        batch: WriteBatch | None,
        vote: tuple[int, Candidate] | None,
        after: list[Addressed],
        truncations: int,
    ) -> None:
        floor = self._floor()

        def work() -> Synced | None:
            if vote is not None:
                self.vote = self.vote._replace(
                    term=vote[0],
                    voted_for=vote[1].node_id,
                    voted_storage=vote[1].storage_id,
                    floor_term=floor[0],
                    floor_index=floor[1],
                )
                self._vote_file.write(self.vote)
            return batch.run() if batch is not None else None

        def done(synced: Any, error: BaseException | None) -> None:
            if isinstance(error, DiskFull) and not self._stopped:
                self._on_full(error)
                asyncio.get_running_loop().call_later(_ROOM_LOOK_S, self._lane.submit, work, done)
                return
            self._writing = False
            if error is not None:
                self._on_failure(error)
            elif not self._stopped:
                self._metrics.fsync_seconds.observe_ns(self._clock.monotonic_ns() - self._began_ns)
                if synced is not None:
                    self._marks.synced(synced.segment_first, synced.offset, *synced.point)
                # Before the core hears: it may answer again at once, and answers keep their order.
                self._release(after)
                self._on_durable(synced, vote, truncations)
                self.write()
                if self._wal.batch_behind_full() is not None:
                    asyncio.get_running_loop().call_later(_ROOM_LOOK_S, self._go_on)

        self._lane.submit(work, done)

    def _go_on(self) -> None:
        """Make the segment that found no room behind a seal: nothing else may be written for long, and the
        seal counts only then."""
        batch = self._wal.batch_behind_full()
        if batch is not None and not self._writing and not self._stopped:
            self._writing = True
            self._began_ns = self._clock.monotonic_ns()
            self._write_batch(batch, None, [], self._truncations)

    def _release(self, answers: list[Addressed]) -> None:
        for node_id, message in answers:
            self._send(node_id, message)
