"""A segment read by itself: good to its last bit, or Corrupt with file, offset and index range."""

from __future__ import annotations

import pytest

from neumann.errors import Corrupt
from neumann.wal.verify import verify_segment
from tests.sim.disk import SimDisk
from tests.wal.bench import Bench


def test_summaries() -> None:
    bench = Bench(SimDisk()).create()
    bench.append("..S3.")
    sealed, opened = (verify_segment(bench.disk, info.path) for info in bench.log.segments())
    assert sealed.sealed and not opened.sealed
    assert (sealed.first_time_ns, sealed.last_time_ns, len(sealed.headers)) == (1, 3, 3)
    assert sealed.end == opened.header.previous and opened.end == bench.log.last
    assert [info.bytes for info in bench.log.segments()] == [sealed.bytes, opened.bytes]


def test_every_flipped_bit_of_a_sealed_segment_is_found() -> None:
    bench = Bench(SimDisk()).create()
    bench.append(".3S")
    path = bench.log.segments()[0].path
    assert isinstance(bench.disk, SimDisk)
    for offset in range(bench.log.segments()[0].bytes):
        for bit in range(8):
            bench.disk.flip(path, offset, bit)
            with pytest.raises(Corrupt, match=path):
                verify_segment(bench.disk, path)
            bench.disk.flip(path, offset, bit)
    verify_segment(bench.disk, path)


def test_headers_alone_leave_bodies_unread() -> None:
    bench = Bench(SimDisk()).create()
    bench.append("..S")
    path, offset, length = bench.log.locate(0, 1)[0]
    assert isinstance(bench.disk, SimDisk)
    bench.disk.flip(path, offset + length - 1, 0)
    assert len(verify_segment(bench.disk, path, bodies=False).headers) == 3
    with pytest.raises(Corrupt, match=r"entries 1\.\.1 at offset 64 fail"):
        verify_segment(bench.disk, path)


def test_a_copy_cut_short() -> None:
    bench = Bench(SimDisk()).create()
    bench.append(".3S")
    info = bench.log.segments()[0]
    file = bench.disk.open(info.path, write=True)
    whole = {0: False}
    ends = [64, *(place.offset for place in (bench.log.place(1), bench.log.place(4)))]
    for size in range(info.bytes - 1, -1, -1):
        file.truncate(size)
        try:
            whole[size] = not verify_segment(bench.disk, info.path).sealed
        except Corrupt:
            continue
    assert [size for size, is_open in whole.items() if is_open] == sorted(ends, reverse=True)
