"""A disk that fails or is full: a failed sync is final, a full disk loses nothing."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from neumann.errors import DiskFull, StorageFailed
from neumann.wal import Log
from tests.sim.disk import SimDisk
from tests.wal.bench import BASE, CLUSTER, SEGMENT_BYTES, TIMELINE, Bench


def bench_on(disk: SimDisk) -> Bench:
    bench = Bench(disk).create()
    bench.append("..")
    bench.mark()
    return bench


def recorded(disk: SimDisk, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(change, the last letters of its path) of all that follows."""
    changes: list[tuple[str, str]] = []
    step = disk.step

    def record(what: str, path: str, *does: Any) -> None:
        changes.append((what, path[-8:]))
        step(what, path, *does)

    monkeypatch.setattr(disk, "step", record)
    return changes


def fill(disk: SimDisk, free_bytes: int) -> None:
    disk.capacity_bytes -= disk.free_bytes("/") - free_bytes


def test_a_failed_sync_is_final() -> None:
    """A second fsync says yes though the pages are gone: an ack then would be a lie (R9)."""
    disk = SimDisk()
    bench = bench_on(disk)
    acknowledged = list(bench.acknowledged)
    bench.stage(".")
    batch = bench.log.take_batch()
    assert batch is not None
    disk.fail_sync(".wal")
    with pytest.raises(StorageFailed, match="Input/output error"):
        batch.run()
    for kinds in ("", "."):
        bench.stage(kinds)
        again = bench.log.take_batch() or batch
        with pytest.raises(StorageFailed):
            again.run()
    assert bench.log.synced.point == acknowledged[-1].header.end
    after = Bench(disk.crash(Random(1)))
    after.recover()
    assert after.staged == acknowledged


@pytest.mark.parametrize("part", [".wal", "raft/wal"])
def test_a_failed_sync_at_a_seal_is_final(part: str) -> None:
    disk = SimDisk()
    bench = bench_on(disk)
    bench.stage("S.")
    batch = bench.log.take_batch()
    assert batch is not None
    disk.fail_sync(part)
    with pytest.raises(StorageFailed):
        batch.run()
    with pytest.raises(StorageFailed):
        batch.run()


def test_no_room_for_more_frames_than_the_segment_has() -> None:
    disk = SimDisk()
    bench = bench_on(disk)
    fill(disk, 100)
    bench.append("9" * 8)
    bench.stage("9" * 8)
    batch = bench.log.take_batch()
    assert batch is not None
    with pytest.raises(DiskFull, match="no room to extend the log"):
        batch.run()
    assert bench.log.synced.point == bench.acknowledged[-1].header.end
    disk.capacity_bytes += 2 * SEGMENT_BYTES
    bench.write(batch)
    assert bench.log.synced.point == bench.log.last and bench.held() == bench.staged


def test_a_seal_is_durable_though_there_is_no_room_for_the_next_segment() -> None:
    """Bug 11: a full disk in the middle of a change of segments left a log that was damaged."""
    disk = SimDisk()
    bench = bench_on(disk)
    fill(disk, 0)
    # Trimming gives back what the sealed segment had reserved, so even that is taken away.
    disk.capacity_bytes -= SEGMENT_BYTES
    bench.append("S")
    assert bench.log.synced.point == bench.log.last
    assert [segment.sealed for segment in bench.log.segments()] == [False, False]
    bench.stage("..")
    batch = bench.log.take_batch()
    assert batch is not None
    with pytest.raises(DiskFull):
        batch.run()
    assert len(disk.list(bench.wal)) == 1, "what was begun of the next segment is gone"
    bench.stage(".")
    later = bench.log.take_batch()
    assert later is not None
    with pytest.raises(DiskFull):
        later.run()
    disk.capacity_bytes += 2 * SEGMENT_BYTES
    bench.write(batch)
    assert bench.log.synced.point == bench.log.last
    assert [segment.sealed for segment in bench.log.segments()] == [True, False]
    bench.mark()
    staged = bench.staged
    again = Bench(disk.crash(Random(1)))
    again.recover()
    assert again.staged == staged


