"""Client bytes become frames: the leader's side of a write, up to the moment a frame is created.

A frame takes whatever queued while the last ones were on their way; there is no timer (design
section 4, group commit). Rules: a command is fully checked before it is framed (R3); a frame is created
once, in one (index, term), and never taken back (R15); whoever was refused was not framed, whoever was
framed hears the outcome or "unknown". A command of a session that is refused, whatever for (a pause, a full
disk, back-pressure, a hand-over, another leader, a stop), and whose first copy is applied here already hears
what that one was told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from neumann.env import Clock
from neumann.errors import BackPressure, NeumannError, NotLeader, OutcomeUnknown, Unavailable
from neumann.format import command as command_format
from neumann.format import frame as frame_format
from neumann.format import limits, special
from neumann.format.command import Command, Limits
from neumann.format.frame import Frame, Kind
from neumann.format.ids import Configuration
from neumann.format.special import Special
from neumann.raft import Raft
from neumann.runtime.ending import Wholly
from neumann.runtime.metrics import Metrics
from neumann.runtime.sinks import Sink

_FRAME_BYTES_AIM = 1024 * 1024
_FRAME_ENTRIES_AIM = 4096
_FRAMES_OUTSTANDING_MAX = 1
"""The next frame takes whatever queued until the last one committed. With two on their way frames are
smaller, and a frame costs the same however small it is: on two cores 10-40 % less, p99 twice as long."""
_FRAME_BYTES_MAX = limits.FRAME_BODY_BYTES_MAX - frame_format.ARRAY_HEADER_BYTES
_CLOCK_AHEAD_MAX_NS = 1_000_000_000
_COMMAND_BYTES = 256
"""What a command costs until it is answered, besides its own bytes."""

_Slice = tuple[Sink, Sequence[int]]


class Waiting:
    """Who waits for a frame: slices of requests in the order of its entries. `cost` as in _cost."""

    __slots__ = ("commands", "cost", "created_ns", "slices", "term")

    def __init__(
        self, term: int, slices: list[_Slice], commands: list[Command], cost: int, created_ns: int
    ) -> None:
        self.term = term
        self.cost = cost
        self.slices = slices
        self.commands = commands
        self.created_ns = created_ns


def _cost(commands: Sequence[bytes]) -> int:
    """The memory that commands take until they are answered, in bytes, roughly."""
    return sum(map(len, commands)) + _COMMAND_BYTES * len(commands)


class Proposer:
    """The leader's queue. `gate()` returns an error while client writes are refused, else None; `recall`
    gives the (index, Outcome) that (session, serial) has in what is applied, None where there is none;
    `on_failure` hears when framing broke off in the middle.

    What is queued, framed or committed and not answered yet is bounded by `unanswered_bytes_max`; what is
    above it is refused at once, unless nothing else is there.
    """

    def __init__(
        self,
        raft: Raft,
        clock: Clock,
        own: Limits,
        metrics: Metrics,
        *,
        unanswered_bytes_max: int,
        gate: Callable[[], NeumannError | None],
        hold: Callable[[], bool],
        voters_clock_ns: Callable[[], int | None],
        pump: Callable[[], None],
        on_failure: Callable[[BaseException], None],
        recall: Callable[[int, int], tuple[int, int] | None] = lambda _session, _serial: None,
    ) -> None:
        self._raft = raft
        self._clock = clock
        self._own = own
        self._metrics = metrics
        self._unanswered_bytes_max = unanswered_bytes_max
        self._gate = gate
        self._hold = hold
        self._voters_clock_ns = voters_clock_ns
        self._pump = pump
        self._recall = recall
        self._wholly = Wholly(on_failure)
        self._queue: deque[tuple[Sink, Sequence[int], Sequence[bytes]]] = deque()
        self._unanswered_bytes = 0
        self._specials: deque[tuple[Special, asyncio.Future[int] | None]] = deque()
        self._flush_scheduled = False
        self._outstanding: deque[int] = deque()
        self._last_time_ns = 0
        self._ended: NeumannError | None = None
        self.waiting: dict[int, Waiting] = {}
        self.special_waiting: dict[int, tuple[int, asyncio.Future[int]]] = {}
        self.rows_proposed = 0
        self.last_client_ns = 0

    # --- what callers do -------------------------------------------------------------------------

    def submit(self, sink: Sink, ids: Sequence[int], commands: Sequence[bytes]) -> None:
        """Queue client commands; each id is answered through its sink exactly once."""
        cost, unanswered = _cost(commands), self._unanswered_bytes
        if unanswered and unanswered + cost > self._unanswered_bytes_max:
            text = f"{unanswered} bytes of writes wait already; the limit is {self._unanswered_bytes_max}"
            self._refuse(
                sink, ids, commands, BackPressure(text, remedy="wait for answers before sending more")
            )
            return
        self._unanswered_bytes += cost
        self._queue.append((sink, ids, commands))
        self._schedule()

    def submit_special(self, entry: Special) -> asyncio.Future[int]:
        """Queue a special entry; the future gives its index once it is applied."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._specials.append((entry, future))
        self._schedule()
        return future

    def propose_now(self, entry: Special) -> int:
        """Create a special entry's frame at once (leader only), ahead of what queues; its index."""
        return self._create_special(entry, None)

    async def submit_change(self, configuration: Configuration) -> int:
        """Create a configuration's frame at once (leader only); its index, once it is committed and
        applied. OutcomeUnknown if leadership ends before."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._create_special(configuration, future)
        self._pump()
        return await future

    def committed(self, index: int) -> bool:
        """Frames up to here are committed: there is room for more. Whether what queued is taken up in this
        turn of the loop."""
        outstanding = self._outstanding
        while outstanding and outstanding[0] <= index:
            outstanding.popleft()
        if self._queue or self._specials:
            self._schedule()
        return self._flush_scheduled

    def answered(self, first_index: int) -> Waiting | None:
        """The frame that begins there is applied: who waited for it, if it is of this node."""
        waiting = self.waiting.pop(first_index, None)
        if waiting is not None:
            self._unanswered_bytes -= waiting.cost
        return waiting

    def wake(self) -> None:
        """Something that held proposals back has ended."""
        if self._queue or self._specials:
            self._schedule()

    def lost_leadership(self, error: NeumannError) -> None:
        """What was framed is unknown now; what only queued was not done."""
        self._outstanding.clear()
        waiting, self.waiting = self.waiting, {}
        unknown = OutcomeUnknown(
            "the leader changed before this write was acknowledged",
            remedy="read the row to see whether it took effect",
        )
        for entry in waiting.values():
            self._unanswered_bytes -= entry.cost
            for sink, ids in entry.slices:
                self._metrics.proposals["unknown"] += len(ids)
                sink.failed(ids, unknown)
                sink.flush()
        specials, self.special_waiting = self.special_waiting, {}
        for _, future in specials.values():
            if not future.done():
                future.set_exception(unknown)
        self._refuse_queue(error)

    def stop(self, error: NeumannError) -> None:
        """The member stops: this is what becomes of all that is queued now or comes later."""
        self._ended = error
        self.lost_leadership(error)

    # --- framing ---------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        with self._wholly:
            self._take_up()

    def _take_up(self) -> None:
        """Frames of what queues, or what becomes of it."""
        raft = self._raft
        if self._ended is not None:
            self._refuse_queue(self._ended)
            return
        if raft.role != "leader":
            self._refuse_queue(NotLeader("this node is not the leader", detail={"leader": raft.leader}))
            return
        if raft.transferring:
            text = f"leadership is being handed over to {raft.transferring}"
            self._refuse_queue(Unavailable(text, remedy="try again"))
            return
        while self._specials:
            entry, future = self._specials.popleft()
            if future is None or not future.cancelled():
                self._create_special(entry, future)
        if self._queue and (refused := self._gate()) is not None:
            self._refuse_queue(refused)
        while self._queue and len(self._outstanding) < _FRAMES_OUTSTANDING_MAX and not self._hold():
            self._create_data()
        self._pump()

    def _refuse_queue(self, error: NeumannError) -> None:
        queue, self._queue = self._queue, deque()
        for sink, ids, raws in queue:
            self._unanswered_bytes -= _cost(raws)
            self._refuse(sink, ids, raws, error)
        specials, self._specials = self._specials, deque()
        for _, future in specials:
            if future is not None and not future.done():
                future.set_exception(error)

    def _refuse(self, sink: Sink, ids: Sequence[int], raws: Sequence[bytes], error: NeumannError) -> None:
        """The error for each; but what a session remembers is answered as it was then."""
        refused = []
        for call_id, raw in zip(ids, raws, strict=True):
            session, serial = command_format.session_of(raw)
            known = self._recall(session, serial) if session else None
            if known is not None:
                self._metrics.proposals["ok"] += 1
                sink.wrote((call_id,), known[0], (known[1],))
            else:
                refused.append(call_id)
        if refused:
            self._metrics.proposals["refused"] += len(refused)
            sink.failed(refused, error)
        sink.flush()

    def _create_data(self) -> None:
        slices: list[_Slice] = []
        commands: list[Command] = []
        entries: list[bytes] = []
        size = 0
        check, own, queue = command_format.check, self._own, self._queue
        while queue and size < _FRAME_BYTES_AIM and len(entries) < _FRAME_ENTRIES_AIM:
            sink, ids, raws = queue[0]
            run_bytes = sum(map(len, raws))
            too_many = len(entries) + len(raws) > limits.FRAME_ENTRIES_MAX
            if too_many or size + run_bytes > _FRAME_BYTES_MAX:
                if entries:
                    break
                sink, ids, raws = self._split_front()
            else:
                queue.popleft()
            count = len(commands)
            try:
                for raw in raws:
                    commands.append(check(raw, own))
                entries += raws
                slices.append((sink, ids))
                size += run_bytes
            except NeumannError:
                del commands[count:]
                size += self._take_one_by_one(sink, ids, raws, slices, commands, entries)
        if entries:
            frame = self._frame(Kind.DATA, entries)
            now = self._clock.monotonic_ns()
            first = frame.header.first_index
            self.waiting[first] = Waiting(frame.header.term, slices, commands, _cost(entries), now)
            self.last_client_ns = frame.header.time_ns
            self._outstanding.append(frame.header.last_index)
            self._raft.propose(frame)

    def _split_front(self) -> tuple[Sink, Sequence[int], Sequence[bytes]]:
        """Cut a part that fits into one frame off a run that does not."""
        sink, ids, raws = self._queue.popleft()
        taken, size = 0, 0
        for raw in raws:
            if taken == limits.FRAME_ENTRIES_MAX or (taken and size + len(raw) > limits.COMMAND_BYTES_MAX):
                break
            taken, size = taken + 1, size + len(raw)
        if taken < len(raws):
            self._queue.appendleft((sink, ids[taken:], raws[taken:]))
        return sink, ids[:taken], raws[:taken]

    def _take_one_by_one(
        self,
        sink: Sink,
        ids: Sequence[int],
        raws: Sequence[bytes],
        slices: list[_Slice],
        commands: list[Command],
        entries: list[bytes],
    ) -> int:
        """A run with a bad command in it: answer the bad ones, take the good ones."""
        size = 0
        for call_id, raw in zip(ids, raws, strict=True):
            try:
                commands.append(command_format.check(raw, self._own))
            except NeumannError as error:
                self._metrics.proposals["refused"] += 1
                self._unanswered_bytes -= _cost((raw,))
                sink.failed([call_id], error)
                continue
            entries.append(raw)
            slices.append((sink, [call_id]))
            size += len(raw)
        sink.flush()
        return size

    def _create_special(self, entry: Special, future: asyncio.Future[int] | None) -> int:
        kind, body = special.encode(entry)
        frame = self._frame(kind, [body])
        index = frame.header.first_index
        if future is not None:
            self.special_waiting[index] = (frame.header.term, future)
        self._raft.propose(frame)
        return index

    def _frame(self, kind: Kind, entries: list[bytes]) -> Frame:
        last = self._raft.last
        return frame_format.encode(
            kind, last.index + 1, self._raft.term, self._next_time_ns(), last.chain, entries
        )

    def _next_time_ns(self) -> int:
        """The leader's time, above the last frame's."""
        self._last_time_ns = max(self._last_time_ns + 1, self.now_ns())
        return self._last_time_ns

    def now_ns(self) -> int:
        """The leader's wall clock, at most a second ahead of the voters' median."""
        now, median = self._clock.wall_ns(), self._voters_clock_ns()
        return now if median is None else min(now, median + _CLOCK_AHEAD_MAX_NS)

    def log_time_at_least(self, time_ns: int) -> None:
        """A frame of this time is in the log: the next one is later."""
        self._last_time_ns = max(self._last_time_ns, time_ns)
