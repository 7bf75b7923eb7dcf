"""Linearizable reads on any node: batched ReadIndex (raft thesis 6.4), served from the own store.

Reads that arrive while a round is on its way share the next one. On the leader a round is one of the
core's; on another node it is one question to the leader, whatever number of reads waits for it
(`ask_leader`). Either gives an index at which all of them are linearizable, and once that is applied here
they are answered. A round that fails is repeated: a read changes nothing. Only who waited LEADER_WAIT_S
for a leader hears that there is none.

A stale read asks nobody and says so. Rows in no memory are read in a lane; the loop never waits for the
disk. There is no task or future for a read, and what waits is bounded: for a round, and for the disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast

from neumann.env import Clock, Lane
from neumann.errors import BackPressure, NeumannError, NotLeader, OutcomeUnknown, Unavailable
from neumann.raft import Raft
from neumann.runtime.ending import Wholly
from neumann.runtime.metrics import Metrics
from neumann.runtime.repair import Repair, as_error
from neumann.runtime.sinks import Sink, Version
from neumann.store.store import COLD, Store

LEADER_WAIT_S = 5.0
_AGAIN_S = 0.02
_READ_BYTES = 256
"""What a read costs while it waits, besides its row's address."""


class _Run(NamedTuple):
    """Reads that one sink brought at once, and when. They count as `cost` bytes of what may wait until they
    are answered."""

    sink: Sink
    ids: Sequence[int]
    rows: Sequence[str]
    came_ns: int
    cost: int


class _Waiter(NamedTuple):
    """Somebody who awaits an index."""

    future: asyncio.Future[int]
    came_ns: int


class _Waiting:
    """What goes into one round: reads, barriers, and the questions of other nodes."""

    __slots__ = ("asks", "barriers", "runs")

    def __init__(self) -> None:
        self.runs: list[_Run] = []
        self.barriers: list[_Waiter] = []
        self.asks: list[_Waiter] = []

    def __bool__(self) -> bool:
        return bool(self.runs or self.barriers or self.asks)

    def put_before(self, later: _Waiting) -> None:
        """These have waited longer."""
        later.runs[:0] = self.runs
        later.barriers[:0] = self.barriers
        later.asks[:0] = self.asks


