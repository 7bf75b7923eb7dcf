"""Reads one segment's bytes from its head to the first thing that is no frame of this log.

It judges nothing: what lies behind the last good frame is counted and described; wal/classify.py and
the callers say what it means.
"""

from __future__ import annotations

from typing import NamedTuple

from neumann.format import frame as frame_format
from neumann.format.checksum import crc32c
from neumann.format.frame import HEADER_BYTES, Frame, FrameDamaged, FrameHeader, Kind
from neumann.wal.segment import Segment, is_seal

_PIECE_BYTES = 1024 * 1024
_ZEROS = bytes(_PIECE_BYTES)


class Scan(NamedTuple):
    """The good frames of a segment. They end at segment.end_bytes.

    `why`: what stands there instead of a frame. `damaged`: the header of a frame that is only known to
    be one, since its body is damaged. `bytes_behind`: how far what is not zero reaches behind.
    """

    segment: Segment
    headers: list[FrameHeader]
    why: str
    damaged: FrameHeader | None
    bytes_behind: int


def scan(data: bytes, segment: Segment, time_ns: int = 0, bodies_behind: int = 0) -> Scan:
    """Append the good frames of `data`, a whole segment file, to an empty `segment`, from its start on.

    Where it is closed already, none is looked for. `time_ns` is the time of the frame before. Bodies that end
    at or below index `bodies_behind` are not checked, save for markers'.
    """
    assert not segment.lasts and len(data) >= segment.start_bytes
    headers: list[FrameHeader] = []
    decode_header = frame_format.decode_header
    last_index, term, chain = segment.previous
    offset = segment.start_bytes
    why, damaged = "a seal, which ends a segment", None
    is_closed = segment.closed
    while not is_closed:
        try:
            header = decode_header(data, offset)
        except FrameDamaged as error:
            why = error.message
            break
        end = offset + HEADER_BYTES + header.body_bytes
        if header.parent != chain or header.first_index != last_index + 1:
            why = f"the frame at offset {offset} does not continue the frame before it"
            break
        if header.term < term or header.time_ns <= time_ns:
            why = f"the frame at offset {offset} goes back in term or time"
            break
        last_index = header.last_index
        if end > len(data):
            why, damaged = (
                f"entries {header.first_index}..{last_index} at offset {offset} are cut short",
                header,
            )
            break
        is_marker = header.kind is Kind.MARKER
        if (is_marker or last_index > bodies_behind) and (
            crc32c(data[offset + HEADER_BYTES : end]) != header.body_crc
        ):
            why = f"entries {header.first_index}..{last_index} at offset {offset} fail their checksum"
            damaged = header
            break
        headers.append(header)
        is_closed = is_marker and is_seal(Frame(header, data[offset:end]))
        term, chain, time_ns, offset = header.term, header.chain, header.time_ns, end
    segment.extend(headers)
    segment.closed = is_closed
    return Scan(segment, headers, why, damaged, max(0, used_bytes(data) - segment.end_bytes))


def used_bytes(data: bytes) -> int:
    """The length of `data` without the zeros at its end."""
    end = len(data)
    while end >= _PIECE_BYTES and data[end - _PIECE_BYTES : end] == _ZEROS:
        end -= _PIECE_BYTES
    start = max(0, end - _PIECE_BYTES)
    return start + len(data[start:end].rstrip(b"\0"))
