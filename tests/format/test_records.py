"""The small files: each is read as it was written, or refused by its path; nothing else ever happens."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from neumann.errors import Corrupt, FormatTooNew
from neumann.format import history, journal, manifest, restored, segment, state
from neumann.format.checksum import crc32c
from neumann.format.record import SLOT_BYTES, SLOT_COUNT
from tests.format import strategies
from tests.format.examples import CHILD, DIVERGED, EXAMPLES, JOURNAL, MANIFEST, MARK, RESTORED, SEGMENT_HEADER

WHERE = "/some/file"


class Codec(NamedTuple):
    """A small file: its values, and how they become bytes and come back."""

    values: st.SearchStrategy[Any]
    example: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes, str], Any]


RECORDS = {
    "identity": Codec(
        strategies.identities, EXAMPLES["identity"].value, state.encode_identity, state.decode_identity
    ),
    "history": Codec(strategies.histories(), CHILD, history.encode, history.decode),
    "manifest": Codec(strategies.manifests, MANIFEST, manifest.encode, manifest.decode),
    "journal": Codec(strategies.journals, JOURNAL, journal.encode, journal.decode),
    "restored": Codec(strategies.restored, RESTORED, restored.encode, restored.decode),
    "diverged": Codec(strategies.diverged, DIVERGED, state.encode_diverged, state.decode_diverged),
}
SLOTS = {
    "vote": Codec(
        strategies.votes,
        EXAMPLES["vote"].value[1],
        lambda value: state.encode_vote_slot(7, value),
        lambda data, where: state.decode_vote(data, where)[1],
    ),
    "sync mark": Codec(
        strategies.marks,
        MARK,
        lambda value: state.encode_mark_slot(7, value),
        lambda data, where: state.decode_mark(data, where)[1],
    ),
}
HEADER = Codec(strategies.segment_headers, SEGMENT_HEADER, segment.encode_header, segment.decode_header)
ALL = {**RECORDS, **SLOTS, "segment header": HEADER}


def flipped(data: bytes, offset: int, bit: int) -> bytes:
    """One bit turned."""
    changed = bytearray(data)
    changed[offset] ^= 1 << bit
    return bytes(changed)


def resealed(data: bytes) -> bytes:
    """A record's bytes under a right length and checksum."""
    rest = struct.pack("<I", len(data) - 16) + data[16:]
    return data[:8] + struct.pack("<I", crc32c(data[:8] + rest)) + rest


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_round_trip(name: str, data: st.DataObject) -> None:
    codec = ALL[name]
    value = data.draw(codec.values)
    encoded = codec.encode(value)
    assert codec.decode(encoded, WHERE) == value
    assert codec.encode(codec.decode(encoded, WHERE)) == encoded


@pytest.mark.parametrize("name", [*RECORDS, "segment header"])
def test_every_flipped_bit_is_corruption(name: str) -> None:
    """A flipped digit of the version once read as a file of a later release."""
    codec = ALL[name]
    encoded = codec.encode(codec.example)
    for offset in range(len(encoded)):
        for bit in range(8):
            with pytest.raises(Corrupt, match=WHERE):
                codec.decode(flipped(encoded, offset, bit), WHERE)


@pytest.mark.parametrize("name", RECORDS)
def test_every_other_length_is_corruption(name: str) -> None:
    codec = RECORDS[name]
    encoded = codec.encode(codec.example)
    for size in range(len(encoded)):
        with pytest.raises(Corrupt, match=WHERE):
            codec.decode(encoded[:size], WHERE)
    for more in (b"\0", b"x", encoded):
        with pytest.raises(Corrupt, match=WHERE):
            codec.decode(encoded + more, WHERE)


@pytest.mark.parametrize("size", range(64))
def test_a_segment_s_header_cut_short(size: int) -> None:
    with pytest.raises(Corrupt, match=WHERE):
        segment.decode_header(segment.encode_header(SEGMENT_HEADER)[:size], WHERE)


@pytest.mark.parametrize("name", SLOTS)
def test_every_flipped_byte_of_a_slot_leaves_the_other(name: str) -> None:
    """Both slots alike: the value is read from the one that is whole. In both: nothing is read."""
    codec = SLOTS[name]
    slot = codec.encode(codec.example)
    assert len(slot) == SLOT_BYTES
    for offset in range(SLOT_BYTES):
        bad = flipped(slot, offset, offset % 8)
        assert codec.decode(bad + slot, WHERE) == codec.decode(slot + bad, WHERE) == codec.example
        with pytest.raises(Corrupt, match=WHERE):
            codec.decode(bad + bad, WHERE)


