"""What a start makes of a log that is not as it was left: torn, damaged, missing, foreign."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from random import Random

import pytest

from neumann.env.files import read_file, write_new
from neumann.errors import Corrupt, StorageFailed, WrongHistory
from neumann.format import names
from neumann.format import segment as segment_format
from neumann.format.frame import Frame
from neumann.format.ids import LogPoint, Timeline
from neumann.format.segment import SEGMENT_HEADER_BYTES, SegmentHeader
from neumann.wal import Log, Synced
from tests.sim.disk import SimDisk
from tests.wal.bench import (
    BASE,
    CLUSTER,
    SEGMENT_BYTES,
    TIMELINE,
    Bench,
    overwrite,
    paths,
    refused,
    run_of,
    three_segments,
)


@pytest.fixture
def bench() -> Bench:
    return three_segments()


def test_a_whole_log(bench: Bench) -> None:
    staged = bench.staged
    recovery = bench.recover()
    assert recovery.cut is None and recovery.strays == () and recovery.base == BASE
    assert bench.staged == staged and [f.header for f in staged] == recovery.headers
    bench.append(".S.", term=4)
    bench.mark()
    bench.recover()


def test_every_flipped_byte_at_or_below_the_mark_is_corruption_and_above_it_a_torn_batch() -> None:
    bench = Bench(SimDisk()).create()
    bench.append(".S2")
    bench.mark()
    bench.append("..")
    bench.log.close()
    mark = bench.mark_file.read()[1]
    good = bench.staged
    disk = bench.disk
    assert isinstance(disk, SimDisk)
    for number, segment in enumerate(bench.log.segments()):
        for offset in range(segment.bytes + 50):
            bench.disk = disk.fork()
            in_trimmed = number == 0 and offset >= segment.bytes
            if in_trimmed:
                break
            bench.disk.flip(segment.path, offset, offset % 8)
            bench.mark_file = Bench(bench.disk).mark_file
            if offset < SEGMENT_HEADER_BYTES:
                assert bench.recover().mended == (segment.path,) and bench.staged == good
                size = SEGMENT_HEADER_BYTES
                assert read_file(bench.disk, segment.path)[:size] == read_file(disk, segment.path)[:size]
                continue
            if number == 0 or offset < mark.offset:
                refused(bench, "once durable")
                _, loss = bench.give_up()
                assert loss.tail in (None, good[-1].header.end)
                assert bench.staged == good[: len(bench.staged)] and bench.log.last.index < mark.index
                assert bench.recover().cut is None
                continue
            recovery = bench.recover()
            assert recovery.cut is not None and recovery.cut.kept
            assert bench.staged == good[: len(bench.staged)] and bench.log.last.index >= mark.index
            assert read_file(bench.disk, recovery.cut.kept[0]).strip(b"\0")
            assert bench.recover().cut is None
            bench.append("..", term=9)


def test_every_length_of_a_file_that_ends_early(bench: Bench) -> None:
    disk = bench.disk
    mark = bench.mark_file.read()[1]
    assert isinstance(disk, SimDisk)
    for number, segment in enumerate(bench.log.segments()):
        for size in range(0, segment.bytes, 7):
            bench.disk = disk.fork()
            bench.mark_file = Bench(bench.disk).mark_file
            overwrite(bench.disk, segment.path, b"", size=size)
            if number < 2 or size < mark.offset:
                refused(bench, "log")
            else:
                bench.recover()
                assert bench.log.last.index in (9, 10)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_segment_at_or_below_the_mark(bench: Bench, number: int) -> None:
    bench.disk.unlink(paths(bench)[number])
    refused(bench, "missing|damaged|sync mark")


def test_a_missing_log(bench: Bench) -> None:
    for path in paths(bench):
        bench.disk.unlink(path)
    assert "entries up to 9 were once durable" in refused(bench, "the log is missing")


def test_the_message_names_file_offset_and_index_range(bench: Bench) -> None:
    path, offset, length = bench.log.locate(3, 6)[0]
    assert isinstance(bench.disk, SimDisk)
    bench.disk.flip(path, offset + length - 1, 0)
    message = refused(bench, r"entries 4\.\.9 are concerned: entries 4\.\.6 at offset 64 fail")
    assert f"{path}, offset {offset}" in message and "neumann-admin" in message


def test_a_body_below_the_manifest_is_left_to_the_scrub(bench: Bench) -> None:
    path, offset, length = bench.log.locate(3, 6)[0]
    assert isinstance(bench.disk, SimDisk)
    bench.disk.flip(path, offset + length - 1, 0)
    bench.manifest_point = bench.staged[4].header.end
    mark = bench.mark_file.read()[1]
    log, _ = Log.recover(
        bench.disk, bench.wal, CLUSTER, TIMELINE, mark, bench.manifest_point, SEGMENT_BYTES, bench.aside
    )
    with pytest.raises(Corrupt):
        log.read_frames(3, 6)


def test_a_torn_batch_is_cut_also_when_valid_frames_follow(bench: Bench) -> None:
    """Bug 10: a batch that a crash had torn could not be repaired, and the node never started again."""
    path, offset, length = bench.log.locate(9, 10)[0]
    overwrite(bench.disk, path, bytes(length), offset)
    recovery = bench.recover()
    assert recovery.cut is not None and bench.log.last.index == 9
    assert (recovery.cut.path, recovery.cut.offset, recovery.cut.first_index) == (path, offset, 10)
    [kept] = recovery.cut.kept
    assert posixpath.dirname(kept) == bench.aside and kept.endswith(f".wal.{offset}.torn")
    copied = read_file(bench.disk, kept)
    assert copied[:length] == bytes(length)
    assert len(copied) == recovery.cut.bytes and copied.strip(b"\0")


def test_segments_behind_a_torn_one_are_set_aside(bench: Bench) -> None:
    bench.recover()
    bench.append(".S.S.", term=2)
    bench.log.close()
    path, offset, _ = bench.log.locate(10, 13)[0]
    later = [posixpath.basename(later) for later in paths(bench)[3:]]
    assert isinstance(bench.disk, SimDisk)
    bench.disk.flip(path, offset, 1)
    recovery = bench.recover()
    assert recovery.cut is not None and bench.log.last.index == 10
    kept = [posixpath.basename(kept) for kept in recovery.cut.kept]
    assert kept == [f"{posixpath.basename(path)}.{offset}.torn", *reversed(later)]
    assert set(kept) == set(bench.disk.list(bench.aside))


def test_what_was_set_aside_before_is_never_replaced(bench: Bench) -> None:
    """Two starts that cut at the same place, or meet the same stray, into one directory (R12)."""
    stray = posixpath.join(bench.wal, names.segment_name(Timeline(7, 7), 1))
    path, offset, _ = bench.log.locate(9, 10)[0]
    for round_ in (b"first", b"second"):
        overwrite(bench.disk, path, round_, offset)
        write_new(bench.disk, stray, round_)
        bench.recover()
        bench.log.close()
    kept = {
        name: read_file(bench.disk, posixpath.join(bench.aside, name))
        for name in bench.disk.list(bench.aside)
    }
    torn = f"{posixpath.basename(path)}.{offset}.torn"
    name = posixpath.basename(stray)
    assert kept.keys() == {name, f"{name}.2", torn, f"{torn}.2"}
    assert (kept[name], kept[f"{name}.2"]) == (b"first", b"second")
    assert kept[torn].startswith(b"first") and kept[f"{torn}.2"] == b"second"


def test_segments_after_a_gap_above_the_mark_are_set_aside(bench: Bench) -> None:
    bench.recover()
    bench.append(".S.S.", term=2)
    bench.log.close()
    bench.disk.unlink(paths(bench)[3])
    recovery = bench.recover()
    assert recovery.cut is not None and bench.log.last.index == 15
    assert bench.disk.list(bench.aside) == [posixpath.basename(path) for path in recovery.cut.kept]


def test_a_segment_whose_creation_was_cut_short_leaves_no_trace(bench: Bench) -> None:
    bench.recover()
    bench.append("S", term=2)
    bench.log.close()
    overwrite(bench.disk, paths(bench)[-1], b"", size=0)
    recovery = bench.recover()
    assert recovery.cut is None and not bench.disk.exists(bench.aside)
    assert len(bench.log.segments()) == 4 and bench.log.segments()[2].sealed
    bench.append(".")


def test_an_empty_segment_that_the_mark_names_is_missing(bench: Bench) -> None:
    bench.recover()
    bench.append("S", term=2)
    bench.mark()
    bench.log.close()
    overwrite(bench.disk, paths(bench)[-1], b"", size=0)
    refused(bench, "lost the segment that the sync mark names")
    assert bench.give_up()[1].tail is None and bench.log.last.index == 14


def test_an_empty_segment_that_is_missing_after_an_orderly_stop_is_made_again(bench: Bench) -> None:
    bench.recover()
    bench.append("S", term=2)
    bench.mark_file.write(bench._mark(bench.log.synced)._replace(clean=True))
    bench.log.close()
    bench.disk.unlink(paths(bench)[-1])
    bench.recover()
    assert bench.log.last.index == 14 and len(bench.log.segments()) == 4


# The bench's log: 1, 2, S3 | 4..6, 7, S8 | 9 (the mark), 10, 11..13. Damage above the manifest:


def test_damage_is_given_up_with_a_copy_and_what_was_acknowledged_behind_it_is_known(bench: Bench) -> None:
    path, offset, _ = bench.log.locate(6, 7)[0]
    end = bench.log.last
    assert isinstance(bench.disk, SimDisk)
    bench.disk.flip(path, offset + 20, 0)
    recovery, loss = bench.give_up()
    assert loss.tail == end and loss.end.point.index == 6 and "entries 7..9 are concerned" in loss.text
    assert bench.log.last.index == 6 and recovery.cut is not None and len(recovery.cut.kept) == 2
    assert recovery.before == () and bench.recover().cut is None
    bench.append("..", term=5)
    bench.mark()
    bench.recover()


def test_what_ends_below_the_mark_leaves_unknown_what_followed_it(bench: Bench) -> None:
    """Zeros in place of the end, a shorter file, and a file that is gone: nothing shows how far it went."""
    path, offset, _ = bench.log.locate(8, 9)[0]
    disk = bench.disk
    assert isinstance(disk, SimDisk)
    for damage in ("zeros", "short", "gone"):
        bench.disk = disk.fork()
        bench.mark_file = Bench(bench.disk).mark_file
        if damage == "gone":
            bench.disk.unlink(path)
        else:
            overwrite(bench.disk, path, b"", size=offset)
            overwrite(bench.disk, path, b"", size=offset if damage == "short" else 4096)
        _, loss = bench.give_up()
        assert loss.tail is None and bench.log.last.index == 8
        assert bench.recover().cut is None


def test_after_an_orderly_stop_nothing_followed_the_mark(bench: Bench) -> None:
    bench.recover()
    bench.mark_file.write(bench._mark(bench.log.synced)._replace(clean=True))
    end = bench.log.last
    bench.log.close()
    bench.disk.unlink(paths(bench)[2])
    assert bench.give_up()[1].tail == end


# Other segments, marks and manifests:


def test_segments_of_another_timeline_are_set_aside(bench: Bench) -> None:
    stray = names.segment_name(Timeline(7, 7), 1)
    write_new(bench.disk, posixpath.join(bench.wal, stray), b"whatever")
    write_new(bench.disk, posixpath.join(bench.wal, "notes.txt"), b"not ours")
    recovery = bench.recover()
    assert recovery.strays == (stray,) and recovery.cut is None
    assert bench.disk.list(bench.aside) == [stray] and "notes.txt" in bench.disk.list(bench.wal)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header._replace(cluster_id=b"x" * 16),
        lambda header: header._replace(timeline=Timeline(1, 5)),
    ],
)
def test_a_segment_of_another_cluster_is_refused(
    bench: Bench, change: Callable[[SegmentHeader], SegmentHeader]
) -> None:
    path = paths(bench)[1]
    header = segment_format.decode_header(read_file(bench.disk, path), path)
    overwrite(bench.disk, path, segment_format.encode_header(change(header)))
    with pytest.raises(WrongHistory) as failure:
        bench.recover()
    assert path in str(failure.value) and CLUSTER.hex() in str(failure.value)


def test_a_mark_of_another_disk_is_refused(bench: Bench) -> None:
    mark = bench.mark_file.read()[1]
    for wrong in (mark._replace(chain=1), mark._replace(term=3), mark._replace(offset=mark.offset - 1)):
        bench.mark_file.write(wrong)
        refused(bench, "where the sync mark names one")


def test_a_manifest_of_another_node_is_refused(bench: Bench) -> None:
    bench.manifest_point = LogPoint(6, 1, 12345)
    refused(bench, "where the store's manifest names one")
    bench.manifest_point = bench.staged[3].header.end._replace(index=5)
    refused(bench, "where the store's manifest names one")


def test_a_log_that_begins_behind_the_manifest_is_refused(bench: Bench) -> None:
    bench.recover()
    bench.drop(8)
    bench.manifest_point = bench.staged[0].header.end._replace(index=2)
    refused(bench, "begins behind the store's newest manifest")


def test_a_mark_below_the_log_is_no_harm_where_the_manifest_reaches(bench: Bench) -> None:
    mark = bench.log.place(2)
    bench.recover()
    bench.drop(8)
    bench.mark(mark)
    bench.log.close()
    assert bench.recover().base.index == 8


@pytest.mark.parametrize("behind", ["", ".3"])
def test_a_mark_at_the_end_of_the_segment_that_was_dropped_last(behind: str) -> None:
    """Bug: the log before the mark's entry was dropped while the mark still named the end of the segment it
    was in, and not yet the next one; after a crash the log was taken for another disk's, and refused."""
    bench = Bench(SimDisk()).create()
    bench.append(".2S" + behind)
    sealed = bench.log.segments()[0]
    end = bench.log.end_at(4)
    assert end is not None and sealed.last_index == 4
    mark = Synced(sealed.first_index, sealed.bytes, end)
    bench.drop(4)
    bench.mark(mark)
    bench.log.close()
    recovery = bench.recover()
    assert recovery.base == end and recovery.cut is None
    bench.mark(mark._replace(point=end._replace(chain=1)))
    refused(bench, "where the sync mark names one")
    bench.mark(mark._replace(segment_first=5, offset=mark.offset))  # of the segment that is there
    refused(bench, "where the sync mark names one")


