"""How much of the log may go: never what the archive or a snapshot does not have (R7)."""

from __future__ import annotations

import pytest

from neumann.wal.retention import retain
from neumann.wal.segment import SegmentInfo


def segment(first: int, last: int, sealed: bool = True) -> SegmentInfo:
    return SegmentInfo(f"{first}.wal", f"/wal/{first}.wal", first, last, 0, 0, 100, sealed)


SEGMENTS = [segment(11, 20), segment(21, 30), segment(31, 40), segment(41, 45, sealed=False)]


@pytest.mark.parametrize(
    ("snapshot", "archived", "keep", "pinned", "dropped"),
    [
        (45, None, 0, None, 40),
        (45, 45, 0, None, 40),
        (40, None, 0, None, 40),
        (39, None, 0, None, 30),
        (45, 29, 0, None, 20),
        (45, 0, 0, None, 10),
        (0, None, 0, None, 10),
        (45, None, 5, None, 40),
        (45, None, 6, None, 30),
        (45, None, 1000, None, 10),
        (45, None, 0, 25, 20),
        (45, None, 0, 0, 10),
        (45, 30, 20, 35, 20),
    ],
)
def test_retain(snapshot: int, archived: int | None, keep: int, pinned: int | None, dropped: int) -> None:
    assert retain(SEGMENTS, snapshot, archived, keep, pinned) == dropped


def test_a_segment_that_is_not_sealed_yet_stays() -> None:
    segments = [segment(1, 10), segment(11, 20, sealed=False), segment(21, 30)]
    assert retain(segments, 30, None, 0) == 10
    assert retain(segments[1:2], 30, None, 0) == 10