@pytest.mark.parametrize("name", SLOTS)
def test_every_length_of_a_two_slot_file(name: str) -> None:
    codec = SLOTS[name]
    whole = codec.encode(codec.example) * SLOT_COUNT
    for size in range(0, len(whole), 13):
        if size < SLOT_BYTES:
            with pytest.raises(Corrupt, match=WHERE):
                codec.decode(whole[:size], WHERE)
        else:
            assert codec.decode(whole[:size], WHERE) == codec.example


def test_the_newest_readable_slot_wins() -> None:
    old, new = state.Vote(1, "a"), state.Vote(2, "b")
    slots = [state.encode_vote_slot(5, old), state.encode_vote_slot(6, new)]
    for order in (slots, slots[::-1]):
        assert state.decode_vote(b"".join(order), WHERE) == (6, new)
    assert state.decode_vote(slots[0] + flipped(slots[1], 20, 0), WHERE) == (5, old)


def is_written_so(codec: Codec, data: bytes) -> bool:
    """Whether it is a record after all, byte for byte as we write it: small ones are met by chance."""
    try:
        return codec.encode(codec.decode(data, WHERE)) == data
    except Corrupt:
        return False


@pytest.mark.parametrize("name", [*RECORDS, *SLOTS])
@settings(deadline=None, max_examples=25)
@given(payload=strategies.rubbish)
@example(payload=b"\x92\xa0\x00")  # of "diverged", which has a text and a number, it is a record
def test_a_good_checksum_over_something_else_is_corruption(name: str, payload: bytes) -> None:
    """What no code of ours wrote, or a mistake of a later release under an old version."""
    codec = ALL[name]
    head = codec.encode(codec.example)[:16]
    forged = resealed(head + payload)
    assume(not is_written_so(codec, forged))
    if name in SLOTS:
        forged = forged.ljust(SLOT_BYTES, b"\0") * SLOT_COUNT
    with pytest.raises(Corrupt, match=WHERE):
        codec.decode(forged, WHERE)


@pytest.mark.parametrize("name", [*RECORDS, *SLOTS])
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_field_of_another_type_is_corruption(name: str, data: st.DataObject) -> None:
    codec = ALL[name]
    encoded = codec.encode(codec.example)
    end = 16 + int.from_bytes(encoded[12:16], "little")
    fields = list(strategies.unpacked(encoded[16:end]))
    place = data.draw(st.integers(0, len(fields) - 1))
    was = fields[place]
    fields[place] = data.draw(strategies.plain.filter(lambda new: type(new) is not type(was)))
    forged = resealed(encoded[:16] + strategies.packed(fields))
    if name in SLOTS:
        forged = forged.ljust(SLOT_BYTES, b"\0") * SLOT_COUNT
    try:
        found = codec.decode(forged, WHERE)
    except Corrupt as error:
        assert WHERE in error.message
    else:
        assert strategies.packed(fields) in codec.encode(found), (
            "another value of another type, and a right one"
        )


@pytest.mark.parametrize("name", [*RECORDS, *SLOTS])
def test_a_later_version_is_told_apart_from_damage(name: str) -> None:
    codec = ALL[name]
    encoded = codec.encode(codec.example)
    end = 16 + int.from_bytes(encoded[12:16], "little")
    later = resealed(encoded[:6] + b"02" + encoded[8:end])
    older = resealed(encoded[:6] + b"00" + encoded[8:end])
    if name in SLOTS:
        later, older = (part.ljust(SLOT_BYTES, b"\0") * SLOT_COUNT for part in (later, older))
    with pytest.raises(FormatTooNew, match="later release"):
        codec.decode(later, WHERE)
    with pytest.raises(Corrupt, match="never in use"):
        codec.decode(older, WHERE)


def test_a_later_version_of_a_segment() -> None:
    rest = bytearray(segment.encode_header(SEGMENT_HEADER)[12:])
    rest[0] += 1
    later = segment.SEGMENT_MAGIC + struct.pack("<I", crc32c(bytes(rest))) + bytes(rest)
    with pytest.raises(FormatTooNew, match=WHERE):
        segment.decode_header(later, WHERE)


def test_a_chain_of_timelines_with_a_gap_is_no_history() -> None:
    orphan = CHILD._replace(records=CHILD.records[1:])
    with pytest.raises(Corrupt, match="history"):
        history.decode(history.encode(orphan._replace(records=(*CHILD.records, CHILD.records[0]))), WHERE)
    assert history.decode(history.encode(orphan), WHERE) == orphan
