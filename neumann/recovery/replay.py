"""Replay: a snapshot's rows and archived frames in, the tables of the state at the cut out.

The frames go through the machine, exactly as on a living node; rows become tables whenever enough have
come, and many small tables become one now and then. Every frame's checksum, place in the chain and segment
is checked on the way. The layout of the tables is the replay's own: only the content equals what a replica
had (design section 5).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from neumann.env.doors import Disk
from neumann.errors import Corrupt
from neumann.format import frame as frame_format
from neumann.format import names
from neumann.format import special as special_format
from neumann.format.checksum import crc32c
from neumann.format.command import decode_body
from neumann.format.frame import HEADER_BYTES, Frame, FrameDamaged, FrameHeader, Kind
from neumann.format.history import History
from neumann.format.manifest import Archiving, Manifest, TableRef
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.format.special import Marker, check_level
from neumann.format.table import Version, print_of
from neumann.machine.apply import apply_data
from neumann.machine.state import MachineState, apply_special
from neumann.recovery.lineage import Stretch
from neumann.store.memtable import sorted_runs
from neumann.store.merge import BLOCKS_AT_ONCE, merge, without_tombstones
from neumann.store.table_reader import Table
from neumann.store.table_writer import write_runs

FLUSH_ROWS = 100_000
FLUSH_LOG_BYTES = 64 * 1024 * 1024
FLUSHED_TABLES_MAX = 64
"""Then they are merged: each is an open file, and one more place to look for a row."""

Progress = Callable[[int, int], None]
"""(entries replayed, entries to replay)."""


class Piece(NamedTuple):
    """A segment to replay: its bytes are asked for when its turn comes. Entries after_index+1 ..
    through_index are taken; the others are passed over."""

    where: str
    read: Callable[[], bytes]
    number: int
    after_index: int
    through_index: int


class Replay:
    """A state on its way from a snapshot to a cut. The snapshot's tables lie in `directory`."""

    def __init__(self, disk: Disk, directory: str, start: Manifest, line: Sequence[Stretch]) -> None:
        self.entries = 0
        self._disk = disk
        self._directory = directory
        self._line = line
        self._number = len(start.history.records) - 1
        self._state = MachineState.from_manifest(start)
        self._start = start
        self._block_bytes = start.block_bytes
        self._refs = start.tables
        self._tables = [Table(disk, self._path(ref.digest), ref) for ref in start.tables]
        self._rows: dict[str, Version] = {}
        self._unflushed_bytes = 0
        self._flushed = 0

    def run(self, pieces: Sequence[Piece], history: History, progress: Progress | None = None) -> Manifest:
        """Replay the pieces, go over to `history`'s timeline if the cut is its base; the state there."""
        total = sum(piece.through_index - piece.after_index for piece in pieces)
        with _no_collector():
            for piece in pieces:
                self._cross(piece.number)
                try:
                    self._run_piece(piece)
                except FrameDamaged as error:
                    raise Corrupt(f"{piece.where}: {error.message}") from error
                if progress is not None:
                    progress(self.entries, total)
            self._cross(len(history.records) - 1)
            self._flush()
        state = self._state
        return self._start._replace(
            history=history,
            point=state.applied,
            time_ns=state.time_ns,
            configuration=state.configuration,
            pause=state.pause,
            archiving=state.archiving,
            tables=self._refs,
            compaction=None,
            feature_level=state.feature_level,
            sessions=state.sessions.records(),
        )

    def _cross(self, number: int) -> None:
        """Go over to the base of a later timeline, as its restore did: rows stay, pause and sessions end."""
        while self._number < number:
            self._number += 1
            self._state.applied = self._line[self._number].base
            self._state.pause = None
            self._state.sessions.clear()
            if self._state.archiving.on:
                self._state.archiving = Archiving(True, self._state.applied.index)

    def _run_piece(self, piece: Piece) -> None:
        data = piece.read()
        state, rows, lookup = self._state, self._rows, self._lookup
        offset = SEGMENT_HEADER_BYTES
        while state.applied.index < piece.through_index:
            header = frame_format.decode_header(data, offset)
            end = offset + HEADER_BYTES + header.body_bytes
            if header.last_index > piece.after_index:
                body = data[offset + HEADER_BYTES : end]
                if crc32c(body) != header.body_crc or len(body) != header.body_bytes:
                    raise Corrupt(
                        f"{piece.where}, offset {offset}: entries {header.first_index}.."
                        f"{header.last_index} fail their checksum"
                    )
                if header.parent != state.applied.chain or header.first_index != state.applied.index + 1:
                    raise Corrupt(f"{piece.where}, offset {offset}: the chain of the log is broken")
                if header.kind is Kind.DATA:
                    commands: Sequence[object] | None = decode_body(body)
                    if header.last_index > piece.through_index:
                        header, commands = _cut_inside(header, commands, piece.through_index)
                    apply_data(state, header, commands, rows, lookup)
                else:
                    special = special_format.decode(Frame(header, data[offset:end]))
                    if isinstance(special, Marker):
                        check_level(special.feature_level, f"{piece.where}, offset {offset}")
                    apply_special(state, header, special)
                self.entries += header.last_index - header.first_index + 1
                self._unflushed_bytes += header.body_bytes
                if len(rows) >= FLUSH_ROWS or self._unflushed_bytes >= FLUSH_LOG_BYTES:
                    self._flush()
                    rows = self._rows
            offset = end

    def _lookup(self, row: str) -> Version | None:
        mark = print_of(row)
        for table in self._tables:
            version = table.get(row, mark)
            if version is not None:
                return version
        return None

    def _flush(self) -> None:
        """Make a table of the rows; where it is the oldest one, nothing is left of what was deleted."""
        rows, self._rows, self._unflushed_bytes = self._rows, {}, 0
        runs = sorted_runs(rows) if self._refs else map(without_tombstones, sorted_runs(rows))
        self._add(write_runs(self._disk, self._directory, runs, self._block_bytes, "replay"))
        self._flushed += 1
        if self._flushed >= FLUSHED_TABLES_MAX:
            self._merge(self._flushed)
            self._flushed = 0

    def _add(self, ref: TableRef | None) -> None:
        if ref is not None:
            self._refs = (ref, *self._refs)
            self._tables.insert(0, Table(self._disk, self._path(ref.digest), ref))

    def _merge(self, count: int) -> None:
        """Make one table of the newest ones, which this replay has made."""
        merged, self._refs = self._refs[:count], self._refs[count:]
        sources = [table.chunks(blocks_at_once=BLOCKS_AT_ONCE) for table in self._tables[:count]]
        del self._tables[:count]
        runs = merge(sources, drop_tombstones=not self._refs)
        self._add(write_runs(self._disk, self._directory, runs, self._block_bytes, "replay"))
        kept = {ref.digest for ref in self._refs}
        for ref in merged:
            if ref.digest not in kept:
                self._disk.unlink(self._path(ref.digest))

    def _path(self, digest: bytes) -> str:
        return f"{self._directory}/{names.table_name(digest)}"


def _cut_inside(
    header: FrameHeader, commands: Sequence[object] | None, through_index: int
) -> tuple[FrameHeader, Sequence[object] | None]:
    """The begin of a frame, up to one of its entries. What is no command as a whole is none in part."""
    count = header.last_index - header.first_index + 1
    if commands is not None and len(commands) != count:
        commands = None
    kept = through_index - header.first_index + 1
    return header._replace(last_index=through_index), None if commands is None else commands[:kept]


@contextmanager
def _no_collector() -> Iterator[None]:
    """Nothing in a replay makes cycles, and looking for them costs a quarter of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
