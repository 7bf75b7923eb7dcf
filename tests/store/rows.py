"""Random rows and what they should look like, for the tests of the store."""

from __future__ import annotations

import random

from neumann.format.history import History, HistoryRecord
from neumann.format.ids import Configuration, LogPoint, Timeline
from neumann.format.manifest import Archiving, Manifest, TableRef
from neumann.format.table import Columns, Version

Rows = dict[str, Version]
HISTORY = History(b"c" * 16, (HistoryRecord(Timeline(1, 5), None, 0, 0, 0, 0, 0, "formed"),))


def manifest_of(*tables: TableRef, index: int = 0, block_bytes: int = 256) -> Manifest:
    """A manifest at an index; `tables` newest first."""
    point = LogPoint(index, 1, index) if index else HISTORY.base
    return Manifest(HISTORY, point, index, Configuration(), None, Archiving(), tables, None, 1, block_bytes)


def some_rows(rng: random.Random, count: int, revision: int = 1, deleted: float = 0.2) -> Rows:
    """Up to `count` rows in two tables; their addresses collide from call to call."""
    rows: Rows = {}
    for number in range(count):
        row = f"{rng.choice(['t', 'ü'])}\0{rng.randrange(3 * count):04d}"
        value = None if rng.random() < deleted else rng.randbytes(rng.choice([1, 10, 60]))
        rows[row] = (value, revision + number, 1000 + revision)
    return rows


def in_order(rows: Rows) -> list[tuple[str, Version]]:
    return sorted(rows.items())


def live(rows: Rows) -> list[tuple[str, Version]]:
    """What a scan of everything shows."""
    return [(row, version) for row, version in sorted(rows.items()) if version[0] is not None]


def pairs(run: Columns) -> list[tuple[str, Version]]:
    return list(zip(run.keys, zip(run.values, run.revisions, run.times, strict=True), strict=True))
