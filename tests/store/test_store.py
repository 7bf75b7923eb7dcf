"""The store against a dictionary: newest place wins, views hold still, nothing cold is guessed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.errors import Corrupt
from neumann.format import names
from neumann.format.ids import LogPoint
from neumann.format.table import Version
from neumann.store.memtable import Frozen
from neumann.store.store import COLD, Store
from neumann.store.table_writer import write_table
from neumann.store.view import View
from tests.store.rows import HISTORY, Rows, in_order, live, manifest_of, some_rows

DISK = RealDisk()


def flushed(directory: str, store: Store, frozen: Frozen) -> None:
    """What a checkpoint does to a store, without merging."""
    ref = write_table(DISK, directory, in_order(frozen.rows), 256)
    tables = (ref, *store.manifest.tables) if ref else store.manifest.tables
    store.adopt(manifest_of(*tables)._replace(point=frozen.point))


def check_reads(store: Store, view: View, model: Rows, rng: random.Random) -> None:
    for row in rng.choices([*model, "t\0none", "a", "zz"], k=20):
        expected = model.get(row)
        assert store.peek(row) in (expected, COLD)
        assert store.get(row) == view.get(row) == expected
        assert store.peek(row) == expected, "what was read is cached"
    assert view.scan() == live(model)
    bounds = ["", *rng.choices([*model, "a", "t\0", "zz"], k=3)]
    for start in bounds:
        for stop in [*bounds, None]:
            expected_rows = [p for p in live(model) if start <= p[0] and (stop is None or p[0] < stop)]
            limit = rng.choice([None, 0, 1, 5, 2000])
            assert view.scan(start, stop, limit) == expected_rows[:limit]
            assert view.scan(start, stop, limit, reverse=True) == expected_rows[::-1][:limit]
            assert view.count(start, stop) == len(expected_rows)


@pytest.mark.parametrize("seed", range(6))
def test_reads_against_a_dictionary(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    store = Store.open(DISK, str(tmp_path), manifest_of(), 1 << 20)
    model: Rows = {}
    waiting: list[Frozen] = []
    held: list[tuple[View, Rows]] = []
    revision = 0
    for step in range(60):
        rows = some_rows(rng, rng.randrange(12), revision)
        revision += len(rows) + 1
        store.active.rows.update(rows)
        model.update(rows)
        if rng.random() < 0.4:
            waiting.append(store.freeze(LogPoint(revision, 1, revision), revision))
            assert not store.active.rows and store.backlog == len(waiting)
        if waiting and rng.random() < 0.6:
            flushed(str(tmp_path), store, waiting.pop(0))
            assert store.backlog == len(waiting)
        if rng.random() < 0.1:
            held.append((store.view(), dict(model)))
        if step % 10 == 9:
            check_reads(store, store.view(), model, rng)
    for name in tmp_path.iterdir():
        name.unlink()
    for view, then in held:
        assert view.scan() == live(then), "a view holds still, also when its files are gone"


def test_the_content_digest_does_not_depend_on_files(tmp_path: Path) -> None:
    rng = random.Random(7)
    model: Rows = {}
    store = Store.open(DISK, str(tmp_path), manifest_of(), 0)
    for index in range(1, 6):
        rows = some_rows(rng, 30, 100 * index)
        model.update(rows)
        store.active.rows.update(rows)
        flushed(str(tmp_path), store, store.freeze(LogPoint(index, 1, index), index))
    without_times: Rows = {row: (v[0], v[1], 0) for row, v in model.items() if v[0] is not None}
    in_memory = View(without_times, (), ())
    assert store.view().content_digest() == in_memory.content_digest()
    row, (value, revision, _) = next(iter(without_times.items()))
    changes: list[Version] = [(value, revision + 1, 0), (b"\x00", revision, 0), (None, 0, 0)]
    for change in changes:
        other = View(without_times | {row: change}, (), ())
        assert other.content_digest() != in_memory.content_digest()


def test_the_content_digest_is_frozen() -> None:
    """People compare it between releases: a restore with its source."""
    view = View({"t\0a": (b"\x01", 5, 9), "t\0b": (None, 6, 9), "u\0é": (b"\xa1x", 7, 9)}, (), ())
    assert view.content_digest().hex() == "e07b65583f2c6da29d528be596effb9c308c3158bfed18bea12b59c2121f48e9"


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    ref = write_table(DISK, str(tmp_path), in_order(some_rows(random.Random(1), 5)), 256)
    assert ref is not None
    (tmp_path / names.table_name(ref.digest)).unlink()
    with pytest.raises(Corrupt, match=f"{ref.name}.* is missing"):
        Store.open(DISK, str(tmp_path), manifest_of(ref, index=5), 0)


def test_collect_leaves_what_somebody_needs(tmp_path: Path) -> None:
    refs = []
    for seed in range(3):
        ref = write_table(DISK, str(tmp_path), in_order(some_rows(random.Random(seed), 5)), 256)
        assert ref is not None
        refs.append(ref)
    (tmp_path / "other").touch()
    store = Store.open(DISK, str(tmp_path), manifest_of(refs[0], index=5), 0)
    assert store.collect({refs[1].digest}) == [names.table_name(refs[2].digest)]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {names.table_name(refs[0].digest), names.table_name(refs[1].digest), "other"}


def test_a_new_store_begins_behind_its_manifest(tmp_path: Path) -> None:
    store = Store.open(DISK, str(tmp_path), manifest_of(), 0)
    assert store.active.first == HISTORY.base and store.backlog == 0 and store.tables == ()
