"""The sorted table: an immutable file of rows in the order of their addresses (design section 5).

    magic            8   "NEUTAB" and the version "01"
    blocks               one behind the other, each:
        crc          4   CRC-32C of all that follows of this block
        raw_bytes    4   size of the content, uncompressed
        stored_bytes 4   size of what is stored
        stored           LZ4 block of the content
    filters              one for each 64 blocks, one behind the other, each:
        crc          4   CRC-32C of its prints
        prints           two bytes for each row of those blocks, in their order
    index                MessagePack [first key of each block, end offset of each block,
                         rows up to the end of each block, last key of all]
    footer         104   index_bytes 4, index_crc 4, rows 8, tombstones 8, raw_bytes 8, digest 32,
                         zero 28, crc 4 (of the footer but itself), magic 8

A block's content is the MessagePack array [addresses, values, revisions, times], four columns of equal
length; the value of a tombstone is nil. A block ends behind the row that brings its weight to
`block_bytes`; a row weighs the characters of its address, the bytes of its value, and ROW_WEIGHT.

A row's print is the low half of the CRC-32C of its address, in UTF-8: who looks for a row searches the
prints of the one block that may hold it, and reads the block only where the print occurs. For an absent
row of a block with 250 others that is once in 130 times. (A Bloom filter of the same use is half as
large, but is set bit by bit; prints cost a merge a sixteenth more.)

The digest that names a table is BLAKE2b-256 over the contents of its blocks, uncompressed, in order: a
release of LZ4 that packs otherwise changes no digest, and the filters follow from the rows. All of this
is feature level 1; `block_bytes` is the cluster's own and stands in its manifests. A table bears no
cluster id: it is named by its content, and the manifest that names it says whose it is.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import lz4.block
import msgpack

from neumann.errors import Corrupt
from neumann.format.checksum import crc32c, crcs32c
from neumann.format.fields import checked
from neumann.format.manifest import TableRef
from neumann.format.record import check_version

MAGIC = b"NEUTAB01"
HEADER_BYTES = len(MAGIC)
ROW_WEIGHT = 16
FILTER_BLOCKS = 64
PRINT_BYTES = 2
_CRC_BYTES = 4
_BLOCK = struct.Struct("<III")
_FOOTER = struct.Struct("<IIQQQ32s28sI8s")
FOOTER_BYTES = _FOOTER.size
assert FOOTER_BYTES == 104
_FOOTER_COVERED = FOOTER_BYTES - 12

Version = tuple[bytes | None, int, int]
"""One version of a row: its packed value (None: deleted), revision, time in nanoseconds."""


class Columns(NamedTuple):
    """Rows, in the order of their addresses, as four columns of equal length."""

    keys: Sequence[str]
    values: Sequence[bytes | None]
    revisions: Sequence[int]
    times: Sequence[int]

    def version(self, place: int) -> Version:
        """The row at that place."""
        return self.values[place], self.revisions[place], self.times[place]

    def cut(self, start: int, stop: int) -> Columns:
        """The rows start..stop-1."""
        return Columns(
            self.keys[start:stop], self.values[start:stop], self.revisions[start:stop], self.times[start:stop]
        )


NO_ROWS = Columns((), (), (), ())


def concatenate(parts: Sequence[Columns]) -> Columns:
    """Runs of rows, one behind the other."""
    keys, values, revisions, times = zip(*parts, strict=True)
    joined = chain.from_iterable
    return Columns(list(joined(keys)), list(joined(values)), list(joined(revisions)), list(joined(times)))


class Index(NamedTuple):
    """Where a table's blocks are. Block n has the rows from first_keys[n] on and ends at ends[n];
    row_ends[n] counts the rows of all blocks up to its end."""

    first_keys: Sequence[str]
    ends: Sequence[int]
    row_ends: Sequence[int]
    last_key: str

    @property
    def filters_bytes(self) -> int:
        """Size of all filters, which begin at ends[-1]."""
        count = -(-len(self.ends) // FILTER_BLOCKS)
        return count * _CRC_BYTES + self.row_ends[-1] * PRINT_BYTES

    def filter_place(self, number: int) -> tuple[int, int]:
        """(offset, bytes) of filter `number`."""
        before = self.rows_before(number * FILTER_BLOCKS)
        last = min((number + 1) * FILTER_BLOCKS, len(self.ends)) - 1
        offset = self.ends[-1] + number * _CRC_BYTES + before * PRINT_BYTES
        return offset, _CRC_BYTES + (self.row_ends[last] - before) * PRINT_BYTES

    def rows_before(self, block: int) -> int:
        """How many rows come before a block."""
        return self.row_ends[block - 1] if block else 0


class Footer(NamedTuple):
    """What the last bytes of a table say of the rest."""

    index_bytes: int
    index_crc: int
    rows: int
    tombstones: int
    raw_bytes: int
    digest: bytes

    def ref(self, index: Index) -> TableRef:
        """How a manifest names this table."""
        return TableRef(
            self.digest, self.rows, self.tombstones, self.raw_bytes, index.first_keys[0], index.last_key
        )


def encode_content(rows: Columns) -> bytes:
    """A block's content, uncompressed: what the digest is over."""
    assert rows.keys and len(rows.keys) == len(rows.values)
    packed: bytes = msgpack.packb(
        (list(rows.keys), list(rows.values), list(rows.revisions), list(rows.times)), use_bin_type=True
    )
    return packed


