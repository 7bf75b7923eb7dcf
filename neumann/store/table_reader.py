"""Reads a sorted table: its index is in memory, a block is read, checked and cached when it is asked for.

A `Table` keeps its file open for as long as anybody holds the object: unlinking the file's name takes
nothing from a reader. Any thread may read; `peek` alone never touches the disk. No byte is served
unchecked: Corrupt names the file and the offset.
"""

from __future__ import annotations

import hashlib
import weakref
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from enum import Enum
from typing import Final, Literal

from neumann.env.doors import Files, ReadableFile
from neumann.errors import Corrupt
from neumann.format import table as table_format
from neumann.format.checksum import DIGEST_BYTES
from neumann.format.manifest import TableRef
from neumann.format.table import (
    FILTER_BLOCKS,
    FOOTER_BYTES,
    HEADER_BYTES,
    PRINT_BYTES,
    Columns,
    Footer,
    Index,
    Version,
)
from neumann.store.cache import BlockCache


class Cold(Enum):
    """The one value COLD: the answer needs a read."""

    COLD = "cold"


COLD: Final = Cold.COLD
Peeked = Version | None | Literal[Cold.COLD]
"""A row's version, None: surely not here, or COLD."""


class Table:
    """An open table. Corrupt if the file is not the table `ref` (None: whatever it is)."""

    def __init__(self, disk: Files, path: str, ref: TableRef | None, cache: BlockCache | None = None) -> None:
        self.path = path
        self._disk = disk
        self._file = disk.open(path)
        weakref.finalize(self, self._file.close).atexit = False
        self._cache = cache or BlockCache(0)
        self.file_bytes = self._file.size()
        try:
            footer, self._index = _read_end(self._file, self.file_bytes, path)
        except Corrupt as error:
            error.detail = {"path": path}
            raise
        self.ref = footer.ref(self._index)
        if ref is not None and ref != self.ref:
            raise Corrupt(
                f"{path}: holds another table, {self.ref.name}, than its manifest names, {ref.name}",
                detail={"path": path},
            )
        self._digest = self.ref.digest
        self._first_keys = self._index.first_keys
        self._starts = array("Q", [HEADER_BYTES, *self._index.ends])

    def peek(self, key: str, mark: bytes) -> Peeked:
        """The row, if it needs no read to tell. `mark` is its print: format.table.print_of(key)."""
        number = bisect_right(self._first_keys, key) - 1
        if number < 0 or key > self._index.last_key:
            return None
        block = self._cache.block((self._digest, number))
        if block is not None:
            return _find(block, key)
        prints = self._cache.prints((self._digest, number // FILTER_BLOCKS))
        return COLD if prints is None or self._may_hold(prints, number, mark) else None

    def get(self, key: str, mark: bytes) -> Version | None:
        """The row; reads the filter, and where that does not rule it out the block, unless cached."""
        number = bisect_right(self._first_keys, key) - 1
        if number < 0 or key > self._index.last_key:
            return None
        block = self._cache.block((self._digest, number))
        if block is None:
            if not self._may_hold(self._filter(number // FILTER_BLOCKS), number, mark):
                return None
            block = self._read_block(number)
        return _find(block, key)

    def chunks(
        self, start: str = "", stop: str | None = None, reverse: bool = False, blocks_at_once: int = 1
    ) -> Iterator[Columns]:
        """The rows of [start, stop) in runs of a few blocks; each run ascends, also in reverse, where
        the runs descend. Blocks that are read for this do not displace others in the cache."""
        assert blocks_at_once > 0
        first = max(bisect_right(self._first_keys, start) - 1, 0)
        end = len(self._first_keys) if stop is None else bisect_left(self._first_keys, stop)
        for number in range(first, end, blocks_at_once):
            low, high = number, min(number + blocks_at_once, end)
            if reverse:
                low, high = first + end - high, first + end - low
            rows = self._run(low, high)
            from_place = bisect_left(rows.keys, start) if rows.keys[0] < start else 0
            to_place = len(rows.keys)
            if stop is not None and rows.keys[-1] >= stop:
                to_place = bisect_left(rows.keys, stop)
            if to_place - from_place < len(rows.keys):
                rows = rows.cut(from_place, to_place)
            if rows.keys:
                yield rows

    def reopen(self) -> None:
        """Read from the file that has this table's name now: the damaged one was replaced."""
        file = self._disk.open(self.path)
        weakref.finalize(self, file.close).atexit = False
        self._file = file

    def verify(self) -> None:
        """Read every byte; Corrupt names the first that is not as it was written."""
        for _ in self.verifying():
            pass

    def verifying(self) -> Iterator[int]:
        """The same in steps; yields how many bytes each took."""
        for number, _ in enumerate(self.verified_runs()):
            yield self._starts[number + 1] - self._starts[number]

    def verified_runs(self) -> Iterator[Columns]:
        """All rows, block by block; whoever comes to the end has had every byte verified. Not cached."""
        table_format.check_magic(self._file.pread(HEADER_BYTES, 0), f"{self.path}, offset 0")
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        rows = tombstones = raw_bytes = 0
        before = ""
        prints: list[bytes] = []
        for number, first_key in enumerate(self._first_keys):
            where = f"{self.path}, offset {self._starts[number]}"
            content, block = self._decode(self._stored(number, number + 1), number)
            digest.update(content)
            keys = block.keys
            if keys[0] != first_key or keys[0] <= before or any(map(str.__ge__, keys, keys[1:])):
                raise Corrupt(f"{where}: the rows are out of order")
            before = keys[-1]
            rows += len(keys)
            tombstones += block.values.count(None)
            raw_bytes += len(content)
            prints.append(table_format.prints_of(keys))
            if rows != self._index.row_ends[number]:
                raise Corrupt(f"{where}: the rows are not as many as the index tells")
            yield block
            if (number + 1) % FILTER_BLOCKS == 0 or number + 1 == len(self._first_keys):
                self._check_filter(number // FILTER_BLOCKS, b"".join(prints))
                prints.clear()
        found = TableRef(digest.digest(), rows, tombstones, raw_bytes, self._first_keys[0], before)
        if found != self.ref:
            raise Corrupt(f"{self.path}: the rows are not those that the footer tells of")

    def check(self) -> None:
        """Read every byte, and compare checksums and the digest: so it is the table that was written.
        A third of the cost of `verify`, which also looks whether what was written is a table."""
        table_format.check_magic(self._file.pread(HEADER_BYTES, 0), f"{self.path}, offset 0")
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for number in range(len(self._first_keys)):
            digest.update(self._content(self._stored(number, number + 1), number))
        if digest.digest() != self.ref.digest:
            raise Corrupt(f"{self.path}: the rows are not those that the footer tells of")
        for number in range(0, len(self._first_keys), FILTER_BLOCKS):
            self._read_filter(number // FILTER_BLOCKS)

    def _check_filter(self, number: int, prints: bytes) -> None:
        if self._read_filter(number) != prints:
            where = f"{self.path}, offset {self._index.filter_place(number)[0]}"
            raise Corrupt(f"{where}: the filter is not that of the rows")

    def _may_hold(self, prints: bytes, number: int, mark: bytes) -> bool:
        """False: the block surely lacks the row. `prints` are those of its filter. A match that lies across
        two prints is taken for one: it is rare, and costs a read."""
        before = self._index.rows_before(number - number % FILTER_BLOCKS)
        first = self._index.rows_before(number) - before
        return (
            prints.find(mark, first * PRINT_BYTES, (self._index.row_ends[number] - before) * PRINT_BYTES) >= 0
        )

    def _filter(self, number: int) -> bytes:
        prints = self._cache.prints((self._digest, number))
        if prints is None:
            prints = self._read_filter(number)
            self._cache.put_prints((self._digest, number), prints)
        return prints

    def _read_filter(self, number: int) -> bytes:
        offset, size = self._index.filter_place(number)
        try:
            return table_format.decode_filter(self._file.pread(size, offset), f"{self.path}, offset {offset}")
        except Corrupt as error:
            error.detail = {"path": self.path, "offset": offset}
            raise

    def _read_block(self, number: int) -> Columns:
        content, rows = self._decode(self._stored(number, number + 1), number)
        self._cache.put_block((self._digest, number), rows, len(content))
        return rows

    def _run(self, low: int, high: int) -> Columns:
        """The rows of the blocks low..high-1, read at once and not cached."""
        stored = memoryview(self._stored(low, high))
        base = self._starts[low]
        blocks = []
        for number in range(low, high):
            block = bytes(stored[self._starts[number] - base : self._starts[number + 1] - base])
            blocks.append(self._decode(block, number)[1])
        return blocks[0] if len(blocks) == 1 else table_format.concatenate(blocks)

    def _content(self, stored: bytes, number: int) -> bytes:
        """The content of a block's bytes; the detail of Corrupt has the table's path and the offset."""
        offset = self._starts[number]
        try:
            return table_format.decode_content(stored, f"{self.path}, offset {offset}")
        except Corrupt as error:
            error.detail = {"path": self.path, "offset": offset}
            raise

    def _decode(self, stored: bytes, number: int) -> tuple[bytes, Columns]:
        """The same with the rows."""
        content = self._content(stored, number)
        offset = self._starts[number]
        try:
            return content, table_format.decode_rows(content, f"{self.path}, offset {offset}")
        except Corrupt as error:
            error.detail = {"path": self.path, "offset": offset}
            raise

    def _stored(self, low: int, high: int) -> bytes:
        return self._file.pread(self._starts[high] - self._starts[low], self._starts[low])


def _find(block: Columns, key: str) -> Version | None:
    place = bisect_left(block.keys, key)
    if place < len(block.keys) and block.keys[place] == key:
        return block.version(place)
    return None


def _read_end(file: ReadableFile, file_bytes: int, path: str) -> tuple[Footer, Index]:
    where = f"{path}, its last {FOOTER_BYTES} bytes"
    footer = table_format.decode_footer(file.pread(FOOTER_BYTES, max(0, file_bytes - FOOTER_BYTES)), where)
    offset = file_bytes - FOOTER_BYTES - footer.index_bytes
    where = f"{path}, offset {offset}"
    if offset < HEADER_BYTES:
        raise Corrupt(f"{where}: the table is cut short")
    index = table_format.decode_index(file.pread(footer.index_bytes, offset), footer, where)
    if index.ends[-1] + index.filters_bytes != offset or index.row_ends[-1] != footer.rows:
        raise Corrupt(f"{where}: the index does not tell of the blocks and filters before it")
    return footer, index
