"""Small records on disk: one checksummed MessagePack array behind a magic number, and pairs of slots.

    offset bytes field
         0     8 magic        says which record this is, and its version
         8     4 crc          CRC-32C of bytes 0..8 and 12..16+length
        12     4 length       of the payload
        16     - payload      a MessagePack array

The checksum covers the magic too, so a later version is told apart from a damaged one; in every version
these 16 bytes stand where they stand here. A record fills its file. A **two-slot** file holds two
records, each filled up with zeros to SLOT_BYTES; both are written and synced in turn, and made equal at
start before anything is answered. The readable slot with the higher sequence wins; the sequence is the
payload's first element.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from neumann.errors import Corrupt, FormatTooNew
from neumann.format.checksum import crc32c

_HEAD = struct.Struct("<8sII")
_MAGIC_BYTES = 8
_NAME_BYTES = 6
_CRC_END = 12
SLOT_BYTES = 4096
SLOT_COUNT = 2


def encode(magic: bytes, payload: object) -> bytes:
    """The record's bytes."""
    assert len(magic) == _MAGIC_BYTES
    packed: bytes = msgpack.packb(payload, use_bin_type=True)
    rest = struct.pack("<I", len(packed)) + packed
    return magic + struct.pack("<I", crc32c(magic + rest)) + rest


def decode(magic: bytes, data: bytes, where: str) -> tuple[Any, ...]:
    """The payload of the record that fills `data`, arrays as tuples.

    Corrupt or FormatTooNew names `where`.
    """
    payload, end = _decode(magic, data, where)
    if end != len(data):
        raise Corrupt(f"{where}: {len(data) - end} bytes follow the record")
    return payload


def _decode(magic: bytes, data: bytes, where: str) -> tuple[tuple[Any, ...], int]:
    """(payload, end) of the record that `data` begins with."""
    if len(data) < _HEAD.size:
        raise Corrupt(f"{where}: {len(data)} bytes are too few for its header")
    found, crc, length = _HEAD.unpack_from(data)
    end = _HEAD.size + length
    if found[:_NAME_BYTES] != magic[:_NAME_BYTES]:
        raise Corrupt(f"{where}: starts with {found!r} and not with {magic!r}")
    if len(data) < end or crc != crc32c(found + data[_CRC_END:end]):
        raise Corrupt(f"{where}: fails its checksum")
    check_version(found, magic, where)
    try:
        payload = msgpack.unpackb(data[_HEAD.size : end], use_list=False, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Corrupt(f"{where}: its payload can't be decoded: {error}") from error
    if type(payload) is not tuple:
        raise Corrupt(f"{where}: holds no array")
    return payload, end


def check_version(found: bytes, magic: bytes, where: str) -> None:
    """Raise unless `found`, under a good checksum, is `magic`: six bytes of name, two digits of version."""
    if found == magic:
        return
    if found[_NAME_BYTES:] > magic[_NAME_BYTES:]:
        raise FormatTooNew(
            f"{where} was written by a later release",
            remedy="use that release, or a newer one, with this directory",
        )
    raise Corrupt(f"{where}: version {found!r} was never in use")


def encode_slot(magic: bytes, payload: tuple[object, ...]) -> bytes:
    """One slot of a two-slot file, padded. `payload[0]` is its sequence, counted up by the writer."""
    data = encode(magic, payload)
    assert len(data) <= SLOT_BYTES
    return data.ljust(SLOT_BYTES, b"\0")


def decode_slots(magic: bytes, data: bytes, where: str) -> tuple[Any, ...]:
    """The newest readable slot's payload; Corrupt if neither can be read."""
    readable: list[tuple[Any, ...]] = []
    first_error: Corrupt | None = None
    for slot in range(SLOT_COUNT):
        try:
            readable.append(decode_slot(magic, data, slot, where))
        except Corrupt as error:
            first_error = first_error or error
    if not readable:
        assert first_error is not None
        raise first_error
    return max(readable, key=lambda payload: int(payload[0]))


def decode_slot(magic: bytes, data: bytes, slot: int, where: str) -> tuple[Any, ...]:
    """The payload of one slot of a two-slot file; Corrupt if any byte of the slot is wrong."""
    where = f"{where}, slot {slot}"
    part = data[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
    payload, end = _decode(magic, part, where)
    if len(part) != SLOT_BYTES or any(part[end:]):
        raise Corrupt(f"{where}: the record is not followed by zeros to the end of the slot")
    if not payload or type(payload[0]) is not int:
        raise Corrupt(f"{where}: has no sequence")
    return payload