def test_frames_of_a_lost_truncation_do_not_come_back(bench: Bench) -> None:
    """A new frame over an old one's place, and old bytes behind it: they must not be read as its tail."""
    bench.recover()
    bench.append("9")
    bench.append(".", term=2, after=10)
    bench.log.close()
    path, offset, _ = bench.log.locate(10, 11)[0]
    assert not any(read_file(bench.disk, path)[offset + 48 + 45 :])
    bench.recover()
    assert bench.log.last == run_of(bench.staged[-2].header.end, ".", 2)[0].header.end


@pytest.mark.parametrize("kinds", [".3.", ".S3", "S"])
def test_frames_whose_sync_failed_are_written_again_before_they_are_trusted(kinds: str) -> None:
    """A node restarted after a failed fsync found its frames in the page cache, synced pages that the
    system took for clean, acknowledged them, and lost them with the next power failure."""
    disk = SimDisk()
    bench = Bench(disk).create()
    bench.append("..3")
    bench.mark()
    bench.stage(kinds)
    disk.fail_sync(".wal")
    with pytest.raises(StorageFailed):
        bench.write()
    disk = disk.kill()
    restarted = _again(disk)
    assert bench.staged[: len(restarted)] == restarted
    assert _again(disk.crash(Random(1))) == restarted


