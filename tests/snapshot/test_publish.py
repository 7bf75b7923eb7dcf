"""Publishing: whole or not at all, at every crash point; mended after `find -delete`; copies recognised."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.env.doors import Disk, Files
from neumann.env.files import read_file
from neumann.errors import Corrupt, NotFound
from neumann.format import manifest as manifest_format
from neumann.format.command import row_key
from neumann.format.ids import LogPoint
from neumann.format.manifest import Manifest
from neumann.format.names import Paths
from neumann.recovery.formation import empty_base
from neumann.snapshot import publish as publishing
from neumann.snapshot.publish import audit, list_published, newest_complete, open_published, publish
from neumann.snapshot.verify import open_view, verify_snapshot
from neumann.store.table_writer import write_table
from tests.sim.disk import SimCrash, SimDisk

DISK = RealDisk()


def snapshot(disk: Disk, paths: Paths, index: int, rows: int = 50) -> Manifest:
    """A manifest at that index, with two tables that lie in store/."""
    disk.make_dirs(paths.store)
    base = empty_base("n1", "h:1", b"s" * 16, 1, b"c" * 16, 7, 1024)
    refs = []
    for part in range(2):
        keys = sorted(row_key("t", f"{part}-{number}") for number in range(rows))
        ref = write_table(disk, paths.store, [(k, (b"\x01", index, index)) for k in keys], 1024)
        assert ref is not None
        refs.append(ref)
    return base._replace(point=LogPoint(index, 1, index), time_ns=index, tables=tuple(refs))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    DISK.make_dirs(f"{tmp_path}/n1")
    return Paths(f"{tmp_path}/n1")


def test_a_published_snapshot_is_self_contained(paths: Paths) -> None:
    manifest = snapshot(DISK, paths, 10)
    directory = publish(DISK, paths, manifest)
    assert publish(DISK, paths, manifest) == directory
    latest = Path(paths.snapshots, "latest")
    assert latest.is_symlink() and str(latest.readlink()) == "10-1"
    copy = f"{paths.root}-copy"
    shutil.copytree(directory, copy)
    shutil.rmtree(paths.store)
    summary = verify_snapshot(DISK, copy)
    assert (summary.id, summary.rows, summary.tables) == ("10-1", 100, 2)
    assert open_view(DISK, copy, open_published(DISK, copy)).count() == 100


def test_tables_are_links_and_latest_names_the_newest(paths: Paths) -> None:
    newer, older = snapshot(DISK, paths, 20, 60), snapshot(DISK, paths, 10)
    publish(DISK, paths, newer)
    publish(DISK, paths, older, asked=True)
    found = list_published(DISK, paths.snapshots)
    assert [(p.id, p.complete, p.asked) for p in found] == [("20-1", True, False), ("10-1", True, True)]
    assert Path(paths.snapshots, "latest").resolve().name == "20-1"
    table = next(Path(paths.snapshots, "20-1").glob("*.table"))
    assert table.stat().st_nlink == 2


def test_latest_names_the_newest_that_is_complete_and_older_ones_are_not_read(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing read each published manifest, with all sessions in it, to find the newest."""
    for index in (9, 10, 20, 100):
        publish(DISK, paths, snapshot(DISK, paths, index))
    latest = Path(paths.snapshots, "latest")
    next(Path(paths.snapshots, "100-1").glob("*.table")).unlink()
    read: list[str] = []

    def read_and_tell(disk: Files, path: str) -> bytes:
        read.append(Path(path).parent.name)
        return read_file(disk, path)

    monkeypatch.setattr(publishing, "read_file", read_and_tell)
    publish(DISK, paths, snapshot(DISK, paths, 15))
    assert str(latest.readlink()) == "20-1" and read == ["100-1", "20-1"]
    shutil.copytree(latest.resolve(), Path(paths.snapshots, "by-hand"))
    shutil.rmtree(latest.resolve())
    publish(DISK, paths, snapshot(DISK, paths, 15))
    assert str(latest.readlink()) == "by-hand"


