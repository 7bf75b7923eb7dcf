"""The frame: the unit of replication and of Raft (design section 4).

A frame is a run of consecutive entries that one leader proposed together in one term. It is created
once; its bytes are then copied verbatim to every node and into the archive. All integers little-endian:

    offset bytes field
         0     4 header_crc    CRC-32C of bytes 4..48; it is also the frame's *chain value*
         4     4 body_crc      CRC-32C of the body
         8     4 parent        chain value of the frame before (at a log's base: of the history record)
        12     4 body_bytes
        16     4 entry_count   1 or more
        20     1 kind          Kind
        21     1 version       FRAME_VERSION
        22     2 zero
        24     8 first_index
        32     8 term
        40     8 time_ns       the leader's clock; strictly above the previous frame's
        48     - body          kind DATA: a MessagePack array (array32 header) of `entry_count`
                               commands, each the client's bytes untouched; else one special entry

The header's CRC covers the body's CRC and the parent, so one number names the whole log up to here.
A damaged body still tells which entries it held. What the CRCs do not cover: nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from neumann.errors import Corrupt
from neumann.format import limits
from neumann.format.checksum import crc32c
from neumann.format.ids import LogPoint

FRAME_VERSION = 1
_HEADER = struct.Struct("<IIIIIBBHQQQ")
HEADER_BYTES = _HEADER.size
assert HEADER_BYTES == 48
_ARRAY32 = struct.Struct(">BI")
ARRAY_HEADER_BYTES = _ARRAY32.size


class Kind(IntEnum):
    """What a frame holds. On disk: never renumber; retired numbers stay listed."""

    DATA = 0
    NOOP = 1
    MARKER = 2
    CONFIGURATION = 3
    PAUSE = 4
    RESUME = 5
    ARCHIVED = 6
    BREAK = 7


_KINDS = {int(k): k for k in Kind}


class FrameDamaged(Corrupt):
    """Bytes that are no frame. `what` is "short", "header" or "body"; a "body" still has its header."""

    def __init__(self, what: str, message: str, header: FrameHeader | None = None) -> None:
        super().__init__(message)
        self.what = what
        self.header = header


class FrameHeader(NamedTuple):
    """A frame without its body, as Raft's rules need it."""

    first_index: int
    last_index: int
    term: int
    kind: Kind
    time_ns: int
    parent: int
    chain: int
    body_crc: int
    body_bytes: int

    @property
    def end(self) -> LogPoint:
        """The point that this frame ends at."""
        return LogPoint(self.last_index, self.term, self.chain)

    @property
    def frame_bytes(self) -> int:
        """Header and body together."""
        return HEADER_BYTES + self.body_bytes


class Frame(NamedTuple):
    """A whole frame. `data` is header and body, the very bytes that are stored and sent."""

    header: FrameHeader
    data: bytes

    @property
    def body(self) -> bytes:
        """The bytes after the header."""
        return self.data[HEADER_BYTES:]


def encode(
    kind: Kind, first_index: int, term: int, time_ns: int, parent: int, entries: Sequence[bytes]
) -> Frame:
    """Make a frame of one or more entries. Only a leader does this, once for each (index, term)."""
    count = len(entries)
    assert 0 < count <= limits.FRAME_ENTRIES_MAX and first_index > 0 and term > 0
    if kind is Kind.DATA:
        body = _ARRAY32.pack(0xDD, count) + b"".join(entries)
    else:
        assert count == 1, "a special entry stands alone in its frame"
        body = entries[0]
    assert len(body) <= limits.FRAME_BODY_BYTES_MAX
    body_crc = crc32c(body)
    rest = _HEADER.pack(
        0, body_crc, parent, len(body), count, kind, FRAME_VERSION, 0, first_index, term, time_ns
    )[4:]
    chain = crc32c(rest)
    header = FrameHeader(
        first_index,
        first_index + count - 1,
        term,
        kind,
        time_ns,
        parent,
        chain,
        body_crc,
        len(body),
    )
    return Frame(header, chain.to_bytes(4, "little") + rest + body)


def decode_header(buffer: bytes | memoryview, offset: int = 0) -> FrameHeader:
    """Read and check the header at `offset`. FrameDamaged("short" | "header") if it is none."""
    if len(buffer) - offset < HEADER_BYTES:
        raise FrameDamaged("short", f"frame header cut short at offset {offset}")
    fields = _HEADER.unpack_from(buffer, offset)
    chain, body_crc, parent, body_bytes, count, kind, version, zero, first_index, term, time_ns = fields
    if chain != crc32c(bytes(buffer[offset + 4 : offset + HEADER_BYTES])):
        raise FrameDamaged("header", f"frame header at offset {offset} fails its checksum")
    if (
        version != FRAME_VERSION
        or kind not in _KINDS
        or zero
        or not 0 < count <= limits.FRAME_ENTRIES_MAX
        or body_bytes > limits.FRAME_BODY_BYTES_MAX
        or not first_index
        or not term
    ):
        raise FrameDamaged("header", f"frame header at offset {offset} has impossible fields")
    return FrameHeader(
        first_index,
        first_index + count - 1,
        term,
        _KINDS[kind],
        time_ns,
        parent,
        chain,
        body_crc,
        body_bytes,
    )


def decode(buffer: bytes, offset: int = 0) -> Frame:
    """Read and check the whole frame at `offset`. FrameDamaged if any bit of it is wrong."""
    header = decode_header(buffer, offset)
    data = bytes(buffer[offset : offset + header.frame_bytes])
    if len(data) < header.frame_bytes:
        raise FrameDamaged("short", f"frame body cut short at offset {offset}", header)
    if crc32c(data[HEADER_BYTES:]) != header.body_crc:
        first, last = header.first_index, header.last_index
        raise FrameDamaged("body", f"entries {first}..{last} at offset {offset} fail their checksum", header)
    return Frame(header, data)


def decode_run(buffer: bytes) -> tuple[Frame, ...]:
    """Read consecutive frames that fill `buffer` exactly, chain checked between them."""
    frames: list[Frame] = []
    offset = 0
    while offset < len(buffer):
        frame = decode(buffer, offset)
        if frames:
            check_follows(frames[-1].header, frame.header)
        frames.append(frame)
        offset += len(frame.data)
    return tuple(frames)


def check_follows(before: FrameHeader, after: FrameHeader) -> None:
    """Raise Corrupt unless `after` can stand directly behind `before` in one log."""
    follows = (
        after.first_index == before.last_index + 1
        and after.parent == before.chain
        and after.term >= before.term
        and after.time_ns > before.time_ns
    )
    if not follows:
        raise Corrupt(
            f"frame at index {after.first_index} does not follow the frame that ends at "
            f"{before.last_index}: the chain is broken between them"
        )
