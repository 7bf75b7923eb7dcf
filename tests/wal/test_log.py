"""The log as long as nothing breaks: staging, batches, segments, reading, dropping."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.errors import Corrupt, Unavailable
from neumann.format import names
from neumann.format.frame import decode_run
from neumann.format.ids import LogPoint
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.format.segment import decode_header as decode_segment_header
from neumann.wal.front import end_before, read_front
from neumann.wal.segment import SegmentInfo
from tests.sim.disk import SimDisk
from tests.wal.bench import BASE, CLUSTER, ROOT, TIMELINE, Bench, data_frame


@pytest.fixture(params=["real", "simulated"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    disk: Disk = RealDisk() if request.param == "real" else SimDisk()
    return Bench(disk, str(tmp_path) if request.param == "real" else ROOT).create()


def sealed_flags(bench: Bench) -> list[bool]:
    return [segment.sealed for segment in bench.log.segments()]


def test_an_empty_log(bench: Bench) -> None:
    log = bench.log
    assert log.base == log.last == BASE and log.take_batch() is None
    assert log.synced == (1, SEGMENT_HEADER_BYTES, BASE)
    assert log.end_at(0) == BASE and log.end_at(1) is None
    assert log.drop_before(100) is None
    [segment] = log.segments()
    assert segment.bytes == SEGMENT_HEADER_BYTES
    assert segment.name == names.segment_name(TIMELINE, 1) and not segment.sealed
    assert (segment.first_index, segment.last_index) == (1, 0)
    header = decode_segment_header(read_file(bench.disk, segment.path), segment.path)
    assert header == (CLUSTER, TIMELINE, 1, BASE.term, BASE.chain)


def test_frames_are_on_disk_as_they_came(bench: Bench) -> None:
    bench.append("..3.m5")
    [segment] = bench.log.segments()
    data = read_file(bench.disk, segment.path)
    frames = b"".join(frame.data for frame in bench.staged)
    assert data[SEGMENT_HEADER_BYTES : SEGMENT_HEADER_BYTES + len(frames)] == frames
    assert not any(data[SEGMENT_HEADER_BYTES + len(frames) :])
    assert bench.log.synced == (1, segment.bytes, bench.log.last)
    assert segment.bytes == SEGMENT_HEADER_BYTES + len(frames)


def test_one_batch_takes_all_that_was_staged(bench: Bench) -> None:
    bench.stage("..")
    bench.stage("3")
    batch = bench.log.take_batch()
    assert batch is not None and batch.lower_to is None and bench.log.take_batch() is None
    bench.stage(".")
    assert bench.log.synced.point == BASE
    assert batch.run().point == bench.staged[2].header.end
    bench.write()
    assert bench.log.synced.point == bench.log.last == bench.staged[3].header.end


def test_a_seal_ends_its_segment(bench: Bench) -> None:
    bench.append("..S.2S")
    assert sealed_flags(bench) == [True, True, False]
    first, second, third = bench.log.segments()
    assert [s.first_index for s in (first, second, third)] == [1, 4, 8]
    assert [s.last_index for s in (first, second, third)] == [3, 7, 7]
    assert (first.first_time_ns, first.last_time_ns, second.first_time_ns) == (1, 3, 4)
    assert bench.disk.stat(first.path).size_bytes == first.bytes, "a sealed segment is trimmed"
    assert bench.log.synced == (8, SEGMENT_HEADER_BYTES, bench.staged[-1].header.end)
    header = decode_segment_header(read_file(bench.disk, second.path), second.path)
    assert header.previous == bench.staged[2].header.end


def test_a_segment_counts_as_sealed_when_the_next_one_is_durable(bench: Bench) -> None:
    bench.stage("..S")
    assert sealed_flags(bench) == [False, False]
    bench.write()
    assert sealed_flags(bench) == [True, False]


def test_segments_grow_beyond_their_size_without_a_seal(bench: Bench) -> None:
    for _ in range(60):
        bench.append("9")
    [segment] = bench.log.segments()
    assert segment.bytes > 4 * 4096 and bench.disk.stat(segment.path).size_bytes >= segment.bytes
    bench.log.close()
    bench.recover()
    assert bench.log.last.index == 540


@pytest.mark.parametrize("after", [0, 1, 2, 3, 6, 7, 8])
def test_truncation_across_seals(bench: Bench, after: int) -> None:
    """Truncating a seal must open its segment again, and unlink those behind it."""
    bench.append("..S3SS.")
    bench.mark()
    bench.append("..S.", term=2, after=after)
    assert [frame.header.end for frame in bench.held()] == [f.header.end for f in bench.staged]
    assert bench.disk.list(bench.wal) == [segment.name for segment in bench.log.segments()]
    bench.mark()
    bench.log.close()
    staged = bench.staged
    assert bench.recover().cut is None
    assert bench.staged == staged
    bench.append("S.", term=3)


def test_truncation_of_what_was_never_taken(bench: Bench) -> None:
    bench.append("..")
    bench.stage("3S..")
    bench.stage("..", term=2, after=5)
    bench.stage("S4", term=3, after=6)
    batch = bench.log.take_batch()
    assert batch is not None and batch.lower_to is not None and batch.lower_to.point.index == 5
    bench.write(batch)
    assert bench.held() == bench.staged and bench.log.last.term == 3


def test_truncation_at_the_end_changes_nothing(bench: Bench) -> None:
    bench.append("..")
    bench.log.stage((), truncate_after=2)
    assert bench.log.take_batch() is None


def test_programmer_errors_are_caught(bench: Bench) -> None:
    bench.append(".3")
    with pytest.raises(AssertionError):
        bench.log.stage((data_frame(LogPoint(9, 1, 1)),))
    with pytest.raises(AssertionError):
        bench.log.stage((data_frame(LogPoint(4, 1, 12345)),))
    with pytest.raises(AssertionError):
        bench.log.stage((), truncate_after=2)
    with pytest.raises(AssertionError):
        bench.log.stage((), truncate_after=5)


@pytest.mark.parametrize(("after", "last"), [(0, 2), (2, 4), (-1, 1), (3, 5), (7, 9), (0, 9)])
def test_what_are_no_whole_frames_is_refused(bench: Bench, after: int, last: int) -> None:
    bench.append(".3S.")
    with pytest.raises(Unavailable, match="not whole frames"):
        bench.log.read(after, last)
    with pytest.raises(Unavailable, match="not whole frames"):
        bench.log.locate(after, last)


def test_lookups(bench: Bench) -> None:
    bench.append("1.3S2")
    ends = [frame.header.end for frame in bench.staged]
    assert [point.index for point in ends] == [1, 2, 5, 6, 8]
    for index in range(-1, 10):
        expected = next((point for point in [BASE, *ends] if point.index == index), None)
        assert bench.log.end_at(index) == expected
    for index, before in [(1, 0), (2, 1), (3, 2), (5, 2), (6, 5), (7, 6), (8, 6), (9, 8), (50, 8)]:
        assert bench.log.point_before(index).index == before
    assert bench.log.place(6) == (7, SEGMENT_HEADER_BYTES, ends[3])
    assert bench.log.place(0) == (1, SEGMENT_HEADER_BYTES, BASE)


@pytest.mark.parametrize("is_cached", [True, False])
def test_reading_every_range(bench: Bench, is_cached: bool) -> None:
    bench.append("..3S2.S.")
    if not is_cached:
        bench.restart()
    ends = [0, *(frame.header.last_index for frame in bench.staged)]
    for low, after in enumerate(ends):
        for high in range(low + 1, len(ends)):
            frames = tuple(bench.staged[low:high])
            assert bench.log.is_cached(after) == is_cached or after == ends[-1]
            assert bench.log.read_frames(after, ends[high]) == frames
            pieces = bench.log.locate(after, ends[high])
            data = b"".join(
                read_file(bench.disk, path)[offset : offset + length] for path, offset, length in pieces
            )
            assert decode_run(data) == frames


def test_what_is_staged_can_be_read_before_it_is_written(bench: Bench) -> None:
    bench.append("..")
    bench.stage(".S.")
    assert bench.log.read_frames(0, 5) == tuple(bench.staged)


def test_the_tail_cache_is_bounded_and_keeps_what_is_not_durable(bench: Bench) -> None:
    """A frame that left the cache before it was written would be read from the disk as zeros."""
    bench.log._cache.bytes_max = 500
    for _ in range(20):
        bench.stage("9")
    assert bench.log.is_cached(0)
    assert len(bench.held()) == 20
    bench.write()
    bench.append(".")
    assert not bench.log.is_cached(0) and bench.log.is_cached(180)
    assert bench.log._cache.size_bytes <= 500 == bench.log._cache.bytes_max
    bench.stage("99", term=2, after=90)
    assert bench.log.is_cached(90) and bench.held() == bench.staged
    bench.write()
    assert bench.held() == bench.staged


def test_dropping_whole_sealed_segments(bench: Bench) -> None:
    bench.append("..S..S..S.")
    bench.mark()
    assert bench.log.drop_before(2) is None
    bench.drop(8)
    assert bench.log.base == bench.manifest_point._replace(index=6, chain=bench.log.base.chain)
    assert [segment.first_index for segment in bench.log.segments()] == [7, 10]
    assert bench.disk.list(bench.wal) == [segment.name for segment in bench.log.segments()]
    with pytest.raises(Unavailable):
        bench.log.read(5, 8)
    assert bench.log.read_frames(6, 10) == tuple(bench.staged)
    bench.drop(9)
    assert bench.log.drop_before(100) is None, "the open segment stays"
    bench.log.close()
    bench.recover()
    assert bench.log.base.index == 9 and bench.log.last.index == 10
    bench.append(".S.")


def test_what_was_dropped_is_not_taken_in_again_before_it_is_unlinked(bench: Bench) -> None:
    """A scrub that ran between the two read the dropped segments as the log's lost beginning: the log held
    them again, they were unlinked, and the next drop ended the node for a file that was not there."""
    log = bench.log
    bench.append("..S..S.")
    dropped = log.drop_before(log.segments()[0].last_index)
    assert dropped is not None
    base, front = log.base, read_front(bench.disk, bench.wal, TIMELINE, log.oldest())
    assert front
    log.take_front(front)
    assert log.base == base
    dropped.run()


def test_what_lies_before_the_base_is_dropped_with_the_log(bench: Bench) -> None:
    """Only the segments that the log held were unlinked: a damaged one before them lay there for ever, and
    each start told of it."""
    bench.append("..S..S.")
    [first, second, _] = bench.log.segments()
    point = bench.log.end_at(first.last_index)
    assert point is not None
    bench.manifest_point = point
    bench.mark()
    bench.log.close()
    file = bench.disk.open(first.path, write=True)
    file.pwrite(b"X", 70)
    file.close()
    bench.recover()
    assert bench.log.base == point and bench.disk.exists(first.path)
    bench.drop(second.last_index)
    assert bench.disk.list(bench.wal) == [bench.log.segments()[0].name]


def test_where_a_segment_ends_is_said_by_the_one_behind_it(bench: Bench) -> None:
    log = bench.log
    bench.append("..S..S..S.")
    points = [segment.previous for segment in log._segments]
    assert [log.sealed_end(s.first_index) for s in log.segments()] == [*points[1:], None]
    oldest = log._segments[2]
    ends = partial(end_before, bench.disk, bench.wal, TIMELINE, oldest)
    assert [ends(1), ends(4)] == points[1:3]
    file = bench.disk.open(log.segments()[1].path, write=True)
    file.pwrite(b"X", 50)
    file.close()
    assert [ends(1), ends(4)] == [None, points[2]], "not by a damaged header"


def test_a_read_of_a_dropped_segment_is_refused(bench: Bench) -> None:
    bench.append("..S..")
    bench.restart()
    path, offset, length = bench.log.locate(0, 3)[0]
    bench.drop(3)
    with pytest.raises(Unavailable, match="dropped"):
        bench.log._read_piece(path, offset, length)


def test_a_damaged_frame_is_never_served(bench: Bench) -> None:
    bench.append("...")
    bench.restart()
    path, offset, _ = bench.log.locate(1, 2)[0]
    file = bench.disk.open(path, write=True)
    byte = file.pread(1, offset + 60)
    file.pwrite(bytes([byte[0] ^ 4]), offset + 60)
    file.close()
    with pytest.raises(Corrupt, match=r"\.wal: entries 1\.\.3 are damaged"):
        bench.log.read_frames(0, 3)
    assert len(bench.log.read_frames(2, 3)) == 1


def test_of_a_file_that_was_cut_short_the_path_is_told(bench: Bench) -> None:
    """Who met that asked no peer for the file, which was in the words of the error alone."""
    bench.append("...")
    bench.restart()
    path, offset, _ = bench.log.locate(1, 2)[0]
    file = bench.disk.open(path, write=True)
    file.truncate(offset + 5)
    file.close()
    with pytest.raises(Corrupt, match="bytes were written") as refused:
        bench.log.read_frames(0, 3)
    assert refused.value.detail == {"path": path}


def test_segment_infos_are_values(bench: Bench) -> None:
    bench.append(".")
    before = bench.log.segments()
    bench.append(".")
    assert isinstance(before[0], SegmentInfo) and before[0].last_index == 1