def encode_block(content: bytes) -> bytes:
    """The block as it is stored."""
    stored = lz4.block.compress(content, store_size=False)
    covered = struct.pack("<II", len(content), len(stored)) + stored
    block: bytes = crc32c(covered).to_bytes(4, "little") + covered
    return block


def decode_content(block: bytes, where: str) -> bytes:
    """Check a stored block and return its content; Corrupt names `where`."""
    if len(block) < _BLOCK.size:
        raise Corrupt(f"{where}: the block is cut short")
    crc, raw_bytes, stored_bytes = _BLOCK.unpack_from(block)
    if len(block) != _BLOCK.size + stored_bytes or crc != crc32c(block[4:]):
        raise Corrupt(f"{where}: the block fails its checksum")
    try:
        content: bytes = lz4.block.decompress(block[_BLOCK.size :], uncompressed_size=raw_bytes)
    except (lz4.block.LZ4BlockError, ValueError) as error:
        raise Corrupt(f"{where}: the block can't be decompressed: {error}") from error
    return content


def decode_rows(content: bytes, where: str) -> Columns:
    """The rows in a block's content; Corrupt names `where`."""
    try:
        columns = Columns(*checked(msgpack.unpackb(content, use_list=False, raw=False), (tuple,) * 4))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Corrupt(f"{where}: the block holds no rows: {error}") from error
    if not columns.keys or len({len(column) for column in columns}) != 1:
        raise Corrupt(f"{where}: the block's columns differ in length")
    return columns


def print_of(address: str) -> bytes:
    """One row's print."""
    return (crc32c(address.encode()) & 0xFFFF).to_bytes(PRINT_BYTES, "little")


def prints_of(addresses: Iterable[str]) -> bytes:
    """The prints of rows, one behind the other."""
    crcs = tuple(crcs32c(map(str.encode, addresses)))
    halves = array("H", struct.pack(f"<{len(crcs)}I", *crcs))
    return halves[::2].tobytes()


def encode_filter(prints: bytes) -> bytes:
    """A filter as it is stored."""
    return crc32c(prints).to_bytes(_CRC_BYTES, "little") + prints


def decode_filter(data: bytes, where: str) -> bytes:
    """Check a filter and return its prints; Corrupt names `where`."""
    prints = data[_CRC_BYTES:]
    if int.from_bytes(data[:_CRC_BYTES], "little") != crc32c(prints):
        raise Corrupt(f"{where}: the filter fails its checksum")
    return prints


def encode_end(index: Index, rows: int, tombstones: int, raw_bytes: int, digest: bytes) -> bytes:
    """Index and footer: what follows the last filter."""
    packed: bytes = msgpack.packb(
        (list(index.first_keys), list(index.ends), list(index.row_ends), index.last_key), use_bin_type=True
    )
    fields = (len(packed), crc32c(packed), rows, tombstones, raw_bytes, digest, bytes(28))
    covered = _FOOTER.pack(*fields, 0, MAGIC)[:_FOOTER_COVERED] + MAGIC
    return packed + _FOOTER.pack(*fields, crc32c(covered), MAGIC)


def check_magic(found: bytes, where: str) -> None:
    """Raise unless a table, whose footer is in order, begins with these bytes."""
    if found != MAGIC:
        raise Corrupt(f"{where}: is not how a sorted table begins")


def decode_footer(data: bytes, where: str) -> Footer:
    """Read and check a table's last FOOTER_BYTES; Corrupt or FormatTooNew names `where`."""
    if len(data) != FOOTER_BYTES:
        raise Corrupt(f"{where}: {len(data)} bytes are too few for a table")
    *fields, zero, crc, magic = _FOOTER.unpack(data)
    if magic[:6] != MAGIC[:6]:
        raise Corrupt(f"{where}: is no sorted table, or its end is damaged")
    if crc != crc32c(data[:_FOOTER_COVERED] + magic) or any(zero):
        raise Corrupt(f"{where}: the table's footer fails its checksum")
    check_version(magic, MAGIC, where)
    return Footer(*fields)


def decode_index(data: bytes, footer: Footer, where: str) -> Index:
    """Read and check a table's index; Corrupt names `where`."""
    if len(data) != footer.index_bytes or crc32c(data) != footer.index_crc:
        raise Corrupt(f"{where}: the table's index fails its checksum")
    try:
        plain = msgpack.unpackb(data, use_list=False, raw=False)
        first_keys, ends, row_ends, last_key = checked(plain, (tuple, tuple, tuple, str))
        checked(first_keys, (str,) * len(first_keys))
        checked(ends, (int,) * len(ends))
        checked(row_ends, (int,) * len(row_ends))
        index = Index(first_keys, array("Q", ends), array("Q", row_ends), last_key)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise Corrupt(f"{where}: not a table's index: {error}") from error
    if not index.first_keys or not len(index.first_keys) == len(index.ends) == len(index.row_ends):
        raise Corrupt(f"{where}: the table's index has no blocks, or not one end for each")
    return index


def content_bytes(rows: Columns) -> bytes:
    """What the **content digest** is over, for these live rows: a MessagePack array [address, value as
    bin, revision] each, one behind the other in the order of the addresses (design section 5).

    The digest, BLAKE2b-256, names the state and no file: not the tables, nor the times, nor tombstones.
    """
    pack = msgpack.Packer(use_bin_type=True).pack
    return b"".join(map(pack, zip(rows.keys, rows.values, rows.revisions, strict=True)))