@pytest.mark.parametrize("again", [publish, audit])
def test_a_snapshot_of_another_cluster_under_the_same_name_is_not_taken_for_the_own(
    paths: Paths, again: Callable[[Disk, Paths, Manifest], object]
) -> None:
    """A copy of another cluster's snapshot with this index and term was called published, with the node's
    tables linked into it: an answer then named a holder that had nothing."""
    own, theirs = snapshot(DISK, paths, 10), Paths(f"{paths.root}-other")
    foreign = snapshot(DISK, theirs, 10)._replace(time_ns=11)
    publish(DISK, theirs, foreign)
    for name, content in (("10-1.1", foreign), ("10-1.2", foreign)):
        shutil.copytree(f"{theirs.snapshots}/10-1", f"{paths.snapshots}/10-1")
        again(DISK, paths, own)
        again(DISK, paths, own)
        assert open_published(DISK, f"{paths.snapshots}/10-1") == own
        assert open_published(DISK, f"{paths.snapshots}/{name}") == content
        assert str(Path(paths.snapshots, "latest").readlink()) == "10-1"
        [listed] = list_published(DISK, paths.snapshots)
        assert listed.path == f"{paths.snapshots}/10-1"
        shutil.rmtree(f"{paths.snapshots}/10-1")
    Path(paths.snapshots, "10-1").write_bytes(b"a note")
    again(DISK, paths, own)
    assert open_published(DISK, f"{paths.snapshots}/10-1") == own
    assert Path(paths.snapshots, "10-1.3").read_bytes() == b"a note"


def test_every_crash_point_leaves_a_whole_snapshot_or_none() -> None:
    paths = Paths("/n1")
    model = SimDisk()
    manifest = snapshot(model, paths, 10)
    begin = model.operations
    publish(model.fork(), paths, manifest)
    seen = set()
    for step in range(40):
        disk = model.fork()
        disk.crash_at = begin + step
        try:
            publish(disk, paths, manifest)
            break
        except SimCrash:
            disk = disk.crash(random.Random(step))
        newest = newest_complete(disk, paths.snapshots)
        seen.add(newest is not None)
        for published in list_published(disk, paths.snapshots):
            assert published.complete
            verify_snapshot(disk, published.path)
        publish(disk, paths, manifest)
        audit(disk, paths, manifest)
        assert read_file(disk, f"{paths.snapshots}/latest/manifest") == manifest_format.encode(manifest)
        assert sorted(disk.list(paths.snapshots)) == ["10-1", "latest"]
    assert seen == {True, False}


def test_find_delete_takes_files_out_and_the_audit_brings_them_back(paths: Paths) -> None:
    manifest = snapshot(DISK, paths, 10)
    directory = Path(publish(DISK, paths, manifest))
    assert audit(DISK, paths, manifest) == 0
    next(directory.glob("*.table")).unlink()
    (found,) = list_published(DISK, paths.snapshots)
    assert not found.complete and "1 of its 2 tables" in found.damage
    with pytest.raises(Corrupt):
        open_published(DISK, str(directory))
    assert audit(DISK, paths, manifest) == 1
    directory.joinpath("manifest").unlink()
    assert newest_complete(DISK, paths.snapshots) is None
    assert audit(DISK, paths, manifest) == 1
    shutil.rmtree(paths.snapshots)
    assert audit(DISK, paths, manifest) == 3
    verify_snapshot(DISK, str(directory))


def test_copies_as_people_make_them_are_recognised(paths: Paths, tmp_path: Path) -> None:
    manifest = snapshot(DISK, paths, 10)
    directory = publish(DISK, paths, manifest)
    flat = tmp_path / "flat"
    shutil.copytree(directory, flat)
    (found,) = list_published(DISK, str(flat))
    assert (found.id, found.path, found.complete) == ("10-1", str(flat), True)
    named = tmp_path / "named"
    shutil.copytree(directory, named / "monday")
    shutil.copytree(directory, named / "10-1")
    next((named / "10-1").glob("*.table")).unlink()
    (found,) = list_published(DISK, str(named))
    assert (found.id, found.path) == ("10-1", str(named / "monday"))
    with pytest.raises(NotFound):
        open_published(DISK, str(named))


def test_a_damaged_table_or_manifest_is_found(paths: Paths) -> None:
    directory = Path(publish(DISK, paths, snapshot(DISK, paths, 10)))
    for path in sorted(directory.iterdir()):
        good = path.read_bytes()
        for offset in range(0, len(good), 37):
            path.write_bytes(good[:offset] + bytes([good[offset] ^ 4]) + good[offset + 1 :])
            with pytest.raises(Corrupt, match=path.name):
                verify_snapshot(DISK, str(directory))
        path.write_bytes(good)
    verify_snapshot(DISK, str(directory))
