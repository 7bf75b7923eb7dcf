"""Committed frames become rows and answers, in order, on the event loop.

The applier never blocks the loop: rows that conditions need and that lie in no memory are read in a
lane first (design section 3), frames that fell out of memory are read back from the log in a lane, and
while the store's flushes lag too far behind it waits: a slow node falls behind instead of apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neumann.env import Clock, Lane
from neumann.errors import Corrupt, FormatTooNew, Unavailable
from neumann.format import command as command_format
from neumann.format import special
from neumann.format.frame import Frame, FrameHeader, Kind
from neumann.format.special import Marker, Pause, Special
from neumann.machine.apply import apply_data, needed_rows
from neumann.machine.state import MachineState, apply_special
from neumann.runtime.ending import Wholly
from neumann.runtime.lag import LagSamples
from neumann.runtime.metrics import Metrics
from neumann.runtime.opening import holds_content
from neumann.runtime.proposer import Proposer
from neumann.runtime.repair import Repair
from neumann.runtime.sinks import Sink, Version, as_version
from neumann.store.store import COLD, Store
from neumann.wal import Log

BACKLOG_STOPS_APPLY = 16
BACKLOG_HOLDS_PROPOSALS = 12
_TAIL_BYTES_MAX = 64 * 1024 * 1024
_ENTRIES_PER_TURN = 20_000
_READ_BACK_BYTES_MAX = 4 * 1024 * 1024


class Applier:
    """Owns the machine's state and writes the store's memtable.

    `unsealed_entries` counts what the open segment holds. While a pause holds, nothing was written since
    `pause_index`. `run_end(after, bytes_max)` is the end of a run of whole frames. `on_special` is called
    behind each applied special entry; `on_failure` when a committed frame can't be read back, or was applied
    in part.
    """

    def __init__(
        self,
        state: MachineState,
        store: Store,
        log: Log,
        read_lane: Lane,
        repair: Repair,
        proposer: Proposer,
        clock: Clock,
        metrics: Metrics,
        *,
        lag: LagSamples,
        unsealed_entries: int,
        run_end: Callable[[int, int], int],
        on_special: Callable[[FrameHeader, Special | None], None],
        on_applied: Callable[[int], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.state = state
        self.pause_index = state.applied.index if state.pause is not None else 0
        self.rows_since_snapshot = 0
        self.bytes_since_snapshot = 0
        self._store = store
        self._log = log
        self._read_lane = read_lane
        self._repair = repair
        self._proposer = proposer
        self._clock = clock
        self._metrics = metrics
        self.unsealed_entries = unsealed_entries
        self._lag = lag
        self._run_end = run_end
        self._on_special = on_special
        self._on_applied = on_applied
        self._on_failure = on_failure
        self._wholly = Wholly(on_failure)
        self._commit_index = state.applied.index
        self._tail: dict[int, Frame] = {}
        self._tail_bytes = 0
        self._truncations = 0
        self._busy = False
        self._scheduled = False
        self._stopped = False

    @property
    def applied_index(self) -> int:
        """The last index that rows and state contain."""
        return self.state.applied.index

    def appended(self, frames: Sequence[Frame], truncate_after: int | None) -> None:
        """Keep frames in memory until they are applied, as far as there is room."""
        if truncate_after is not None:
            self._truncations += 1
            for first in [f for f in self._tail if f > truncate_after]:
                self._tail_bytes -= len(self._tail.pop(first).data)
        for frame in frames:
            if self._tail_bytes < _TAIL_BYTES_MAX:
                self._keep(frame)

    def committed(self, index: int, *, soon: bool) -> None:
        """Entries up to here may be applied: now, or `soon`, behind what the loop has to do already."""
        if index > self._commit_index:
            self._commit_index = index
            if soon:
                self._schedule()
            else:
                self._run()

    def wake(self) -> None:
        """The store has caught up with a flush."""
        self._run()

    def stop(self) -> None:
        """Apply nothing more."""
        self._stopped = True

    def _run(self) -> None:
        """Apply what is committed, unless a frame waits for the disk: then it goes on behind that."""
        self._scheduled = False
        if not self._busy:
            with self._wholly:
                self._apply_committed()

    def _apply_committed(self) -> None:
        budget = _ENTRIES_PER_TURN
        started_ns = self._clock.monotonic_ns()
        applied_before = self.applied_index
        touched: dict[Sink, None] = {}
        while self.applied_index < self._commit_index and not self._stopped:
            if budget <= 0:
                self._schedule()
                break
            if self._store.backlog >= BACKLOG_STOPS_APPLY:
                break
            frame = self._tail.get(self.applied_index + 1)
            if frame is None:
                self._read_back()
                break
            if not self._apply(frame, touched):
                break
            budget -= frame.header.last_index - frame.header.first_index + 1
        if self.applied_index > applied_before:
            self._metrics.apply_seconds.observe_ns(self._clock.monotonic_ns() - started_ns)
            for sink in touched:
                sink.flush()
            self._on_applied(self.applied_index)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _apply(self, frame: Frame, touched: dict[Sink, None]) -> bool:
        """Apply one frame; False if rows for its conditions must be read first."""
        header = frame.header
        if header.kind is not Kind.DATA:
            self._forget(frame)
            entry = special.decode(frame)
            if isinstance(entry, Marker) and not self._knows(header, entry):
                return False
            self._count_unsealed(header, entry)
            if isinstance(entry, Pause):
                self.pause_index = header.first_index
            apply_special(self.state, header, entry)
            self._lag.note(header, self._clock.monotonic_ns())
            self._answer_special(header)
            self._on_special(header, entry)
            return True
        waiting = self._proposer.waiting.get(header.first_index)
        mine = waiting is not None and waiting.term == header.term
        commands: Sequence[Any] | None
        commands = waiting.commands if waiting and mine else command_format.decode_body(frame.body)
        rows: dict[str, Version | None] = {}
        cold = [row for row in needed_rows(commands) if not self._peek(row, rows)]
        if cold:
            self._read_cold(frame, commands, rows, cold)
            return False
        self._apply_data(frame, commands, rows, touched)
        return True

    def _knows(self, header: FrameHeader, marker: Marker) -> bool:
        """False, and the end of this member, where the cluster has gone over to a level that it lacks."""
        try:
            special.check_level(marker.feature_level, f"the marker at index {header.first_index}")
        except FormatTooNew as error:
            self._on_failure(error)
            return False
        return True

    def _peek(self, row: str, rows: dict[str, Version | None]) -> bool:
        found = self._store.peek(row)
        if found is COLD:
            return False
        rows[row] = as_version(found)
        return True

    def _apply_data(
        self,
        frame: Frame,
        commands: Sequence[Any] | None,
        rows: dict[str, Version | None],
        touched: dict[Sink, None],
    ) -> None:
        header = frame.header
        self._forget(frame)
        self._lag.note(header, self._clock.monotonic_ns())
        memtable = self._store.active
        result = apply_data(self.state, header, commands, memtable.rows, rows.get)
        memtable.note(header, result.skipped)
        self.unsealed_entries += header.last_index - header.first_index + 1
        self.bytes_since_snapshot += header.body_bytes
        self.rows_since_snapshot += _row_count(header, commands)
        waiting = self._proposer.answered(header.first_index)
        if waiting is None or waiting.term != header.term:
            return
        index, outcomes, position = header.first_index, result.outcomes, 0
        for sink, ids in waiting.slices:
            count = len(ids)
            told = outcomes and outcomes[position : position + count]
            if result.repeats:
                _answer_singly(sink, ids, index + position, told or (), result.repeats)
            else:
                sink.wrote(ids, index + position, told)
            touched[sink] = None
            position += count
        self._metrics.proposals["ok"] += position
        self._metrics.put_seconds.observe_ns(self._clock.monotonic_ns() - waiting.created_ns, position)

    def _answer_special(self, header: FrameHeader) -> None:
        entry = self._proposer.special_waiting.pop(header.first_index, None)
        if entry is not None:
            term, future = entry
            if not future.done() and term == header.term:
                future.set_result(header.first_index)

    def _count_unsealed(self, header: FrameHeader, entry: Special | None) -> None:
        if isinstance(entry, Marker) and entry.seal:
            self.unsealed_entries = 0
        elif holds_content(header.kind):
            self.unsealed_entries += 1

    def _keep(self, frame: Frame) -> None:
        if frame.header.first_index not in self._tail:
            self._tail[frame.header.first_index] = frame
            self._tail_bytes += len(frame.data)

    def _forget(self, frame: Frame) -> None:
        if self._tail.pop(frame.header.first_index, None) is not None:
            self._tail_bytes -= len(frame.data)

    # --- what has to be read first ---------------------------------------------------------------

    def _read_cold(
        self,
        frame: Frame,
        commands: Sequence[Any] | None,
        rows: dict[str, Version | None],
        cold: list[str],
    ) -> None:
        self._busy = True

        def done(found: Any, error: BaseException | None) -> None:
            self._busy = False
            if error is not None:
                self._on_failure(error)
                return
            if self._stopped:
                return
            rows.update(zip(cold, map(as_version, found), strict=True))
            touched: dict[Sink, None] = {}
            with self._wholly:
                self._apply_data(frame, commands, rows, touched)
                for sink in touched:
                    sink.flush()
                self._on_applied(self.applied_index)
            self._run()

        self._repair.submit(self._read_lane, lambda: [self._store.get(row) for row in cold], done)

    def _read_back(self) -> None:
        after = self.applied_index
        last = min(self._commit_index, self._run_end(after, _READ_BACK_BYTES_MAX))
        truncations = self._truncations
        self._busy = True

        def read() -> Sequence[Frame]:
            return self._log.read_frames(after, last)

        def done(frames: Any, error: BaseException | None) -> None:
            self._busy = False
            if isinstance(error, Unavailable) and truncations != self._truncations:
                self._run()  # the log refuses to be read while it is cut, though it is cut above
                return
            if error is not None or not frames:
                missing = Corrupt(f"committed entries behind {after} can't be read back from the log")
                self._on_failure(error or missing)
                return
            for frame in frames:
                self._keep(frame)
            self._run()

        self._repair.submit(self._read_lane, read, done)


def _answer_singly(
    sink: Sink, ids: Sequence[int], first_index: int, outcomes: Sequence[int], repeats: Mapping[int, int]
) -> None:
    """Where a session answers some of a frame's commands, their indexes don't follow each other."""
    for index, (call_id, outcome) in enumerate(zip(ids, outcomes, strict=True), first_index):
        sink.wrote((call_id,), repeats.get(index, index), (outcome,))


def _row_count(header: FrameHeader, commands: Sequence[Any] | None) -> int:
    """Rows that a frame writes, a batch counted by its operations; what is no command counts as one."""
    count = header.last_index - header.first_index + 1
    try:
        batches = [command[6] for command in commands or () if command[0] == command_format.BATCH]
        return count + sum(len(operations) - 1 for operations in batches)
    except (TypeError, IndexError, KeyError):
        return count