def test_a_stop_while_what_replaces_the_log_s_end_waits_for_room() -> None:
    """Bug: where a truncation was done and the segment behind its frames found no room, the end before it was
    still called durable; an orderly stop put it into the sync mark, and the next start refused the log."""
    disk = SimDisk()
    bench = bench_on(disk)
    bench.append("..S")
    fill(disk, 0)
    bench.stage("...S..", term=2, after=2)  # more than what goes
    batch = bench.log.take_batch()
    assert batch is not None and batch.lower_to is not None
    bench.mark(batch.lower_to)
    with pytest.raises(DiskFull):
        batch.run()
    assert bench.log.synced == bench.log.place(2)
    bench.log.close()
    bench.mark()
    again = Bench(disk.kill())
    again.recover()
    assert [frame.header.term for frame in again.staged] == [1, 1, 2, 2, 2, 2]


def test_a_restart_while_the_next_segment_waits_for_room() -> None:
    """Bug 11: a log that had met a full disk could not be opened any more."""
    disk = SimDisk()
    bench = bench_on(disk)
    fill(disk, 0)
    disk.capacity_bytes -= SEGMENT_BYTES
    bench.append("S")
    bench.mark()
    again = Bench(disk.crash(Random(1)))
    again.recover()
    assert again.staged == bench.staged and len(again.disk.list(again.wal)) == 1
    assert isinstance(again.disk, SimDisk)
    again.disk.capacity_bytes += 2 * SEGMENT_BYTES
    again.append(".")
    assert len(again.disk.list(again.wal)) == 2


def test_a_batch_that_the_lane_is_writing_does_not_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop looked at the queue that the lane was working off, and took a write for a full disk."""
    disk = SimDisk()
    bench = bench_on(disk)
    offered = []
    step = disk.step

    def look(what: str, path: str, *does: Any) -> None:
        offered.append(bench.log.batch_behind_full())
        step(what, path, *does)

    monkeypatch.setattr(disk, "step", look)
    bench.append(".S.")
    assert len(offered) > 5 and not any(offered)
    fill(disk, 0)
    disk.capacity_bytes -= SEGMENT_BYTES
    bench.append("S")
    assert bench.log.batch_behind_full() is not None
    disk.capacity_bytes += 2 * SEGMENT_BYTES
    again = bench.log.batch_behind_full()
    assert again is not None
    bench.write(again)
    assert bench.log.batch_behind_full() is None and len(disk.list(bench.wal)) == 3


def test_create_on_a_full_disk_says_so() -> None:
    disk = SimDisk(capacity_bytes=SEGMENT_BYTES - 1)
    with pytest.raises(DiskFull):
        Log.create(disk, "/wal", CLUSTER, TIMELINE, BASE, SEGMENT_BYTES)
    assert disk.list("/wal") == []


def test_one_write_and_one_sync_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    bench = bench_on(disk)
    bench.stage("." * 20)
    bench.stage("9")
    changes = recorded(disk, monkeypatch)
    bench.write()
    assert changes == [("write", "0001.wal"), ("sync", "0001.wal")]


def test_the_order_of_a_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    bench = bench_on(disk)
    changes = recorded(disk, monkeypatch)
    bench.append(".S.")
    assert changes == [
        ("write", "0001.wal"),
        ("truncate", "0001.wal"),
        ("sync", "0001.wal"),
        ("create", "0005.wal"),
        ("write", "0005.wal"),  # its header
        ("allocate", "0005.wal"),
        ("sync", "0005.wal"),
        ("sync_dir", "raft/wal"),
        ("write", "0005.wal"),
        ("sync", "0005.wal"),
    ]


def test_the_order_of_a_truncation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Design section 4: newest first, directory, cut, sync; only then is a new byte written."""
    disk = SimDisk()
    bench = bench_on(disk)
    bench.append("SS.")
    changes = recorded(disk, monkeypatch)
    bench.append(".", term=2, after=1)
    assert [change for change in changes if change[1] != "ync-mark"] == [
        ("unlink", "0005.wal"),
        ("unlink", "0004.wal"),
        ("sync_dir", "raft/wal"),
        ("truncate", "0001.wal"),
        ("sync", "0001.wal"),
        ("allocate", "0001.wal"),
        ("write", "0001.wal"),
        ("sync", "0001.wal"),
    ]
    assert changes[0][1] == "ync-mark", "the mark is lowered before"
