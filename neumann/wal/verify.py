"""Reads a segment file by itself, every byte of it: for verify-checksums, the archive and inspection."""

from __future__ import annotations

from typing import NamedTuple

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.errors import Corrupt
from neumann.format import segment as segment_format
from neumann.format.frame import FrameHeader
from neumann.format.ids import LogPoint
from neumann.format.segment import SegmentHeader
from neumann.wal.scan import scan
from neumann.wal.segment import Segment


class SegmentSummary(NamedTuple):
    """A segment that is good to its last bit. `end` is the point that the next one continues.

    `bytes`: header and frames. `sealed`: it ends with a seal and with nothing behind it; otherwise it
    is open, or was copied while it was open, or its end was lost between two frames.
    """

    path: str
    header: SegmentHeader
    headers: tuple[FrameHeader, ...]
    end: LogPoint
    bytes: int
    sealed: bool

    @property
    def first_time_ns(self) -> int:
        """Of the first frame; 0 without frames."""
        return self.headers[0].time_ns if self.headers else 0

    @property
    def last_time_ns(self) -> int:
        """Of the last frame; 0 without frames."""
        return self.headers[-1].time_ns if self.headers else 0


def verify_segment(disk: Disk, path: str, bodies: bool = True) -> SegmentSummary:
    """Check header, chain, times and, unless `bodies` is False, all bodies.

    Corrupt names file, offset and index range. FileNotFoundError if there is none.
    """
    data = read_file(disk, path)
    header = segment_format.decode_header(data, path)
    found = scan(data, Segment(path, header.previous), 0, 0 if bodies else (1 << 64) - 1)
    segment = found.segment
    if found.bytes_behind or found.damaged is not None:
        raise Corrupt(
            f"{path}: {found.why}; {segment.end_bytes} bytes, entries {segment.first_index}.."
            f"{segment.last_index}, are good before it",
            detail={"path": path, "offset": segment.end_bytes, "first_index": segment.last_index + 1},
        )
    return SegmentSummary(
        path,
        header,
        tuple(found.headers),
        segment.point(len(segment.lasts)),
        segment.end_bytes,
        segment.closed and len(data) == segment.end_bytes,
    )
