"""Writes a sorted table: rows in, in order, and a file under its digest out (format/table.py).

The file bears a temporary name until it is whole and synced, so a crash leaves debris and no table.
The same rows make the same file; writing it again replaces it by itself.
"""

from __future__ import annotations

import hashlib
import posixpath
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice, repeat
from operator import add

from neumann.env import Disk
from neumann.format import names
from neumann.format import table as table_format
from neumann.format.checksum import DIGEST_BYTES
from neumann.format.manifest import TableRef
from neumann.format.table import FILTER_BLOCKS, NO_ROWS, ROW_WEIGHT, Columns, Index, Version

_WRITE_BYTES = 512 * 1024
_ROWS_AT_ONCE = 4096


class TableWriter:
    """Takes rows in order, in runs of any length. `label` tells temporary files apart.

    Then `finish`, and `close` in any case. Disk errors are OSError.
    """

    def __init__(self, disk: Disk, directory: str, block_bytes: int, label: str = "table") -> None:
        assert block_bytes > 0
        self._disk = disk
        self._directory = directory
        self._block_bytes = block_bytes
        self._temporary = posixpath.join(directory, label + names.TEMPORARY)
        if disk.exists(self._temporary):
            disk.unlink(self._temporary)
        self._file = disk.open(self._temporary, write=True, create=True)
        self._pending = [table_format.MAGIC]
        self._pending_bytes = len(table_format.MAGIC)
        self._written_bytes = 0
        self._waiting: Columns = NO_ROWS
        self._first_keys: list[str] = []
        self._ends: list[int] = []
        self._row_ends: list[int] = []
        self._prints: list[bytes] = []
        self._last_key = ""
        self._rows = self._tombstones = self._raw_bytes = 0
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def add(self, rows: Columns) -> None:
        """The next rows; their addresses are above all before and ascend. A block is cut by weight, so
        it does not matter in which runs the rows come."""
        if not rows.keys:
            return
        if self._waiting.keys:
            assert self._waiting.keys[-1] < rows.keys[0], "rows out of order"
            rows = table_format.concatenate((self._waiting, rows))
        try:
            value_bytes = list(map(len, rows.values))  # type: ignore[arg-type]
        except TypeError:  # a tombstone is among them
            value_bytes = [len(value or b"") for value in rows.values]
        row_bytes = map(add, map(len, rows.keys), value_bytes)
        weights = list(accumulate(map(add, row_bytes, repeat(ROW_WEIGHT)), initial=0))
        start = 0
        while weights[-1] - weights[start] >= self._block_bytes:
            stop = bisect_left(weights, weights[start] + self._block_bytes, start + 1)
            self._write_block(rows.cut(start, stop))
            start = stop
        self._waiting = rows.cut(start, len(rows.keys))

    def finish(self) -> TableRef | None:
        """Make the table durable under its name; None, and no file, where there was no row."""
        if self._waiting.keys:
            self._write_block(self._waiting)
        if not self._rows:
            return None
        index = Index(self._first_keys, self._ends, self._row_ends, self._last_key)
        for first in range(0, len(self._prints), FILTER_BLOCKS):
            self._append(table_format.encode_filter(b"".join(self._prints[first : first + FILTER_BLOCKS])))
        digest = self._digest.digest()
        self._append(table_format.encode_end(index, self._rows, self._tombstones, self._raw_bytes, digest))
        self._flush()
        self._file.sync()
        self._disk.rename(self._temporary, posixpath.join(self._directory, names.table_name(digest)))
        self._disk.sync_dir(self._directory)
        return TableRef(
            digest, self._rows, self._tombstones, self._raw_bytes, self._first_keys[0], self._last_key
        )

    def close(self) -> None:
        """Release the file, and remove what was not finished."""
        self._file.close()
        if self._disk.exists(self._temporary):
            self._disk.unlink(self._temporary)

    def _write_block(self, rows: Columns) -> None:
        content = table_format.encode_content(rows)
        self._digest.update(content)
        self._raw_bytes += len(content)
        self._rows += len(rows.keys)
        self._tombstones += rows.values.count(None)
        self._first_keys.append(rows.keys[0])
        self._last_key = rows.keys[-1]
        self._append(table_format.encode_block(content))
        self._ends.append(self._written_bytes + self._pending_bytes)
        self._row_ends.append(self._rows)
        self._prints.append(table_format.prints_of(rows.keys))

    def _append(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= _WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._file.pwrite(b"".join(self._pending), self._written_bytes)
        self._written_bytes += self._pending_bytes
        self._pending = []
        self._pending_bytes = 0


def write_runs(
    disk: Disk, directory: str, runs: Iterable[Columns], block_bytes: int, label: str = "table"
) -> TableRef | None:
    """Write rows that come in runs, in order; None, and no file, where there are none."""
    writer = TableWriter(disk, directory, block_bytes, label)
    try:
        for run in runs:
            writer.add(run)
        return writer.finish()
    finally:
        writer.close()


def write_table(
    disk: Disk, directory: str, rows: Iterable[tuple[str, Version]], block_bytes: int, label: str = "table"
) -> TableRef | None:
    """The same for single rows, in the order of their addresses."""
    return write_runs(disk, directory, _runs(rows), block_bytes, label)


def _runs(rows: Iterable[tuple[str, Version]]) -> Iterator[Columns]:
    remaining = iter(rows)
    while part := list(islice(remaining, _ROWS_AT_ONCE)):
        keys, versions = zip(*part, strict=True)
        yield Columns(keys, *zip(*versions, strict=True))
