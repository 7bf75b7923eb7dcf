"""Frames and special entries: bytes there and back, every bit of them checked, chains checked."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neumann.errors import Corrupt
from neumann.format import frame, limits, special
from neumann.format.checksum import crc32c
from neumann.format.frame import HEADER_BYTES, Frame, FrameDamaged, Kind
from tests.format import strategies
from tests.format.examples import FRAMES


def one(kind: Kind = Kind.DATA, first: int = 1, term: int = 1, time_ns: int = 1, parent: int = 0) -> Frame:
    """A frame with a one-byte body, or one entry."""
    return frame.encode(kind, first, term, time_ns, parent, [b"\x90"])


def forged(change: dict[int, bytes]) -> bytes:
    """A frame with other bytes at these offsets, under good checksums."""
    data = bytearray(FRAMES[1].data)
    for offset, new in change.items():
        data[offset : offset + len(new)] = new
    data[4:8] = struct.pack("<I", crc32c(bytes(data[HEADER_BYTES:])))
    data[:4] = struct.pack("<I", crc32c(bytes(data[4:HEADER_BYTES])))
    return bytes(data)


@settings(deadline=None, max_examples=30)
@given(
    first=st.integers(1, 2**48),
    term=st.integers(1, 2**48),
    time_ns=strategies.u64,
    parent=strategies.u32,
    entries=st.lists(strategies.plain.map(strategies.packed), min_size=1, max_size=20),
)
def test_round_trip(first: int, term: int, time_ns: int, parent: int, entries: list[bytes]) -> None:
    made = frame.encode(Kind.DATA, first, term, time_ns, parent, entries)
    assert frame.decode(b"before" + made.data + b"behind", 6) == made
    header = made.header
    assert header == (first, first + len(entries) - 1, term, Kind.DATA, time_ns, parent, *header[6:])
    assert (header.end.index, header.frame_bytes) == (header.last_index, len(made.data))
    assert made.body[frame.ARRAY_HEADER_BYTES :] == b"".join(entries)


@pytest.mark.parametrize("number", range(len(FRAMES)))
def test_every_flipped_bit_is_found(number: int) -> None:
    data = FRAMES[number].data
    for offset in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[offset] ^= 1 << bit
            with pytest.raises(FrameDamaged) as damaged:
                frame.decode(bytes(changed))
            is_body = offset >= HEADER_BYTES
            assert damaged.value.what == ("body" if is_body else "header")
            assert damaged.value.header == (FRAMES[number].header if is_body else None)


@pytest.mark.parametrize("number", range(len(FRAMES)))
def test_every_shorter_length_is_found(number: int) -> None:
    data = FRAMES[number].data
    for size in range(len(data)):
        with pytest.raises(FrameDamaged) as damaged:
            frame.decode(data[:size])
        assert damaged.value.what == "short"
        with pytest.raises(FrameDamaged):
            frame.decode_run(FRAMES[0].data + data[:size] if size else data[:1])


@pytest.mark.parametrize(
    "change",
    [
        {12: struct.pack("<I", limits.FRAME_BODY_BYTES_MAX + 1)},
        {16: struct.pack("<I", 0)},
        {16: struct.pack("<I", limits.FRAME_ENTRIES_MAX + 1)},
        {20: b"\x08"},
        {21: b"\x02"},
        {22: b"\x01"},
        {24: bytes(8)},
        {32: bytes(8)},
    ],
    ids=["body size", "no entry", "entries", "kind", "version", "zero", "index", "term"],
)
def test_impossible_fields_under_good_checksums(change: dict[int, bytes]) -> None:
    assert frame.decode(forged({})) == FRAMES[1]
    with pytest.raises(FrameDamaged, match="impossible"):
        frame.decode(forged(change))


@settings(deadline=None, max_examples=30)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_no_frame(data: bytes) -> None:
    with pytest.raises(FrameDamaged):
        frame.decode(data)


def test_a_run() -> None:
    assert frame.decode_run(b"".join(f.data for f in FRAMES)) == FRAMES
    assert frame.decode_run(b"") == ()


@pytest.mark.parametrize(
    "after",
    [
        one(first=3, parent=one().header.chain, time_ns=2),
        one(first=2, parent=one().header.chain ^ 1, time_ns=2),
        one(first=2, parent=one().header.chain, time_ns=1),
    ],
    ids=["index", "parent", "time"],
)
def test_what_does_not_follow(after: Frame) -> None:
    with pytest.raises(Corrupt, match="does not follow"):
        frame.decode_run(one().data + after.data)


def test_a_term_that_goes_back() -> None:
    before = one(term=2)
    with pytest.raises(Corrupt, match="does not follow"):
        frame.check_follows(before.header, one(first=2, time_ns=2, parent=before.header.chain).header)


# --- special entries ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(entry=strategies.specials)
def test_a_special_entry_there_and_back(entry: special.Special) -> None:
    kind, body = special.encode(entry)
    assert special.decode(frame.encode(kind, 1, 1, 1, 0, [body])) == entry


@settings(deadline=None, max_examples=30)
@given(kind=st.sampled_from(Kind), body=strategies.rubbish)
def test_what_is_no_special_entry_is_none(kind: Kind, body: bytes) -> None:
    """It is committed, so it must do nothing, and on no node raise anything."""
    if kind is not Kind.DATA:
        found = special.decode(frame.encode(kind, 1, 1, 1, 0, [body]))
        assert found is None or type(found).__name__.upper() == kind.name
