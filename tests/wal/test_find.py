"""Where a start takes up a log that is damaged below the newest manifest, or below the mark (wal/find.py)."""

from __future__ import annotations

import posixpath

import pytest

from neumann.env.files import read_file
from neumann.format import names
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.wal import Synced
from neumann.wal.front import read_front
from tests.sim.disk import SimDisk
from tests.wal.bench import TIMELINE, Bench, overwrite, paths, refused, three_segments


@pytest.fixture
def bench() -> Bench:
    return three_segments()


@pytest.mark.parametrize("manifest", [8, 9, 10, 13])
@pytest.mark.parametrize("damage", ["header", "gone"])
def test_a_segment_before_the_manifests_is_passed_over(bench: Bench, manifest: int, damage: str) -> None:
    first, second, third = paths(bench)
    end = bench.log.last
    bench.manifest_point = next(f.header.end for f in bench.staged if f.header.last_index == manifest)
    if damage == "gone":
        bench.disk.unlink(second)
    else:
        assert isinstance(bench.disk, SimDisk)
        bench.disk.flip(second, SEGMENT_HEADER_BYTES + 3, 0)
    recovery = bench.recover()
    assert recovery.before == ((first,) if damage == "gone" else (first, second)) and recovery.cut is None
    assert (bench.log.base.index, bench.log.last) == (8, end)
    assert [segment.path for segment in bench.log.segments()] == [third]


def test_the_log_is_taken_up_at_the_manifests_point_behind_damage_in_its_own_segment(bench: Bench) -> None:
    """Each byte before the manifest's point in its file, save for bodies, which the scrub reads."""
    bench.recover()
    bench.append("..", term=2)
    bench.mark()
    bench.log.close()
    disk, end = bench.disk, bench.log.last
    bench.manifest_point = next(f.header.end for f in bench.staged if f.header.last_index == 10)
    path, start, _ = bench.log.locate(8, 9)[0]
    _, last, _ = bench.log.locate(9, 10)[0]
    assert isinstance(disk, SimDisk)
    for offset in (*range(start, start + 48), *range(last, last + 48)):
        bench.disk = disk.fork()
        bench.disk.flip(path, offset, 0)
        bench.mark_file = Bench(bench.disk).mark_file
        recovery = bench.recover()
        assert recovery.before == tuple(paths_before(bench)) and recovery.cut is None
        assert (bench.log.base, bench.log.last) == (bench.manifest_point, end)
        assert not bench.log.segments()[0].sealed
        bench.append(".S.", term=3)
        bench.mark()
        assert not bench.log.segments()[0].sealed and bench.log.segments()[1].first_index == 18
        again = bench.recover()
        assert again.base == bench.manifest_point and bench.log.last.index == 18


def sealed_at_the_manifest(bench: Bench, behind: str) -> tuple[str, int, int]:
    """The log ends with a seal that the manifest names, and of the next segment nothing is durable: it waited
    for room. Its file is "gone" or "empty". (path, offset, end) of the seal."""
    bench.recover()
    bench.append("S", term=2)
    bench.manifest_point = bench.log.last
    path, offset, length = bench.log.locate(13, 14)[0]
    bench.mark(Synced(9, offset + length, bench.log.last))
    bench.log.close()
    if behind == "gone":
        bench.disk.unlink(paths(bench)[-1])
    else:
        overwrite(bench.disk, paths(bench)[-1], b"", size=0)
    return path, offset, offset + length


@pytest.mark.parametrize("behind", ["gone", "empty"])
def test_a_seal_at_the_manifests_point_ends_its_segment_behind_damage_too(bench: Bench, behind: str) -> None:
    """Bug: where the next segment was not there yet, the log was gone on with in the sealed file, behind its
    seal: no other node has a file like that, so that its damage was not mended (seed 1011256 at the time)."""
    path, _, end = sealed_at_the_manifest(bench, behind)
    good = read_file(bench.disk, path)
    overwrite(bench.disk, path, b"X", offset=SEGMENT_HEADER_BYTES + 3)
    recovery = bench.recover()
    assert recovery.before == tuple(paths_before(bench)) and recovery.cut is None
    assert bench.log.base == bench.log.last == bench.manifest_point
    bench.append(".S.", term=3)
    assert bench.disk.stat(path).size_bytes == end == len(good)
    assert [(s.first_index, s.sealed) for s in bench.log.segments()] == [(9, False), (15, True), (17, False)]
    assert bench.log.sealed_end(9) == bench.manifest_point
    assert bench.recover().cut is None

    overwrite(bench.disk, path, good)
    assert bench.log.take_front(read_front(bench.disk, bench.wal, TIMELINE, bench.log.oldest()))
    assert [s.sealed for s in bench.log.segments()] == [True] * 4 + [False]
    assert bench.held()[0].header.first_index == 1


@pytest.mark.parametrize("at", ["header", "body"])
def test_whether_a_segment_was_sealed_at_the_manifests_point_is_not_guessed(bench: Bench, at: str) -> None:
    """Each byte of the frame there: the next segment's name still tells it; without that nothing does."""
    path, offset, end = sealed_at_the_manifest(bench, "empty")
    disk = bench.disk
    assert isinstance(disk, SimDisk)
    for place in range(offset, offset + 48) if at == "header" else range(offset + 48, end):
        bench.disk = disk.fork()
        bench.disk.flip(path, place, 0)
        bench.mark_file = Bench(bench.disk).mark_file
        bench.recover()
        assert bench.log.base == bench.manifest_point
        assert [segment.first_index for segment in bench.log.segments()] == [9, 15]
        bench.disk = disk.fork()
        bench.disk.flip(path, place, 0)
        bench.disk.unlink(f"{bench.wal}/{names.segment_name(TIMELINE, 15)}")
        bench.mark_file = Bench(bench.disk).mark_file
        refused(bench, "can't be taken up behind it")


def test_what_was_acknowledged_behind_a_seal_that_the_mark_names_is_known(bench: Bench) -> None:
    """Bug: the floor was put at the seal. The mark, which is late, named it since the next segment had waited
    for room, and frames were acknowledged there since (R8)."""
    bench.recover()
    bench.append("S", term=2)
    path, offset, length = bench.log.locate(13, 14)[0]
    bench.mark(Synced(9, offset + length, bench.log.last))
    bench.append(".S.3", term=2)
    end = bench.log.last
    bench.log.close()
    assert isinstance(bench.disk, SimDisk)
    bench.disk.flip(path, SEGMENT_HEADER_BYTES + 3, 0)
    assert bench.give_up()[1].tail == end and bench.log.last.index == 8


def paths_before(bench: Bench) -> list[str]:
    directory = [posixpath.join(bench.wal, name) for name in bench.disk.list(bench.wal)]
    return [path for path in directory if path < bench.log.segments()[0].path]
