"""What the helper process does for the store: `flush` and `merge` (env/worker.py calls them by name).

A job gets plain values and the disk, writes one table under its digest, and tells its TableRef. It may
be run again at any time: what a dead one left behind is a temporary file, which the next one replaces.
A full disk is DiskFull, everything else that fails on the disk OSError.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from neumann.env import Disk
from neumann.env.files import is_full
from neumann.errors import Corrupt, DiskFull
from neumann.format import frame as frame_format
from neumann.format import names
from neumann.format.command import decode_body
from neumann.format.frame import Frame, FrameHeader, Kind
from neumann.format.manifest import TableRef
from neumann.machine.apply import Rows, derive_rows
from neumann.store.memtable import sorted_runs
from neumann.store.merge import BLOCKS_AT_ONCE
from neumann.store.merge import merge as merge_runs
from neumann.store.table_reader import Table
from neumann.store.table_writer import write_runs

FLUSH = f"{__name__}:flush"
MERGE = f"{__name__}:merge"


def flush(disk: Disk, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write the table of the log's entries first..last.

    params: directory, block_bytes, first, last, skipped (indexes of entries without effect), pieces:
    (segment path, offset, length) of the frames, in order. Result: `table`, a TableRef or None.
    """
    rows: Rows = {}
    skipped = frozenset(params["skipped"])
    behind = params["first"] - 1
    for frame in _frames(disk, params["pieces"], params["first"]):
        if frame.header.kind is Kind.DATA:
            derive_rows(frame.header, decode_body(frame.body), skipped, rows)
        behind = frame.header.last_index
    if behind != params["last"]:
        raise Corrupt(f"the log's pieces end at {behind}, {params['last']} was asked for")

    def write() -> TableRef | None:
        return write_runs(disk, params["directory"], sorted_runs(rows), params["block_bytes"], "flush")

    return _tell(write)


def merge(disk: Disk, params: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables into one.

    params: directory, block_bytes, drop_tombstones, inputs: hexadecimal digests, newest first. Result:
    `table`, a TableRef, or None where no row was left.
    """
    directory = params["directory"]

    def write() -> TableRef | None:
        tables = []
        for digest in params["inputs"]:
            path = posixpath.join(directory, names.table_name(bytes.fromhex(digest)))
            if not disk.exists(path):
                raise Corrupt(f"{path} is missing, and a compaction needs it", detail={"path": path})
            tables.append(Table(disk, path, None))
        sources = [table.chunks(blocks_at_once=BLOCKS_AT_ONCE) for table in tables]
        runs = merge_runs(sources, drop_tombstones=params["drop_tombstones"])
        return write_runs(disk, directory, runs, params["block_bytes"], "merge")

    return _tell(write)


def _tell(write: Callable[[], TableRef | None]) -> dict[str, Any]:
    try:
        return {"table": write()}
    except OSError as error:
        if is_full(error):
            raise DiskFull("no space left to write a table") from error
        raise


def _frames(disk: Disk, pieces: Iterable[tuple[str, int, int]], first: int) -> Iterator[Frame]:
    """The frames in these parts of segments, which follow each other from entry `first` on; any damage is
    Corrupt, with the path."""
    before: FrameHeader | None = None
    for path, offset, length in pieces:
        file = disk.open(path)
        try:
            data = file.pread(length, offset)
        finally:
            file.close()
        place = 0
        while place < length:
            try:
                frame = frame_format.decode(data, place)
                _check_place(before, frame.header, first)
            except Corrupt as error:
                where = f"{path}, offset {offset + place}"
                raise Corrupt(f"{where}: {error.message}", detail={"path": path}) from error
            yield frame
            before = frame.header
            place += len(frame.data)


def _check_place(before: FrameHeader | None, header: FrameHeader, first: int) -> None:
    if before is not None:
        frame_format.check_follows(before, header)
    elif header.first_index != first:
        raise Corrupt(f"begins at {header.first_index}, {first} was asked for")
