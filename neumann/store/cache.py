"""What of the tables is kept in memory, bounded in bytes: decoded blocks, filters, and single rows.

`BlockCache` serves reads near one another, and throws the least recently used out first. `RowCache` serves
rows that are read again and again wherever they lie: a row costs it its own bytes where a block costs
those of its neighbours as well. The event loop peeks while lanes fill; nobody holds a mutex over a read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from neumann.env.mutex import Mutex
from neumann.format.table import Columns, Version

_BLOCK_ROW_BYTES = 200
"""What CPython spends on a row of a decoded block besides its bytes: four objects and their places."""
_ROW_BYTES = 320
"""The same for a row of its own: five objects, and its place in a dictionary."""
_PRINTS_BYTES = 200

BlockId = tuple[bytes, int]
"""(digest of the table, number of the block or of the filter)."""


class BlockCache:
    """At most `bytes_max` of decoded blocks and filters. `hits` and `misses` count lookups of blocks."""

    def __init__(self, bytes_max: int) -> None:
        assert bytes_max >= 0
        self.bytes_max = bytes_max
        self.size_bytes = 0
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[tuple[bool, BlockId], tuple[Any, int]] = OrderedDict()
        self._mutex = Mutex()

    def block(self, block: BlockId) -> Columns | None:
        """The block's rows, if they are here."""
        found: Columns | None = self._get((True, block))
        self.hits += found is not None
        return found

    def prints(self, number: BlockId) -> bytes | None:
        """The filter's prints, if they are here."""
        found: bytes | None = self._get((False, number))
        return found

    def put_block(self, block: BlockId, rows: Columns, raw_bytes: int) -> None:
        """Keep a block that a lookup had to read; the oldest make room."""
        self.misses += 1
        self._put((True, block), rows, raw_bytes + _BLOCK_ROW_BYTES * len(rows.keys))

    def put_prints(self, number: BlockId, prints: bytes) -> None:
        """Keep a filter."""
        self._put((False, number), prints, len(prints) + _PRINTS_BYTES)

    def _get(self, key: tuple[bool, BlockId]) -> Any:
        with self._mutex:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def _put(self, key: tuple[bool, BlockId], content: object, cost: int) -> None:
        with self._mutex:
            if key in self._entries or cost > self.bytes_max:
                return
            self._entries[key] = content, cost
            self.size_bytes += cost
            while self.size_bytes > self.bytes_max:
                _, (_, evicted_bytes) = self._entries.popitem(last=False)
                self.size_bytes -= evicted_bytes


class RowCache:
    """At most `bytes_max` of rows that were found in tables. `hits` counts lookups that found one.

    Two generations: what is read goes to the young one, and when that has half of the room it becomes the
    old one, whose predecessor is forgotten. So a lookup is one or two of a dictionary, without the mutex.

    A row that a newer table changes is forgotten when that table comes into use, and `version` goes up:
    who read an older table meanwhile is not let in any more.
    """

    def __init__(self, bytes_max: int) -> None:
        self.hits = 0
        self.version = 0
        self._half_bytes = bytes_max // 2
        self._young: dict[str, Version] = {}
        self._old: dict[str, Version] = {}
        self._young_bytes = 0
        self._mutex = Mutex()

    def get(self, row: str) -> Version | None:
        """The row's version in the tables, if it is here."""
        version = self.version
        found = self._young.get(row)
        if found is None:
            found = self._old.get(row)
            if found is None:
                return None
            self.put(row, found, version)
        self.hits += 1
        return found

    def put(self, row: str, found: Version, version: int) -> None:
        """Keep what was found. `version` was read before the tables were taken."""
        cost = len(row) + len(found[0] or b"") + _ROW_BYTES
        if cost > self._half_bytes:
            return
        with self._mutex:
            if version != self.version or row in self._young:
                return
            if self._young_bytes + cost > self._half_bytes:
                self._old, self._young, self._young_bytes = self._young, {}, 0
            self._young[row] = found
            self._young_bytes += cost

    def forget(self, rows: Mapping[str, object]) -> None:
        """Newer tables have these rows. Call it before those come into use."""
        with self._mutex:
            self.version += 1
            for generation in (self._young, self._old):
                for row in generation.keys() & rows.keys():
                    del generation[row]
