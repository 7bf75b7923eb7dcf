"""A segment file that came from elsewhere, an archive or a peer: what is in it, and how it ends.

Nothing may be assumed of such a file: it may be a copy that was cut short, an open segment with its
zeros, or damaged. What is wrong is told as a value, because frames before the damage may still be all
that somebody needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from neumann.errors import Corrupt
from neumann.format import segment as segment_format
from neumann.format import special as special_format
from neumann.format.frame import Frame, FrameHeader, Kind
from neumann.format.ids import Configuration, LogPoint
from neumann.format.segment import SEGMENT_HEADER_BYTES, SegmentHeader
from neumann.format.special import Marker
from neumann.wal.scan import scan as scan_frames
from neumann.wal.segment import Segment

_ALL_BODIES, _NO_BODIES = 0, (1 << 64) - 1


class End(Enum):
    """How a segment file ends. OPEN: preallocated zeros follow, as in a living log's newest segment.
    BROKEN: it is cut short or damaged."""

    SEALED = "sealed"
    OPEN = "open"
    BROKEN = "broken"


class RestorePoint(NamedTuple):
    """A named marker."""

    name: str
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    time_ns: int


class Scan(NamedTuple):
    """A segment file, read from its begin up to its end or its first damage.

    `last` is the point that the last good frame ends at (the header's previous if there is none);
    `entries` counts clients' entries; times are 0 where there is no frame. `damage` says what is wrong,
    with file, offset and index, and is "" for a sealed segment.
    """

    header: SegmentHeader
    last: LogPoint
    first_time_ns: int
    last_time_ns: int
    entries: int
    end: End
    damage: str
    points: tuple[RestorePoint, ...]


def scan(data: bytes, where: str, *, bodies: bool) -> Scan:
    """Read a segment file's bytes; `bodies`: check the checksums of all bodies, not of headers alone.

    Corrupt or FormatTooNew if not even its header can be read.
    """
    if not data:
        raise Corrupt(f"{where}: the file is empty")
    header = segment_format.decode_header(data, where)
    found = scan_frames(data, Segment(where, header.previous), 0, _ALL_BODIES if bodies else _NO_BODIES)
    segment, frames = found.segment, found.headers
    last = segment.point(len(frames))
    place = f"{where}, offset {segment.end_bytes}, index {last.index + 1}"
    if found.bytes_behind:
        end, damage = End.BROKEN, f"{place}: {found.why}"
    elif segment.closed:
        end, damage = End.SEALED, ""
    elif len(data) > segment.end_bytes:
        end, damage = End.OPEN, f"{place}: zeros to the end, the segment is still open"
    else:
        end, damage = End.BROKEN, f"{place}: it ends here and is not sealed, so it is a part of a file"
    return Scan(
        header,
        last,
        frames[0].time_ns if frames else 0,
        frames[-1].time_ns if frames else 0,
        sum(f.last_index - f.first_index + 1 for f in frames if f.kind is Kind.DATA),
        end,
        damage,
        tuple(_restore_points(data, frames)),
    )


class Whole(NamedTuple):
    """The good frames at a file's begin: `bytes` with the header, up to `last`. `sealed`: no more follow."""

    header: SegmentHeader
    last: LogPoint
    bytes: int
    sealed: bool


def whole_frames(data: bytes, where: str) -> Whole:
    """How far a segment's file, which may be cut or be written still, can be believed, every byte checked.
    Corrupt or FormatTooNew if not even its header can be read."""
    header = segment_format.decode_header(data, where)
    segment = scan_frames(data, Segment(where, header.previous), 0, _ALL_BODIES).segment
    return Whole(header, segment.point(len(segment.lasts)), segment.end_bytes, segment.closed)


def headers_of(data: bytes, where: str) -> list[FrameHeader]:
    """The headers of a segment file's good frames; bodies are not checked."""
    header = segment_format.decode_header(data, where)
    return scan_frames(data, Segment(where, header.previous), 0, _NO_BODIES).headers


def configurations_of(data: bytes, where: str) -> list[Configuration]:
    """The configurations in a segment file's good frames, in order; Corrupt if it has no header."""
    specials = _specials(data, headers_of(data, where), Kind.CONFIGURATION)
    return [entry for _, entry in specials if isinstance(entry, Configuration)]


def _restore_points(data: bytes, frames: list[FrameHeader]) -> list[RestorePoint]:
    return [
        RestorePoint(marker.name, header.last_index, header.time_ns)
        for header, marker in _specials(data, frames, Kind.MARKER)
        if isinstance(marker, Marker) and marker.name
    ]


def _specials(
    data: bytes, frames: Sequence[FrameHeader], kind: Kind
) -> Iterator[tuple[FrameHeader, special_format.Special | None]]:
    """The special entries of one kind, each with its frame's header; None for one that can't be decoded."""
    offset = SEGMENT_HEADER_BYTES
    for header in frames:
        if header.kind is kind:
            yield header, special_format.decode(Frame(header, data[offset : offset + header.frame_bytes]))
        offset += header.frame_bytes
