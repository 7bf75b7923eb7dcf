"""Linearizable reads: batched ReadIndex (raft thesis 6.4), answered when the index is applied.

Reads that arrive while a round is on its way share the next one. A stale read asks nobody and says so.
Rows in no memory are read in a lane; the loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from neumann.env import Clock, Lane
from neumann.errors import NeumannError, NotLeader, StorageFailed, Unavailable
from neumann.raft import Raft
from neumann.runtime.metrics import Metrics
from neumann.runtime.sinks import Sink, Version
from neumann.store.store import COLD, Store

_Batch = list[tuple[Sink, Sequence[int], Sequence[str]]]
_Round = tuple[_Batch, list[asyncio.Future[int]], int]
_NOBODY: _Round = ([], [], 0)


class Reader:
    """Reads of one member. A barrier is a read of no row: whoever awaits it sees a fresh state."""

    def __init__(
        self,
        raft: Raft,
        store: Store,
        read_lane: Lane,
        clock: Clock,
        metrics: Metrics,
        applied_index: Callable[[], int],
        pump: Callable[[], None],
    ) -> None:
        self._raft = raft
        self._store = store
        self._read_lane = read_lane
        self._clock = clock
        self._metrics = metrics
        self._applied_index = applied_index
        self._pump = pump
        self._queue: _Batch = []
        self._barriers: list[asyncio.Future[int]] = []
        self._rounds: dict[int, _Round] = {}
        self._ready: deque[tuple[int, int]] = deque()
        self._ended: NeumannError | None = None
        self._token = 0
        self._scheduled = False

    def submit(self, sink: Sink, ids: Sequence[int], rows: Sequence[str]) -> None:
        """Read rows linearizably; each id is answered through its sink exactly once."""
        self._queue.append((sink, ids, rows))
        self._schedule()

    def submit_stale(self, sink: Sink, ids: Sequence[int], rows: Sequence[str]) -> None:
        """Read what this node has now."""
        if self._ended is not None:
            self._fail([(sink, ids, rows)], [], self._ended)
        else:
            self._serve([(sink, ids, rows)])

    def barrier(self) -> asyncio.Future[int]:
        """A future of an index at which this node's state is linearizable."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._barriers.append(future)
        self._schedule()
        return future

    def confirmed(self, reads: Sequence[tuple[int, int]]) -> None:
        """These tokens may be served once their index is applied."""
        if self._ended is not None:
            return
        self._ready.extend(reads)
        self.applied(self._applied_index())

    def applied(self, index: int) -> None:
        """Serve what waited for this index."""
        while self._ready and self._ready[0][1] <= index:
            token, _ = self._ready.popleft()
            batch, barriers, started_ns = self._rounds.pop(token)
            for future in barriers:
                if not future.done():
                    future.set_result(index)
            count = sum(len(ids) for _, ids, _ in batch)
            self._metrics.get_seconds.observe_ns(self._clock.monotonic_ns() - started_ns, count)
            self._serve(batch)
        if self._queue or self._barriers:
            self._schedule()

    def lost(self, tokens: Sequence[int]) -> None:
        """These can't be confirmed: the leadership ended."""
        error = Unavailable("leadership was lost during this read", remedy="try again")
        for token in tokens:
            batch, barriers, _ = self._rounds.pop(token, _NOBODY)
            self._fail(batch, barriers, error)
        if self._queue or self._barriers:
            self._schedule()

    def stop(self, error: NeumannError) -> None:
        """The member stops: everything outstanding, and whatever comes later, ends in this error."""
        self._ended = error
        for token in list(self._rounds):
            batch, barriers, _ = self._rounds.pop(token)
            self._fail(batch, barriers, error)
        self._ready.clear()
        self._fail(self._queue, self._barriers, error)
        self._queue, self._barriers = [], []

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if not self._queue and not self._barriers:
            return
        if self._ended is not None or self._raft.role != "leader":
            error = self._ended or NotLeader(
                "this node is not the leader", detail={"leader": self._raft.leader}
            )
            batch, barriers = self._queue, self._barriers
            self._queue, self._barriers = [], []
            self._fail(batch, barriers, error)
            return
        if self._rounds:
            return
        self._token += 1
        started_ns = self._clock.monotonic_ns()
        self._rounds[self._token] = (self._queue, self._barriers, started_ns)
        self._queue, self._barriers = [], []
        self._raft.read_index(self._token)
        self._pump()

    def _fail(self, batch: _Batch, barriers: list[asyncio.Future[int]], error: NeumannError) -> None:
        for sink, ids, _ in batch:
            sink.failed(ids, error)
            sink.flush()
        for future in barriers:
            if not future.done():
                future.set_exception(error)

    def _serve(self, batch: _Batch) -> None:
        peek = self._store.peek
        touched: dict[Sink, None] = {}
        for sink, ids, rows in batch:
            found = [peek(row) for row in rows]
            if COLD in found:
                self._serve_cold(sink, ids, rows)
            else:
                sink.got(ids, cast("list[Version | None]", found))
                touched[sink] = None
        for sink in touched:
            sink.flush()

    def _serve_cold(self, sink: Sink, ids: Sequence[int], rows: Sequence[str]) -> None:

        def done(found: Any, error: BaseException | None) -> None:
            if error is None:
                sink.got(ids, found)
            elif isinstance(error, NeumannError):
                sink.failed(ids, error)
            else:
                sink.failed(ids, StorageFailed(f"this row can't be read: {error}"))
            sink.flush()

        self._read_lane.submit(lambda: [self._store.get(row) for row in rows], done)
