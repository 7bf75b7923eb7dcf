"""Manifest files: the newest usable one is loaded, damage is named, two are kept."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.errors import Corrupt
from neumann.format import names
from neumann.format.manifest import Manifest
from neumann.store.manifests import kept_manifests, load_newest, remove_old, write_manifest
from neumann.store.table_writer import write_table
from tests.store.rows import in_order, manifest_of, some_rows

DISK = RealDisk()


def written(directory: Path, *indexes: int) -> list[Manifest]:
    made = []
    for index in indexes:
        ref = write_table(DISK, str(directory), in_order(some_rows(random.Random(index), 5)), 256)
        assert ref is not None
        made.append(manifest_of(ref, index=index))
        write_manifest(DISK, str(directory), made[-1])
    return made


def test_the_newest_is_loaded_by_number_and_not_by_name(tmp_path: Path) -> None:
    assert load_newest(DISK, str(tmp_path)) is None
    assert load_newest(DISK, str(tmp_path / "missing")) is None
    made = written(tmp_path, 9, 10, 100)
    assert load_newest(DISK, str(tmp_path)) == made[-1]
    assert kept_manifests(DISK, str(tmp_path)) == [made[2], made[1]]


def test_two_are_kept(tmp_path: Path) -> None:
    written(tmp_path, 9, 10, 100, 101)
    remove_old(DISK, str(tmp_path))
    assert {path.name for path in tmp_path.glob("*.manifest")} == {"100-1.manifest", "101-1.manifest"}


@pytest.mark.parametrize("damage", ["manifest", "table"])
def test_one_that_is_damaged_or_lacks_a_table_is_passed_over(tmp_path: Path, damage: str) -> None:
    older, newest = written(tmp_path, 9, 10)
    if damage == "table":
        gone = tmp_path / names.table_name(newest.tables[0].digest)
        gone.unlink()
    else:
        gone = tmp_path / names.manifest_name(10, 1)
        gone.write_bytes(gone.read_bytes()[:-1] + b"?")
    assert load_newest(DISK, str(tmp_path)) == older
    (tmp_path / names.manifest_name(9, 1)).unlink()
    with pytest.raises(Corrupt, match=gone.name) as refused:
        load_newest(DISK, str(tmp_path))
    assert refused.value.detail == {"path": str(gone)}
