"""Reads a segment as docs/format.md tells it, and knows nothing else: no line of the product is used.

CRC-32C is crcmod's, MessagePack is msgpack's; everything else is struct.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import crcmod.predefined
import msgpack

_crc_function = crcmod.predefined.mkCrcFun("crc-32c")

SEGMENT_HEADER = "<8sII16sIQQQI"
FRAME_HEADER = "<IIIIIBBHQQQ"
FRAMES_BEGIN = 64
DATA, MARKER, KINDS = 0, 2, range(8)
ENTRIES_MAX, BODY_BYTES_MAX = 65536, 16777216


class Damaged(Exception):
    """What the page says a reader must refuse, and the offset where it stands."""


class Entry(NamedTuple):
    """One entry: `content` is a command or the fields of a special entry, unpacked."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    term: int
    time_ns: int
    kind: int
    content: Any


def crc32c(data: bytes) -> int:
    """CRC-32C by the portable implementation."""
    return int(_crc_function(data))


def _refuse(offset: int, when: bool, why: str) -> None:
    if when:
        raise Damaged(f"offset {offset}: {why}")


def _contents(body: bytes, kind: int, count: int) -> list[Any]:
    """What the entries are; None for each where a sound body can't be decoded: they change nothing."""
    try:
        found = msgpack.unpackb(body, strict_map_key=False) if kind == DATA else [msgpack.unpackb(body)]
    except (ValueError, TypeError):
        found = None
    return found if isinstance(found, list) and len(found) == count else [None] * count


class Segment:
    """A segment file's bytes. Header fields are attributes; `is_sealed` and `end` once it was read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.is_sealed = False
        self.end = FRAMES_BEGIN
        _refuse(0, len(data) < FRAMES_BEGIN, "no header")
        magic, crc, version, self.cluster_id, counter, random, first_index, term, chain = struct.unpack_from(
            SEGMENT_HEADER, data
        )
        _refuse(0, magic != b"NEUWAL\x00\x01", "no segment")
        _refuse(0, crc != crc32c(data[12:64]), "wrong CRC of the header")
        _refuse(0, version != 1, "a later version")
        self.timeline = f"{counter}-{random:016x}"
        self.first_index, self.previous_term, self.previous_chain = first_index, term, chain

    def entries(self) -> Iterator[Entry]:
        """All entries, in order; Damaged where something is wrong, after those before it."""
        index, term, chain, time_ns = self.first_index - 1, self.previous_term, self.previous_chain, 0
        while any(self.data[self.end :]):
            _refuse(self.end, self.is_sealed, "bytes behind the seal")
            offset = self.end
            header = self._frame_header(offset)
            own_chain, _, parent, body_bytes, count, kind, _, _, first_index, own_term, own_time = header
            _refuse(offset, parent != chain or first_index != index + 1, "does not follow")
            _refuse(offset, own_term < term or own_time <= time_ns, "goes back")
            body = self.data[offset + 48 : offset + 48 + body_bytes]
            _refuse(offset, len(body) < body_bytes or crc32c(body) != header[1], "wrong CRC of the body")
            contents = _contents(body, kind, count)
            for number, content in enumerate(contents):
                yield Entry(first_index + number, own_term, own_time, kind, content)
            self.is_sealed = kind == MARKER and contents[0] is not None and contents[0][0]
            self.end = offset + 48 + body_bytes
            index, term, chain, time_ns = first_index + count - 1, own_term, own_chain, own_time
        _refuse(self.end, self.is_sealed and len(self.data) > self.end, "bytes behind the seal")

    def _frame_header(self, offset: int) -> tuple[int, ...]:
        _refuse(offset, len(self.data) < offset + 48, "cut short")
        header = struct.unpack_from(FRAME_HEADER, self.data, offset)
        crc, _, _, body_bytes, count, kind, version, zero, first_index, term, _ = header
        _refuse(offset, crc != crc32c(self.data[offset + 4 : offset + 48]), "wrong CRC of a frame's header")
        _refuse(offset, version != 1 or kind not in KINDS or zero != 0, "unknown version, kind or zero")
        _refuse(offset, not 0 < count <= ENTRIES_MAX or body_bytes > BODY_BYTES_MAX, "sizes")
        _refuse(offset, first_index == 0 or term == 0, "no index or term")
        return header