def _again(disk: SimDisk) -> list[Frame]:
    """The frames of the log as the next process finds them."""
    bench = Bench(disk)
    mark = bench.mark_file.repair()
    bench.log, _ = Log.recover(
        disk, bench.wal, CLUSTER, TIMELINE, mark, bench.manifest_point, SEGMENT_BYTES, bench.aside
    )
    return bench.held()


def test_a_seal_without_its_next_segment_gets_one(bench: Bench) -> None:
    bench.recover()
    bench.append("S", term=2)
    bench.log.close()
    bench.disk.unlink(paths(bench)[-1])
    bench.recover()
    assert [segment.sealed for segment in bench.log.segments()] == [True, True, True, False]
    assert bench.log.synced == (15, SEGMENT_HEADER_BYTES, bench.log.last)


def test_what_a_manifest_shows_to_have_been_durable_is_not_torn_though_the_mark_is_behind() -> None:
    """The mark is up to 20 ms late. With the manifest before as the point to reach, a log that was damaged at
    the newest one's place would have been cut there without a floor, as a torn batch."""
    disk = SimDisk()
    bench = Bench(disk).create()
    bench.append("..m.")
    bench.log.close()
    marker = bench.staged[2].header
    path, offset = bench.log.locate(marker.first_index - 1, marker.last_index)[0][:2]
    disk.flip(path, offset + 1, 0)
    _, loss = bench.give_up(durable_index=marker.last_index)
    assert loss.tail is None and loss.end.point == bench.log.last
    assert bench.log.last.index == marker.first_index - 1
