"""Sorted tables: what is written is read back, every damaged byte is found, and the bytes are frozen."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.errors import Corrupt, FormatTooNew
from neumann.format import names
from neumann.format.checksum import crc32c
from neumann.format.manifest import TableRef
from neumann.format.table import (
    FILTER_BLOCKS,
    FOOTER_BYTES,
    Columns,
    Version,
    encode_filter,
    print_of,
    prints_of,
)
from neumann.store.cache import BlockCache
from neumann.store.memtable import sorted_columns
from neumann.store.table_reader import COLD, Peeked, Table
from neumann.store.table_writer import write_runs, write_table
from tests.store.rows import Rows, in_order, pairs, some_rows

DISK = RealDisk()


def write(directory: Path, rows: Rows, block_bytes: int = 256) -> tuple[TableRef, Path]:
    ref = write_table(DISK, str(directory), in_order(rows), block_bytes)
    assert ref is not None
    return ref, directory / names.table_name(ref.digest)


def get(table: Table, row: str) -> Version | None:
    return table.get(row, print_of(row))


def peek(table: Table, row: str) -> Peeked:
    return table.peek(row, print_of(row))


def test_every_row_is_found_and_no_other(tmp_path: Path) -> None:
    rows = some_rows(random.Random(1), 400)
    ref, path = write(tmp_path, rows)
    table = Table(DISK, str(path), ref)
    assert {row: get(table, row) for row in rows} == rows
    for row in ("", "t", "t\0", "t\x000000x", "zzz", "ü\0~"):
        assert get(table, row) is None
    assert (ref.rows, ref.tombstones) == (len(rows), sum(v[0] is None for v in rows.values()))
    assert (ref.first_key, ref.last_key) == (min(rows), max(rows))
    table.verify()


def test_a_table_without_rows_is_no_table(tmp_path: Path) -> None:
    assert write_table(DISK, str(tmp_path), [], 256) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("blocks_at_once", [1, 3])
def test_runs_of_a_range_are_that_range(tmp_path: Path, reverse: bool, blocks_at_once: int) -> None:
    rng = random.Random(2)
    rows = some_rows(rng, 120)
    ref, path = write(tmp_path, rows)
    table = Table(DISK, str(path), ref)
    bounds = ["", "t\0", *rng.choices(sorted(rows), k=8), "ü\0", "zz"]
    for start in bounds:
        for stop in [*bounds, None]:
            runs = [pairs(run) for run in table.chunks(start, stop, reverse, blocks_at_once)]
            found = [pair for run in (reversed(runs) if reverse else runs) for pair in run]
            assert found == [(r, v) for r, v in in_order(rows) if start <= r and (stop is None or r < stop)]


def test_blocks_do_not_depend_on_how_the_rows_came(tmp_path: Path) -> None:
    """A merge hands over rows in runs that depend on its inputs; the digest must not (R5)."""
    rng = random.Random(3)
    rows = sorted_columns(some_rows(rng, 300))
    whole, path = write(tmp_path, dict(pairs(rows)))
    data = path.read_bytes()
    for _ in range(20):
        cuts = sorted({0, len(rows.keys), *rng.choices(range(len(rows.keys)), k=rng.randrange(40))})
        runs: list[Columns] = [rows.cut(a, b) for a, b in pairwise(cuts)]
        assert write_runs(DISK, str(tmp_path), runs, 256) == whole
        assert path.read_bytes() == data
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_format_is_frozen(tmp_path: Path) -> None:
    """Feature level 1: these digests stand in the manifests of every cluster."""
    rows: Rows = {f"t\0{n:03d}": (None if n % 7 == 0 else b"\xa1x" * n, n + 1, n * 10) for n in range(50)}
    ref, _ = write(tmp_path, rows)
    assert ref.digest.hex() == "7bf726a516df9ad535b98b619126a8e0ba2a9522d85271f836d60740dd2ee30f"
    assert (ref.rows, ref.tombstones, ref.raw_bytes) == (50, 8, 2666)


@pytest.mark.parametrize("read", [Table.verify, Table.check])
def test_every_damaged_byte_is_found(tmp_path: Path, read: Callable[[Table], None]) -> None:
    ref, path = write(tmp_path, some_rows(random.Random(4), 12), 100)
    data = bytearray(path.read_bytes())
    for place in range(len(data)):
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.raises((Corrupt, FormatTooNew), match=path.name):
            read(Table(DISK, str(path), ref))
        data[place] ^= 1 << place % 8


@pytest.mark.parametrize("keep", [0, 7, 8, 60, 111, -105, -104, -1])
def test_a_short_file_is_found(tmp_path: Path, keep: int) -> None:
    ref, path = write(tmp_path, some_rows(random.Random(4), 12), 100)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(Corrupt, match=path.name):
        Table(DISK, str(path), ref)


def test_a_damaged_block_is_not_served_and_its_neighbours_are(tmp_path: Path) -> None:
    rows = some_rows(random.Random(5), 40)
    ref, path = write(tmp_path, rows, 200)
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)
    table = Table(DISK, str(path), ref)
    with pytest.raises(Corrupt, match="offset 8:"):
        get(table, min(rows))
    with pytest.raises(Corrupt, match="offset 8:"):
        list(table.chunks())
    assert get(table, max(rows)) == rows[max(rows)]


def test_another_table_under_this_name_is_refused(tmp_path: Path) -> None:
    ref, path = write(tmp_path, some_rows(random.Random(6), 5))
    _, other = write(tmp_path, some_rows(random.Random(7), 5))
    path.write_bytes(other.read_bytes())
    with pytest.raises(Corrupt, match="holds another table"):
        Table(DISK, str(path), ref)


def test_a_later_format_is_told_apart_from_damage(tmp_path: Path) -> None:
    ref, path = write(tmp_path, some_rows(random.Random(6), 5))
    data = path.read_bytes().replace(b"NEUTAB01", b"NEUTAB02")
    crc = crc32c(data[-FOOTER_BYTES:-12] + data[-8:])
    path.write_bytes(data[:-12] + crc.to_bytes(4, "little") + data[-8:])
    with pytest.raises(FormatTooNew, match="later release"):
        Table(DISK, str(path), ref)


def test_a_peek_is_cold_until_the_block_was_read(tmp_path: Path) -> None:
    rows = some_rows(random.Random(8), 100)
    ref, path = write(tmp_path, rows, 100_000)
    table = Table(DISK, str(path), ref, BlockCache(1 << 20))
    row, other = sorted(rows)[3], sorted(rows)[5]
    assert peek(table, "a") is None and peek(table, "ü\0~") is None
    assert peek(table, row) is COLD
    get(table, other)
    assert peek(table, row) == rows[row]


def test_a_table_is_read_after_its_name_is_gone(tmp_path: Path) -> None:
    rows = some_rows(random.Random(9), 100)
    ref, path = write(tmp_path, rows)
    table = Table(DISK, str(path), ref)
    path.unlink()
    assert [pair for run in table.chunks() for pair in pairs(run)] == in_order(rows)


def test_absent_rows_are_ruled_out_without_a_block(tmp_path: Path) -> None:
    """More blocks than one filter covers; of 2,000 absent rows hardly one makes its block be read."""
    rows: Rows = {f"t\0{number:06d}": (b"v" * 40, number, number) for number in range(4000)}
    ref, path = write(tmp_path, rows, 400)
    cache = BlockCache(1 << 20)
    table = Table(DISK, str(path), ref, cache)
    assert len(list(table.chunks())) > 2 * FILTER_BLOCKS
    absent = [f"{row}-" for row in sorted(rows)[:-1:2]]
    assert all(peek(table, row) is COLD for row in absent[:3])
    assert all(get(table, row) is None for row in absent)
    assert cache.misses < len(absent) / 50
    assert sum(peek(table, row) is None for row in absent) > 0.98 * len(absent), "the loop can tell as well"
    assert all(get(table, row) == rows[row] for row in rows)


def test_a_filter_of_other_rows_is_found(tmp_path: Path) -> None:
    """It would hide rows that are there; its checksum alone doesn't tell."""
    rows = some_rows(random.Random(9), 40)
    ref, path = write(tmp_path, rows, 100_000)
    data, prints = path.read_bytes(), prints_of(sorted(rows))
    other = encode_filter(bytes(len(prints)))
    path.write_bytes(data.replace(encode_filter(prints), other))
    table = Table(DISK, str(path), ref)
    assert get(table, min(rows)) is None
    with pytest.raises(Corrupt, match=f"{path.name}, offset .*: the filter is not that of the rows"):
        table.verify()


def test_a_damaged_filter_rules_nothing_out(tmp_path: Path) -> None:
    rows = some_rows(random.Random(9), 40)
    ref, path = write(tmp_path, rows, 100_000)
    data = bytearray(path.read_bytes())
    data[data.index(prints_of(sorted(rows)))] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="the filter fails its checksum"):
        get(Table(DISK, str(path), ref), min(rows))


def test_the_cache_stays_within_its_bytes_and_keeps_what_is_used(tmp_path: Path) -> None:
    rows = some_rows(random.Random(10), 400)
    ref, path = write(tmp_path, rows)
    cache = BlockCache(20_000)
    table = Table(DISK, str(path), ref, cache)
    first = min(rows)
    for row in sorted(rows):
        assert get(table, row) == rows[row] and get(table, first) == rows[first]
        assert cache.size_bytes <= cache.bytes_max
    assert peek(table, first) == rows[first]
    assert peek(table, sorted(rows)[len(rows) // 2]) is COLD
