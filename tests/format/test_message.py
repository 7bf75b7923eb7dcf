"""What comes from the network: peers' messages and RPC. Anything may; only errors of ours come out."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neumann.errors import BadInput, Corrupt, NeumannError, NotFound, all_error_classes
from neumann.format import limits, message, rpc
from neumann.format.message import Append, Envelope
from tests.format import strategies
from tests.format.examples import EXAMPLES, FRAMES
from tests.format.strategies import nested, packed, unpacked

APPEND = EXAMPLES["append"]
_KINDS = ("vote_request", "vote_reply", "append", "append_reply", "snapshot_offer")
MESSAGES = [EXAMPLES[name] for name in _KINDS]


def decoded(data: bytes) -> Envelope | None:
    """The message, or None if it is refused; there is no third way."""
    try:
        found = message.decode(data)
    except NeumannError as error:
        assert isinstance(error, BadInput | Corrupt)
        assert len(str(error)) < 400
        return None
    assert message.encode(found, _frames(found)) == message.encode(message.decode(data), _frames(found))
    return found


def _frames(envelope: Envelope) -> bytes:
    run = envelope.message.frames if isinstance(envelope.message, Append) else ()
    return b"".join(one.data for one in run)


@settings(deadline=None, max_examples=40)
@given(envelope=strategies.envelopes)
def test_round_trip(envelope: Envelope) -> None:
    assert message.decode(message.encode(envelope)) == envelope


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_append_carries_frames(count: int) -> None:
    run = FRAMES[3 - count :]
    first = run[0].header
    wanted = Append(2, first.first_index - 1, 1, first.parent, 0, 1, run[-1].header.last_index, run)
    sent = APPEND.value._replace(message=wanted)
    assert message.decode(message.encode(sent, b"".join(one.data for one in run))) == sent


@pytest.mark.parametrize("example", MESSAGES, ids=_KINDS)
def test_every_flipped_bit(example: Any) -> None:
    """TCP's checksum is weak: another value may come out, of the right types; frames are checked wholly."""
    for offset in range(len(example.data)):
        for bit in range(8):
            changed = bytearray(example.data)
            changed[offset] ^= 1 << bit
            found = decoded(bytes(changed))
            if found is not None and isinstance(found.message, Append):
                assert found.message.frames == example.value.message.frames


@pytest.mark.parametrize("example", MESSAGES, ids=_KINDS)
def test_every_length(example: Any) -> None:
    for size in range(len(example.data)):
        assert decoded(example.data[:size]) is None
    assert decoded(example.data + b"\0") is None


@settings(deadline=None, max_examples=60)
@given(data=strategies.rubbish)
def test_any_bytes(data: bytes) -> None:
    assert decoded(data) is None


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_field_of_anything_else(data: st.DataObject) -> None:
    """An envelope whose `frames` was a number ended in a TypeError, a term of text in the core."""
    example = data.draw(st.sampled_from(MESSAGES))
    fields = unpacked(example.data)
    place = data.draw(st.integers(0, 8))
    if place in (6, 7) and isinstance(fields[place], list) and data.draw(st.booleans()):
        inner = data.draw(st.integers(0, len(fields[place]) - 1))
        was = fields[place][inner]
        new = fields[place][inner] = data.draw(strategies.plain)
    else:
        was = fields[place]
        new = fields[place] = data.draw(strategies.plain)
    found = decoded(packed(fields))
    if type(new) is not type(was):
        assert found is None or (place == 7 and new is None)
    if type(new) is int and new < 0:
        assert found is None


@pytest.mark.parametrize("depth", [400, 1000, 5000])
@pytest.mark.parametrize("place", range(9))
def test_a_field_that_is_nested_deeply(place: int, depth: int) -> None:
    fields = [packed(part) for part in unpacked(APPEND.data)]
    fields[place] = nested(depth)
    assert decoded(b"\x99" + b"".join(fields)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"prev_chain": 1},
        {"prev_index": 0},
        {"last_index": 4},
        {"last_index": 1},
    ],
)
def test_frames_that_do_not_continue_from_prev(change: dict[str, int]) -> None:
    sent = APPEND.value._replace(message=APPEND.value.message._replace(**change))
    with pytest.raises(Corrupt, match="frames of an append"):
        message.decode(message.encode(sent, FRAMES[1].data))


def test_frames_where_none_belong() -> None:
    with pytest.raises(BadInput, match="only an append"):
        message.decode(message.encode(EXAMPLES["timeout_now"].value, FRAMES[0].data))
    with pytest.raises(Corrupt, match="frames of an append"):
        message.decode(message.encode(APPEND.value))


# --- RPC ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(all_error_classes()))
def test_errors_there_and_back(code: str) -> None:
    error = all_error_classes()[code]("what is wrong", remedy="what to do", detail={"leader": "n1"})
    unpacker = rpc.new_unpacker()
    unpacker.feed(rpc.pack(rpc.error_to_wire(error)))
    (plain,) = unpacker
    found = rpc.error_from_wire(plain)
    assert type(found) is type(error)
    assert (found.message, found.remedy, found.detail) == (error.message, error.remedy, error.detail)


@settings(deadline=None, max_examples=60)
@given(plain=strategies.plain)
def test_an_error_that_is_none(plain: Any) -> None:
    assert isinstance(rpc.error_from_wire(plain), NeumannError)


@pytest.mark.parametrize("depth", [300, 1000])
def test_an_error_that_is_nested_deeply(depth: int) -> None:
    """Showing it ended in a RecursionError."""
    deep: Any = None
    for _ in range(depth):
        deep = (deep,)
    answers: list[Any] = [deep, (deep, "text", {}), ("not_found", deep, {})]
    answers.append(("not_found", "text", {"remedy": deep}))
    for plain in answers:
        assert len(str(rpc.error_from_wire(plain))) < 400
    assert isinstance(rpc.error_from_wire(("not_found", "text", {"x": deep})), NotFound)


@settings(deadline=None, max_examples=40)
@given(sent=st.lists(strategies.plain, max_size=4), cut=st.integers(1, 9))
def test_a_stream_in_pieces(sent: list[Any], cut: int) -> None:
    data = b"".join(map(rpc.pack, sent))
    unpacker, found = rpc.new_unpacker(), []
    for start in range(0, len(data), cut):
        unpacker.feed(data[start : start + cut])
        found += list(unpacker)
    assert list(map(packed, found)) == list(map(packed, sent))


def test_a_stream_has_a_limit() -> None:
    unpacker = rpc.new_unpacker()
    piece = bytes(limits.RPC_MESSAGE_BYTES_MAX // 4)
    unpacker.feed(b"\xc6\xff\xff\xff\xff")
    with pytest.raises((ValueError, msgpack.BufferFull)):
        list(unpacker)
        for _ in range(5):
            unpacker.feed(piece)
