"""What lies before a log's base: segments behind which the log was taken up when they were damaged.

Once they have been mended (runtime/repair.py) the log can hold them again. Read in a lane, given to
Log.take_front on the loop.
"""

from __future__ import annotations

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.errors import Corrupt, FormatTooNew
from neumann.format import segment as segment_format
from neumann.format.ids import LogPoint, Timeline
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.wal.find import list_segments
from neumann.wal.scan import scan
from neumann.wal.segment import Segment

_NO_BODIES = (1 << 64) - 1


def read_front(disk: Disk, directory: str, timeline: Timeline, first: Segment) -> list[Segment]:
    """The segments that lead to `first`, the log's oldest, in order; with it at the end, whole, where the
    log knows only a part of it. Empty where none does."""
    places, _ = list_segments(disk, directory, timeline)
    front: list[Segment] = []
    known = first
    for place in reversed([p for p in places if p.first_index <= first.first_index]):
        is_first = place.first_index == first.first_index
        if is_first and (first.is_whole or not first.closed):
            if first.is_whole:
                continue
            break
        segment = _read(disk, place.path)
        wanted = first.point(len(first.lasts)) if is_first else known.previous
        if segment is None or not segment.closed or segment.point(len(segment.lasts)) != wanted:
            break
        front.insert(0, segment)
        known = segment
    return front


def end_before(
    disk: Disk, directory: str, timeline: Timeline, first: Segment, first_index: int
) -> LogPoint | None:
    """Where the segment that begins at `first_index`, before the log's oldest, ends: by the header of the
    one behind it, where the log does not know. None if that can't be read."""
    places, _ = list_segments(disk, directory, timeline)
    following = next((place for place in places if place.first_index > first_index), None)
    if following is None or (following.first_index == first.first_index and first.is_whole):
        return first.previous if first.is_whole else None
    try:
        file = disk.open(following.path)
    except FileNotFoundError:
        return None
    try:
        header = segment_format.decode_header(file.pread(SEGMENT_HEADER_BYTES, 0), following.path)
    except (Corrupt, FormatTooNew):
        return None
    finally:
        file.close()
    return header.previous if header.first_index == following.first_index else None


def _read(disk: Disk, path: str) -> Segment | None:
    try:
        data = read_file(disk, path)
        header = segment_format.decode_header(data, path)
    except (FileNotFoundError, Corrupt):
        return None
    return scan(data, Segment(path, header.previous), 0, _NO_BODIES).segment
