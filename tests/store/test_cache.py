"""The row cache: bounded in bytes, and never older than the tables that a store reads."""

from __future__ import annotations

import random
from pathlib import Path

from neumann.env.disk import RealDisk
from neumann.format.ids import LogPoint
from neumann.format.table import Version
from neumann.store.cache import RowCache
from neumann.store.store import COLD, Store
from neumann.store.table_writer import write_table
from tests.store.rows import Rows, in_order, manifest_of

DISK = RealDisk()
ROW, OTHER = "t\0a", "t\0b"


def version(number: int, size: int = 100) -> Version:
    return b"v" * size, number, number


def flush(directory: Path, store: Store, index: int, rows: Rows) -> None:
    """Write rows and bring them into a table."""
    store.active.rows.update(rows)
    frozen = store.freeze(LogPoint(index, 1, index), index)
    ref = write_table(DISK, str(directory), in_order(frozen.rows), 256)
    assert ref is not None
    store.adopt(manifest_of(ref, *store.manifest.tables)._replace(point=frozen.point))


def test_rows_stay_within_their_bytes_and_those_in_use_stay() -> None:
    cache = RowCache(100_000)
    cache.put("hot", version(0), cache.version)
    for number in range(5000):
        cache.put(f"row {number}", version(number), cache.version)
        assert cache.get("hot") == version(0)
    kept = [number for number in range(5000) if cache.get(f"row {number}") is not None]
    assert 50 < len(kept) < 100_000 / 420, "each counts with its objects"
    assert kept[-1] == 4999


def test_a_row_larger_than_the_cache_is_not_kept() -> None:
    cache = RowCache(10_000)
    cache.put(ROW, version(1, 10_000), cache.version)
    assert cache.get(ROW) is None
    cache = RowCache(0)
    cache.put(ROW, version(1), cache.version)
    assert cache.get(ROW) is None


def test_a_kept_row_is_answered_on_the_loop(tmp_path: Path) -> None:
    store = Store.open(DISK, str(tmp_path), manifest_of(), 1 << 20)
    flush(tmp_path, store, 5, {ROW: version(1), OTHER: version(2)})
    assert store.peek(ROW) is COLD
    assert store.get(ROW) == version(1)
    hits = store.cache.hits
    assert store.peek(ROW) == version(1) and store.cache.hits == hits, "no block was looked up"


def test_a_newer_table_s_rows_are_forgotten(tmp_path: Path) -> None:
    """A row that was kept before it was written again would come back when its memtable is dropped."""
    store = Store.open(DISK, str(tmp_path), manifest_of(), 1 << 20)
    flush(tmp_path, store, 5, {ROW: version(1), OTHER: version(2)})
    assert store.get(ROW) == version(1) and store.get(OTHER) == version(2)
    flush(tmp_path, store, 9, {ROW: version(7)})
    assert store.get(ROW) == version(7)
    assert store.peek(OTHER) == version(2), "others stay"
    flush(tmp_path, store, 12, {ROW: (None, 11, 11)})
    assert store.get(ROW) == (None, 11, 11)


def test_who_read_older_tables_is_not_let_in() -> None:
    """A lane may have read the row before, and come back behind, the moment in which tables change."""
    cache = RowCache(100_000)
    before = cache.version
    cache.forget({ROW: version(7)})
    cache.put(ROW, version(1), before)
    assert cache.get(ROW) is None
    cache.put(ROW, version(7), cache.version)
    assert cache.get(ROW) == version(7)


def test_random_reads_and_writes_against_a_dictionary(tmp_path: Path) -> None:
    rng = random.Random(5)
    store = Store.open(DISK, str(tmp_path), manifest_of(), 40_000)
    model: Rows = {}
    for index in range(1, 40):
        rows: Rows = {f"t\0{rng.randrange(200):03d}": version(index, rng.randrange(50)) for _ in range(20)}
        rows[f"t\0{rng.randrange(200):03d}"] = (None, index, index)
        model |= rows
        flush(tmp_path, store, index, rows)
        for _ in range(60):
            row = f"t\0{rng.randrange(200):03d}"
            assert store.get(row) == model.get(row)
            assert store.peek(row) in (model.get(row), COLD)
