"""A segment file: a header, then frames, nothing else (design section 4).

    offset bytes field
         0     8 magic            SEGMENT_MAGIC
         8     4 crc              CRC-32C of bytes 12..64
        12     4 version
        16    16 cluster_id
        32     4 timeline counter
        36     8 timeline random
        44     8 first_index      index of the first entry in it
        52     8 previous_term    of the frame before the first (at a base: the base's term)
        60     4 previous_chain   chain value there; equals the first frame's `parent`

A segment ends behind the first marker that says `seal`, so its bytes are the same on every node. While
it is open it is preallocated: zeros follow the last frame. It counts as sealed once the next segment's
header is durable, and is then exactly as long as its frames.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from neumann.errors import Corrupt, FormatTooNew
from neumann.format.checksum import crc32c
from neumann.format.ids import LogPoint, Timeline

SEGMENT_MAGIC = b"NEUWAL\x00\x01"
SEGMENT_VERSION = 1
_HEADER = struct.Struct("<8sII16sIQQQI")
SEGMENT_HEADER_BYTES = _HEADER.size
assert SEGMENT_HEADER_BYTES == 64


class SegmentHeader(NamedTuple):
    """The first 64 bytes of a segment."""

    cluster_id: bytes
    timeline: Timeline
    first_index: int
    previous_term: int
    previous_chain: int

    @property
    def previous(self) -> LogPoint:
        """The point that this segment continues."""
        return LogPoint(self.first_index - 1, self.previous_term, self.previous_chain)


def encode_header(header: SegmentHeader) -> bytes:
    """The header's 64 bytes."""
    cluster_id, timeline, first_index, term, chain = header
    rest = _HEADER.pack(SEGMENT_MAGIC, 0, SEGMENT_VERSION, cluster_id, *timeline, first_index, term, chain)[
        12:
    ]
    return SEGMENT_MAGIC + struct.pack("<I", crc32c(rest)) + rest


def decode_header(data: bytes, where: str) -> SegmentHeader:
    """Read and check the header; Corrupt or FormatTooNew names `where`."""
    if len(data) < SEGMENT_HEADER_BYTES:
        raise Corrupt(f"{where}: {len(data)} bytes are too few for a segment's header")
    magic, crc, version, cluster_id, counter, random, first_index, term, chain = _HEADER.unpack_from(data)
    if magic != SEGMENT_MAGIC:
        raise Corrupt(f"{where}: is not a log segment, or its header is damaged")
    if crc != crc32c(data[12:SEGMENT_HEADER_BYTES]):
        raise Corrupt(f"{where}: the segment's header fails its checksum")
    if version != SEGMENT_VERSION:
        raise FormatTooNew(
            f"{where}: segment format {version}; this release reads {SEGMENT_VERSION}",
            remedy="use the release that wrote it, or a newer one",
        )
    return SegmentHeader(cluster_id, Timeline(counter, random), first_index, term, chain)