class Reader:
    """Reads of one member. A barrier is a read of no row: whoever awaits it sees a fresh state.

    `leads()`: this node may confirm reads itself. `ask_leader()` asks the leader for a read index;
    Unavailable or OutcomeUnknown if it tells none. `on_failure` hears of what is no NeumannError.
    """

    def __init__(
        self,
        raft: Raft,
        store: Store,
        read_lane: Lane,
        repair: Repair,
        clock: Clock,
        metrics: Metrics,
        *,
        waiting_bytes_max: int,
        applied_index: Callable[[], int],
        pump: Callable[[], None],
        leads: Callable[[], bool],
        ask_leader: Callable[[], Awaitable[int]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._raft = raft
        self._store = store
        self._read_lane = read_lane
        self._repair = repair
        self._clock = clock
        self._metrics = metrics
        self._waiting_bytes_max = waiting_bytes_max
        self._applied_index = applied_index
        self._pump = pump
        self._leads = leads
        self._ask_leader = ask_leader
        self._on_failure = on_failure
        self._wholly = Wholly(on_failure)
        self._waiting = _Waiting()
        self._waiting_bytes = 0
        self._rounds: dict[int, _Waiting] = {}
        self._confirming = 0
        self._ready: deque[tuple[int, int]] = deque()
        self._asking: asyncio.Task[None] | None = None
        self._ended: NeumannError | None = None
        self._token = 0
        self._scheduled = False

    # --- what callers do -------------------------------------------------------------------------

    def submit(self, sink: Sink, ids: Sequence[int], rows: Sequence[str]) -> None:
        """Read rows linearizably; each id is answered through its sink exactly once."""
        if run := self._take(sink, ids, rows):
            self._waiting.runs.append(run)
            self._schedule()

    def submit_stale(self, sink: Sink, ids: Sequence[int], rows: Sequence[str]) -> None:
        """Read what this node has now. Only reads of the disk wait."""
        if self._ended is not None:
            sink.failed(ids, self._ended)
            sink.flush()
            return
        came_ns = self._clock.monotonic_ns()
        found = [self._store.peek(row) for row in rows]
        if COLD not in found:
            sink.got(ids, cast("list[Version | None]", found))
            sink.flush()
        elif run := self._take(sink, ids, rows):
            self._serve_cold(run)
        else:
            return
        self._metrics.stale_get_seconds.observe_ns(self._clock.monotonic_ns() - came_ns, len(ids))

    def barrier(self) -> asyncio.Future[int]:
        """A future of an index at which this node's state is linearizable."""
        return self._wait(self._waiting.barriers)

    def read_index(self) -> asyncio.Future[int]:
        """For another node: a future of an index at which its reads are linearizable once it applied it.
        NotLeader where this node does not lead."""
        if self._leads():
            return self._wait(self._waiting.asks)
        refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        refused.set_exception(self._not_leader())
        return refused

    # --- what the member tells -------------------------------------------------------------------

    def confirmed(self, reads: Sequence[tuple[int, int]]) -> None:
        """These tokens may be served once their index is applied."""
        if self._ended is not None:
            return
        for token, index in reads:
            if token == self._confirming:
                self._confirming = 0
            for waiter in self._rounds[token].asks:
                _settle(waiter.future, index)
        self._ready.extend(reads)
        self.applied(self._applied_index())

    def applied(self, index: int) -> None:
        """Serve what waited for this index."""
        while self._ready and self._ready[0][1] <= index:
            token, _ = self._ready.popleft()
            done = self._rounds.pop(token)
            for waiter in done.barriers:
                _settle(waiter.future, index)
            now = self._clock.monotonic_ns()
            for run in done.runs:
                self._metrics.get_seconds.observe_ns(now - run.came_ns, len(run.ids))
            self._serve(done.runs)
        if self._waiting:
            self._schedule()

    def lost(self, tokens: Sequence[int]) -> None:
        """These can't be confirmed: the leadership ended. They wait for the next leader."""
        for token in tokens:
            if token == self._confirming:
                self._confirming = 0
            if token in self._rounds:
                self._rounds.pop(token).put_before(self._waiting)
        if self._waiting:
            self._schedule()

    def stop(self, error: NeumannError) -> None:
        """The member stops: everything outstanding, and whatever comes later, ends in this error."""
        self._ended = error
        if self._asking is not None:
            self._asking.cancel()
        for token in list(self._rounds):
            self._fail(self._rounds.pop(token), error)
        self._ready.clear()
        waiting, self._waiting = self._waiting, _Waiting()
        self._fail(waiting, error)

    # --- what waits ------------------------------------------------------------------------------

    def _take(self, sink: Sink, ids: Sequence[int], rows: Sequence[str]) -> _Run | None:
        """These reads, which wait from now on, if nothing else does however many they are; None if too many
        wait, and then the sink has heard so."""
        cost, waiting = sum(map(len, rows)) + _READ_BYTES * len(rows), self._waiting_bytes
        if not waiting or waiting + cost <= self._waiting_bytes_max:
            self._waiting_bytes += cost
            return _Run(sink, ids, rows, self._clock.monotonic_ns(), cost)
        text = f"{waiting} bytes of reads wait already; the limit is {self._waiting_bytes_max}"
        sink.failed(ids, BackPressure(text, remedy="wait for answers before sending more"))
        sink.flush()
        return None

    # --- rounds ----------------------------------------------------------------------------------

    def _wait(self, waiters: list[_Waiter]) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiters.append(_Waiter(future, self._clock.monotonic_ns()))
        self._schedule()
        return future

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._waiting:
            with self._wholly:
                self._start_round()

    def _start_round(self) -> None:
        if self._ended is not None:
            waiting, self._waiting = self._waiting, _Waiting()
            self._fail(waiting, self._ended)
        elif self._leads():
            if not self._confirming:
                self._confirming = token = self._begin()
                self._raft.read_index(token)
                self._pump()
        elif self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
            self._asking.add_done_callback(self._asked)

    def _begin(self) -> int:
        """A round with all that waits; its token."""
        self._token += 1
        self._rounds[self._token], self._waiting = self._waiting, _Waiting()
        return self._token

    async def _ask(self) -> None:
        """Ask the leader, again and again, for all that came meanwhile; until nothing waits, or this node
        leads itself."""
        while not self._leads():
            self._refuse_asks()
            if not self._waiting:
                return
            token = self._begin()
            try:
                index = await self._ask_leader()
            except (Unavailable, OutcomeUnknown) as error:
                self._rounds.pop(token).put_before(self._waiting)
                self._give_up_late(error)
                await asyncio.sleep(_AGAIN_S)
            except NeumannError as error:
                self._fail(self._rounds.pop(token), error)
            else:
                self.confirmed([(token, index)])

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._on_failure(error)
        elif self._waiting:
            self._schedule()

    def _refuse_asks(self) -> None:
        """Another node shall ask the leader itself."""
        asks, self._waiting.asks = self._waiting.asks, []
        for waiter in asks:
            _settle(waiter.future, self._not_leader())

    def _give_up_late(self, error: NeumannError) -> None:
        """Who has waited long enough hears why."""
        before_ns = self._clock.monotonic_ns() - int(LEADER_WAIT_S * 1e9)
        waiting, late = self._waiting, _Waiting()
        late.runs = [run for run in waiting.runs if run.came_ns <= before_ns]
        late.barriers = [waiter for waiter in waiting.barriers if waiter.came_ns <= before_ns]
        if late:
            waiting.runs = waiting.runs[len(late.runs) :]
            waiting.barriers = waiting.barriers[len(late.barriers) :]
            text = f"no leader confirmed this read within {LEADER_WAIT_S:g} s: {error.message}"
            self._fail(late, Unavailable(text, remedy="is a majority of the voters up and connected?"))

    def _not_leader(self) -> NeumannError:
        if self._ended is not None:
            return self._ended
        return NotLeader("this node is not the leader", detail={"leader": self._raft.leader})

    def _fail(self, waiting: _Waiting, error: NeumannError) -> None:
        for run in waiting.runs:
            self._waiting_bytes -= run.cost
            run.sink.failed(run.ids, error)
            run.sink.flush()
        for waiter in (*waiting.barriers, *waiting.asks):
            _settle(waiter.future, error)

    # --- answers ---------------------------------------------------------------------------------

    def _serve(self, runs: Sequence[_Run]) -> None:
        peek = self._store.peek
        touched: dict[Sink, None] = {}
        for run in runs:
            found = [peek(row) for row in run.rows]
            if COLD in found:
                self._serve_cold(run)
            else:
                self._waiting_bytes -= run.cost
                run.sink.got(run.ids, cast("list[Version | None]", found))
                touched[run.sink] = None
        for sink in touched:
            sink.flush()

    def _serve_cold(self, run: _Run) -> None:
        sink, ids, rows, _, cost = run

        def done(found: Any, error: BaseException | None) -> None:
            self._waiting_bytes -= cost
            if error is None:
                sink.got(ids, found)
            else:
                sink.failed(ids, as_error(error))
            sink.flush()

        self._repair.submit(self._read_lane, lambda: [self._store.get(row) for row in rows], done)


def _settle(future: asyncio.Future[int], end: int | NeumannError) -> None:
    if future.done():
        return
    if isinstance(end, NeumannError):
        future.set_exception(end)
    else:
        future.set_result(end)
