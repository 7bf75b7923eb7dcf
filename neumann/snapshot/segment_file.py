"""A segment file that came from elsewhere, an archive or a peer: what is in it, byte by byte.

A node reads its own log in wal/; here nothing may be assumed of the file: it may be a copy that was cut
short, an open segment with its zeros, or damaged. What is wrong is told as a value, because frames
before the damage may still be what somebody needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from neumann.errors import Corrupt
from neumann.format import frame as frame_format
from neumann.format import segment as segment_format
from neumann.format import special as special_format
from neumann.format.checksum import crc32c
from neumann.format.frame import HEADER_BYTES, Frame, FrameDamaged, FrameHeader, Kind
from neumann.format.ids import LogPoint
from neumann.format.segment import SEGMENT_HEADER_BYTES, SegmentHeader
from neumann.format.special import Marker


class End(Enum):
    """How a segment file ends."""

    SEALED = "sealed"
    OPEN = "open"  # preallocated zeros follow: a living log's newest segment, or a copy of it
    SHORT = "short"  # it just ends: a copy that was cut
    DAMAGED = "damaged"


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
    frames: int
    entries: int
    good_bytes: int
    end: End
    damage: str
    points: tuple[RestorePoint, ...]


class _Wrong(Exception):
    """The frame at this offset can't be taken."""

    def __init__(self, end: End, text: str) -> None:
        super().__init__(text)
        self.end = end


def scan(data: bytes, where: str, *, bodies: bool) -> Scan:
    """Read a segment file's bytes; `bodies`: check the checksums of bodies too, not of headers alone.

    Corrupt or FormatTooNew if not even its header can be read.
    """
    if not data:
        raise Corrupt(f"{where}: the file is empty")
    header = segment_format.decode_header(data, where)
    last, first_time, last_time = header.previous, 0, 0
    frames = entries = 0
    offset = SEGMENT_HEADER_BYTES
    points: list[RestorePoint] = []
    end, damage, sealed = End.SHORT, "", False
    while offset < len(data):
        try:
            found = _frame_at(data, offset, last, last_time, sealed, bodies)
        except _Wrong as wrong:
            end = wrong.end
            damage = f"{where}, offset {offset}, index {last.index + 1}: {wrong}"
            break
        frames += 1
        last, last_time = found.end, found.time_ns
        first_time = first_time or found.time_ns
        if found.kind is Kind.DATA:
            entries += found.last_index - found.first_index + 1
        elif found.kind is Kind.MARKER:
            marker = _marker(data, offset, found)
            sealed = marker.seal
            if marker.name:
                points.append(RestorePoint(marker.name, found.last_index, found.time_ns))
        offset += found.frame_bytes
    if sealed and end is not End.DAMAGED:
        end, damage = End.SEALED, ""
    elif not damage:
        damage = f"{where}: ends at offset {offset}, index {last.index}, and is not sealed: a part of a file"
    return Scan(header, last, first_time, last_time, frames, entries, offset, end, damage, tuple(points))


def _frame_at(
    data: bytes, offset: int, last: LogPoint, last_time_ns: int, sealed: bool, bodies: bool
) -> FrameHeader:
    """The header of the frame there, checked against what is before it; _Wrong if it can't be taken."""
    try:
        found = frame_format.decode_header(data, offset)
    except FrameDamaged as error:
        if data.count(0, offset) == len(data) - offset:
            raise _Wrong(End.OPEN, "zeros to the end: the segment is still open") from error
        end = End.SHORT if error.what == "short" else End.DAMAGED
        raise _Wrong(end, error.message) from error
    if offset + found.frame_bytes > len(data):
        raise _Wrong(End.SHORT, f"entries {found.first_index}..{found.last_index} are cut short")
    if sealed:
        raise _Wrong(End.DAMAGED, "a frame behind the marker that seals the segment")
    if (
        found.parent != last.chain
        or found.first_index != last.index + 1
        or found.term < last.term
        or found.time_ns <= last_time_ns
    ):
        raise _Wrong(End.DAMAGED, f"the frame does not follow the one that ends at {last.index}")
    if bodies:
        body = data[offset + HEADER_BYTES : offset + found.frame_bytes]
        if crc32c(body) != found.body_crc:
            first, final = found.first_index, found.last_index
            raise _Wrong(End.DAMAGED, f"entries {first}..{final} fail their checksum")
    return found


def headers_of(data: bytes, good_bytes: int) -> Iterator[FrameHeader]:
    """The headers of the frames up to there, which `scan` has found good."""
    offset = SEGMENT_HEADER_BYTES
    while offset < good_bytes:
        found = frame_format.decode_header(data, offset)
        yield found
        offset += found.frame_bytes


def _marker(data: bytes, offset: int, header: FrameHeader) -> Marker:
    found = special_format.decode(Frame(header, data[offset : offset + header.frame_bytes]))
    return found if isinstance(found, Marker) else Marker()
