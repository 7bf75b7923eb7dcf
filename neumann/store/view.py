"""A moment of the state, held still: point reads, scans, counts and the content digest.

A view never changes and any thread may read it. It holds on to its tables: their files may be unlinked
meanwhile. Rows come in the order of their addresses; tombstones are never shown by a scan.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property

from neumann.format.checksum import DIGEST_BYTES
from neumann.format.command import split_row_key, table_end
from neumann.format.table import Columns, Version, content_bytes, print_of
from neumann.store.memtable import Frozen, sorted_columns
from neumann.store.merge import BLOCKS_AT_ONCE, merge
from neumann.store.table_reader import Table

_MEMTABLE_RUN_ROWS = 512
_SHORT_SCAN_ROWS = 1000
"""Up to this limit a scan reads single blocks, above it as a merge does."""


class View:
    """Made by Store.view, or of tables alone by who reads a snapshot that is not live."""

    def __init__(self, newest: dict[str, Version], frozen: Sequence[Frozen], tables: Sequence[Table]) -> None:
        self._newest = newest
        self._frozen = frozen
        self._tables = tables

    def get(self, row: str) -> Version | None:
        """The row's newest version; a deleted row gives its tombstone, an unknown one None."""
        version = self._newest.get(row)
        if version is not None:
            return version
        for frozen in self._frozen:
            version = frozen.rows.get(row)
            if version is not None:
                return version
        if self._tables:
            mark = print_of(row)
            for table in self._tables:
                version = table.get(row, mark)
                if version is not None:
                    return version
        return None

    def scan(
        self,
        start: str = "",
        stop: str | None = None,
        limit: int | None = None,
        reverse: bool = False,
        bytes_enough: int | None = None,
    ) -> list[tuple[str, Version]]:
        """Live rows of [start, stop), at most `limit`, ascending or in reverse from the other end.

        It ends early, with two rows or more, where their values are more than `bytes_enough`.
        """
        assert limit is None or limit >= 0
        value_bytes = 0
        blocks_at_once = 1 if limit is not None and limit <= _SHORT_SCAN_ROWS else BLOCKS_AT_ONCE
        found: list[tuple[str, Version]] = []
        for run in self._runs(start, stop, reverse, blocks_at_once):
            if limit is not None and len(found) >= limit:
                break
            versions = zip(run.values, run.revisions, run.times, strict=True)
            rows = list(zip(run.keys, versions, strict=True))
            found.extend(reversed(rows) if reverse else rows)
            if bytes_enough is not None:
                value_bytes += sum(len(value) for value in run.values if value is not None)
                if value_bytes > bytes_enough and len(found) > 1:
                    break
        return found if limit is None else found[:limit]

    def runs(
        self,
        start: str = "",
        stop: str | None = None,
        *,
        reverse: bool = False,
        blocks_at_once: int = BLOCKS_AT_ONCE,
    ) -> Iterator[Columns]:
        """The live rows of [start, stop) in runs of columns, for who reads all, or until he has enough.

        Each run ascends; in reverse the runs descend. The default reads as a merge does.
        """
        return self._runs(start, stop, reverse, blocks_at_once)

    def tables(self) -> list[str]:
        """Names of the tables that hold a live row, in order; one seek a table."""
        found: list[str] = []
        rows = self.scan(limit=1)
        while rows:
            found.append(split_row_key(rows[0][0])[0])
            rows = self.scan(table_end(found[-1]), limit=1)
        return found

    def count(self, start: str = "", stop: str | None = None) -> int:
        """How many live rows there are, by reading them."""
        return sum(len(run.keys) for run in self.runs(start, stop))

    def content_digest(self) -> bytes:
        """BLAKE2b-256 over all live rows, as format.table.content_bytes lays them out."""
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for run in self.runs():
            digest.update(content_bytes(run))
        return digest.digest()

    @cached_property
    def _newest_columns(self) -> Columns:
        return sorted_columns(self._newest)

    def _runs(self, start: str, stop: str | None, reverse: bool, blocks_at_once: int) -> Iterator[Columns]:
        memtables = (self._newest_columns, *(frozen.columns for frozen in self._frozen))
        sources = [_memtable_runs(rows, start, stop, reverse) for rows in memtables if rows.keys]
        sources += [table.chunks(start, stop, reverse, blocks_at_once) for table in self._tables]
        return merge(sources, drop_tombstones=True, reverse=reverse)


def _memtable_runs(rows: Columns, start: str, stop: str | None, reverse: bool) -> Iterator[Columns]:
    low = bisect_left(rows.keys, start)
    high = len(rows.keys) if stop is None else bisect_left(rows.keys, stop)
    for place in range(low, high, _MEMTABLE_RUN_ROWS):
        first, end = place, min(place + _MEMTABLE_RUN_ROWS, high)
        if reverse:
            first, end = low + high - end, low + high - first
        yield rows.cut(first, end)
