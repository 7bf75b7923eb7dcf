"""The block cache: decoded blocks of all tables, least recently used out first, bounded in bytes.

The loop peeks while lanes fill, so every touch holds the mutex; nobody holds it over a read.
"""

from __future__ import annotations

from collections import OrderedDict

from neumann.env.mutex import Mutex
from neumann.format.table import Columns

_ROW_OVERHEAD_BYTES = 200
"""What CPython spends on a decoded row besides its bytes: four objects and their places."""

BlockId = tuple[bytes, int]
"""(digest of the table, number of the block)."""


class BlockCache:
    """At most `bytes_max` of decoded blocks. `hits` and `misses` count lookups."""

    def __init__(self, bytes_max: int) -> None:
        assert bytes_max >= 0
        self.bytes_max = bytes_max
        self.size_bytes = 0
        self.hits = 0
        self.misses = 0
        self._blocks: OrderedDict[BlockId, tuple[Columns, int]] = OrderedDict()
        self._mutex = Mutex()

    def get(self, block: BlockId) -> Columns | None:
        """The block's rows, if they are here."""
        with self._mutex:
            entry = self._blocks.get(block)
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._blocks.move_to_end(block)
            return entry[0]

    def put(self, block: BlockId, rows: Columns, raw_bytes: int) -> None:
        """Keep a block that was read; the oldest make room."""
        cost = raw_bytes + _ROW_OVERHEAD_BYTES * len(rows.keys)
        with self._mutex:
            if block in self._blocks or cost > self.bytes_max:
                return
            self._blocks[block] = rows, cost
            self.size_bytes += cost
            while self.size_bytes > self.bytes_max:
                _, (_, evicted_bytes) = self._blocks.popitem(last=False)
                self.size_bytes -= evicted_bytes
