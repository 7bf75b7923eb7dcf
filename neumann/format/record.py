"""Small records on disk: one checksummed MessagePack array behind a magic number, and pairs of slots.

    offset bytes field
         0     8 magic        says which record this is, and its version
         8     4 crc          CRC-32C of bytes 12..16+length
        12     4 length       of the payload
        16     - payload      a MessagePack array

A **two-slot** file holds two such records of SLOT_BYTES each; both are written and synced in turn, and
made equal at start before anything is answered. The first readable slot with the higher sequence wins;
the sequence is the payload's first element.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from neumann.errors import Corrupt, FormatTooNew
from neumann.format.checksum import crc32c

_HEAD = struct.Struct("<8sII")
SLOT_BYTES = 4096
SLOT_COUNT = 2


def encode(magic: bytes, payload: object) -> bytes:
    """The record's bytes."""
    assert len(magic) == 8
    packed: bytes = msgpack.packb(payload, use_bin_type=True)
    covered = struct.pack("<I", len(packed)) + packed
    return magic + struct.pack("<I", crc32c(covered)) + covered


def decode(magic: bytes, data: bytes, where: str) -> tuple[Any, ...]:
    """The payload, arrays as tuples. Corrupt or FormatTooNew names `where`."""
    if len(data) < _HEAD.size:
        raise Corrupt(f"{where}: {len(data)} bytes are too few for its header")
    found, crc, length = _HEAD.unpack_from(data)
    if found != magic:
        if found[:6] == magic[:6] and found[6:] > magic[6:]:
            raise FormatTooNew(
                f"{where} was written by a later release",
                remedy="use that release, or a newer one, with this directory",
            )
        raise Corrupt(f"{where}: starts with {found!r} and not with {magic!r}")
    if len(data) < _HEAD.size + length or crc != crc32c(data[12 : _HEAD.size + length]):
        raise Corrupt(f"{where}: fails its checksum")
    payload = msgpack.unpackb(data[_HEAD.size : _HEAD.size + length], use_list=False, strict_map_key=False)
    if not isinstance(payload, tuple):
        raise Corrupt(f"{where}: holds no array")
    return payload


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
        part = data[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
        try:
            readable.append(decode(magic, part, f"{where}, slot {slot}"))
        except Corrupt as error:
            first_error = first_error or error
    if not readable:
        assert first_error is not None
        raise first_error
    return max(readable, key=lambda payload: int(payload[0]))
