"""FrameLog: every question at every index of a small log, against the plain list of its frames."""

from __future__ import annotations

import pytest

from neumann.format.ids import LogPoint
from neumann.raft import Extent, FrameLog
from tests.raft.build import frames, log_of

BASE = LogPoint(10, 2, 0xBA5E)
FRAMES = frames((2, 3), (2, 1), (4, 2), (7, 4), after=BASE)  # ends 13, 14, 16, 20
ENDS = [BASE] + [f.header.end for f in FRAMES]


def test_an_empty_log_is_its_base() -> None:
    log = FrameLog(BASE)
    assert log.last == log.base == BASE and len(log) == 0
    assert log.end_at(10) == BASE and log.end_at(9) is None and log.end_at(11) is None
    assert log.run_after(10, 1000, 10).last_index == 10


def test_ends_and_frames_at_every_index() -> None:
    log = log_of(FRAMES, BASE)
    points = {point.index: point for point in ENDS}
    for index in range(5, 25):
        assert log.end_at(index) == points.get(index)
    for frame, before in zip(FRAMES, ENDS, strict=False):
        header = frame.header
        for index in range(header.first_index, header.last_index + 1):
            extent = Extent(header.first_index, header.last_index, header.term, header.chain)
            assert log.frame_containing(index) == extent
            assert log.previous_end(index) == before


def test_end_before_is_bounded_by_index_and_by_term() -> None:
    log = log_of(FRAMES, BASE)
    for index in range(5, 25):
        for term in range(9):
            fitting = [p for p in ENDS if p.index <= index and p.term <= term]
            assert log.end_before(index, term) == (fitting[-1] if fitting else None)


def test_a_run_is_as_long_as_both_limits_allow_and_never_empty() -> None:
    log = log_of(FRAMES, BASE)
    sizes = [f.header.frame_bytes for f in FRAMES]
    assert log.run_after(10, 10**6, 10) == (BASE, 20, 4, sum(sizes))
    assert log.run_after(10, 10**6, 2) == (BASE, 14, 2, sum(sizes[:2]))
    assert log.run_after(10, sum(sizes[:3]), 10) == (BASE, 16, 3, sum(sizes[:3]))
    assert log.run_after(10, sum(sizes[:3]) - 1, 10).last_index == 14
    assert log.run_after(13, 1, 1) == (ENDS[1], 14, 1, sizes[1])
    assert log.run_after(20, 10**6, 10) == (ENDS[-1], 20, 0, 0)


def test_a_run_starts_at_a_frame_end() -> None:
    with pytest.raises(AssertionError):
        log_of(FRAMES, BASE).run_after(12, 1000, 1)


@pytest.mark.parametrize("keep", range(5))
def test_truncation_and_append_again(keep: int) -> None:
    log = log_of(FRAMES, BASE)
    log.truncate_after(ENDS[keep].index)
    assert log.last == ENDS[keep] and len(log) == keep
    for frame in FRAMES[keep:]:
        log.append(frame.header)
    assert log.last == ENDS[-1]
    assert log.run_after(10, 10**6, 10).run_bytes == sum(f.header.frame_bytes for f in FRAMES)


@pytest.mark.parametrize("drop", range(5))
def test_dropping_the_front_moves_the_base(drop: int) -> None:
    log = log_of(FRAMES, BASE)
    log.drop_before(ENDS[drop])
    assert log.base == ENDS[drop] and log.last == ENDS[-1] and len(log) == 4 - drop
    for index, point in enumerate(ENDS):
        assert log.end_at(point.index) == (point if index >= drop else None)
    log.truncate_after(log.base.index)
    assert log.last == log.base


def test_only_what_follows_is_appended() -> None:
    log = log_of(FRAMES[:1], BASE)
    with pytest.raises(AssertionError):
        log.append(FRAMES[2].header)
    with pytest.raises(AssertionError):
        log.append(FRAMES[1].header._replace(parent=1))
    with pytest.raises(AssertionError):
        log.append(FRAMES[1].header._replace(term=1))


def test_a_long_log_that_is_dropped_as_it_grows_stays_small() -> None:
    log = FrameLog(BASE)
    for number in range(2000):
        (frame,) = frames((3, 2), after=log.last)
        log.append(frame.header)
        if number % 10 == 9:
            log.drop_before(log.last)
            assert len(log) == 0
    assert log.last.index == BASE.index + 4000
