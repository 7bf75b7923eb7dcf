"""Reads segments, tables and manifests as docs/format.md tells them, and knows nothing else: no line of the
product is used.

CRC-32C is crcmod's, MessagePack msgpack's, LZ4 lz4's, BLAKE2b Python's; everything else is struct.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import crcmod.predefined
import lz4.block
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


class Row(NamedTuple):
    """A row of a table; `value` is None for a tombstone."""

    address: str
    value: bytes | None
    revision: int
    time_ns: int


class Table:
    """A sorted table's bytes, checked to the last one. `digest` is the one that names it."""

    def __init__(self, data: bytes) -> None:
        _refuse(0, len(data) < 112 or data[:8] != b"NEUTAB01" or data[-8:] != b"NEUTAB01", "no table")
        footer = struct.unpack("<IIQQQ32s28sI", data[-104:-8])
        index_bytes, index_crc, row_count, tombstones, raw_bytes, self.digest, zero, crc = footer
        _refuse(len(data) - 104, crc != crc32c(data[-104:-12] + data[-8:]) or any(zero), "the footer")
        index_begin = len(data) - 104 - index_bytes
        index = data[index_begin:-104]
        _refuse(index_begin, crc32c(index) != index_crc, "wrong CRC of the index")
        self.first_keys, self.ends, row_ends, last_key = msgpack.unpackb(index)
        self.rows: list[Row] = []
        content = hashlib.blake2b(digest_size=32)
        begin, sizes, prints = 8, 0, []
        for number, (first_key, end) in enumerate(zip(self.first_keys, self.ends, strict=True)):
            block = self._block(data[begin:end], begin)
            content.update(block)
            sizes += len(block)
            rows = [Row(*row) for row in zip(*msgpack.unpackb(block), strict=True)]
            _refuse(begin, rows[0].address != first_key, "another first address than the index tells")
            self.rows += rows
            prints.append(b"".join(struct.pack("<H", crc32c(r.address.encode()) % 65536) for r in rows))
            _refuse(begin, row_ends[number] != len(self.rows), "another count than the index tells")
            begin = end
        addresses = [row.address for row in self.rows]
        _refuse(8, addresses != sorted(set(addresses)) or addresses[-1] != last_key, "rows out of order")
        counts = len(self.rows), sum(row.value is None for row in self.rows), sizes
        _refuse(index_begin, counts != (row_count, tombstones, raw_bytes), "the footer's counts")
        _refuse(index_begin, content.digest() != self.digest, "the digest")
        for first in range(0, len(prints), 64):
            expected = b"".join(prints[first : first + 64])
            expected = struct.pack("<I", crc32c(expected)) + expected
            _refuse(begin, data[begin : begin + len(expected)] != expected, "the filter")
            begin += len(expected)
        _refuse(begin, begin != index_begin, "the index does not follow the filters")

    @staticmethod
    def _block(stored: bytes, offset: int) -> bytes:
        _refuse(offset, len(stored) < 12, "a block cut short")
        crc, raw_bytes, stored_bytes = struct.unpack_from("<III", stored)
        _refuse(offset, stored_bytes != len(stored) - 12 or crc != crc32c(stored[4:]), "wrong CRC of a block")
        content: bytes = lz4.block.decompress(stored[12:], uncompressed_size=raw_bytes)
        return content


class Snapshot(NamedTuple):
    """A manifest: where in the log it stands, its tables' digests, newest first, and its layout digest."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    term: int
    tables: list[bytes]
    block_bytes: int
    layout_digest: bytes


def read_manifest(data: bytes) -> Snapshot:
    """A manifest file's bytes."""
    _refuse(0, data[:8] != b"NEUMAN01", "no manifest")
    crc, length = struct.unpack_from("<II", data, 8)
    payload = data[16:]
    _refuse(8, len(payload) != length or crc != crc32c(data[:8] + data[12:]), "wrong CRC or length")
    fields = msgpack.unpackb(payload)
    (index, term, _), tables, block_bytes = fields[1], fields[6], fields[9]
    layout = hashlib.blake2b(payload, digest_size=32).digest()
    return Snapshot(index, term, [ref[0] for ref in tables], block_bytes, layout)


def rows_of(snapshot: Snapshot, files: Mapping[bytes, bytes]) -> list[Row]:
    """The live rows of a snapshot, in order; `files` are tables' bytes by digest."""
    newest: dict[str, Row] = {}
    for digest in reversed(snapshot.tables):
        table = Table(files[digest])
        _refuse(0, table.digest != digest, "another table than its name tells")
        newest |= {row.address: row for row in table.rows}
    return [newest[address] for address in sorted(newest) if newest[address].value is not None]
