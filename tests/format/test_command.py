"""Commands and values: what a leader takes can be read again; what it does not take is a plain refusal."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neumann.errors import BadInput, NeumannError, TooLarge
from neumann.format import command, limits, values
from neumann.format.command import Limits
from tests.format import strategies
from tests.format.strategies import nested, packed

OWN = Limits(key_bytes_max=40, value_bytes_max=200, batch_rows_max=3)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
stored = strategies.plain.map(packed).filter(lambda data: len(data) <= OWN.value_bytes_max)
conditions = st.one_of(
    st.none(),
    st.just((command.ABSENT,)),
    st.tuples(st.just(command.REVISION), strategies.u64),
    st.tuples(st.just(command.VALUE), st.binary(max_size=20)),
)
row_ops = st.one_of(
    st.tuples(st.just(command.PUT), names, names, conditions, stored),
    st.tuples(st.just(command.DELETE), names, names, conditions, st.none()),
    st.tuples(st.just(command.CHECK), names, names, conditions.filter(lambda c: c is not None), st.none()),
)


def is_taken(data: bytes) -> bool:
    """True if it is a command; the only other way out is an error of ours."""
    try:
        command.check(data, OWN)
    except NeumannError as error:
        assert isinstance(error, BadInput)
        assert len(str(error)) < 400
        return False
    return True


# --- there and back -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(table=names, key=names, value=stored, condition=conditions)
def test_single_rows(table: str, key: str, value: bytes, condition: tuple[object, ...] | None) -> None:
    put = command.check(command.encode_put(table, key, value, condition), OWN)
    assert put == (command.PUT, table, key, condition, 0, 0, value)
    delete = command.check(command.encode_delete(table, key, condition), OWN)
    assert delete == (command.DELETE, table, key, condition, 0, 0, None)
    row = command.row_key(table, key)
    assert command.split_row_key(row) == (table, key)
    assert row < command.table_end(table)


@settings(deadline=None, max_examples=30)
@given(ops=st.lists(row_ops, min_size=1, max_size=3))
def test_batches(ops: list[Any]) -> None:
    checked = command.check(command.encode_batch(ops), OWN)
    assert checked == (command.BATCH, "", "", None, 0, 0, tuple(ops))


@given(rows=st.lists(st.tuples(names, names), max_size=8))
def test_the_order_of_addresses_is_that_of_table_and_key(rows: list[tuple[str, str]]) -> None:
    assert sorted(rows) == sorted(rows, key=lambda row: command.row_key(*row))


@settings(deadline=None, max_examples=30)
@given(value=strategies.plain)
def test_values(value: Any) -> None:
    data = command.pack_value(value)
    assert command.unpack_value(data) == value
    assert command.unpack_value(values.from_json(values.to_json(data))) == value


# --- refusals -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(data=strategies.rubbish)
def test_any_bytes_are_a_refusal(data: bytes) -> None:
    assert not is_taken(data)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_field_of_anything_else(data: st.DataObject) -> None:
    fields: list[Any] = [command.PUT, "t", "k", None, 0, 0, b"\xc0"]
    for place in data.draw(st.sets(st.integers(0, 6), min_size=1)):
        fields[place] = data.draw(strategies.plain)
    if is_taken(packed(fields)):
        assert command.decode_body(b"\xdd\x00\x00\x00\x01" + packed(fields)) is not None


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_an_operation_of_anything_else(data: st.DataObject) -> None:
    fields: list[Any] = [command.PUT, "t", "k", None, b"\xc0"]
    for place in data.draw(st.sets(st.integers(0, 4), min_size=1)):
        fields[place] = data.draw(strategies.plain)
    is_taken(packed([command.BATCH, "", "", None, 0, 0, [fields]]))


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_every_flipped_bit_of_a_command(data: st.DataObject) -> None:
    ops: list[Any] = data.draw(st.lists(row_ops, min_size=1, max_size=2))
    raw = bytearray(command.encode_batch(ops))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    is_taken(bytes(raw))


@pytest.mark.parametrize("depth", [10, 300, 500, 900, 1023, 5000])
@pytest.mark.parametrize("place", range(7))
def test_a_field_that_is_nested_deeply(place: int, depth: int) -> None:
    """Showing what was wrong with it ended in a RecursionError."""
    fields = [packed(part) for part in (command.PUT, "t", "k", None, 0, 0, b"\xc0")]
    fields[place] = nested(depth)
    assert not is_taken(b"\x97" + b"".join(fields))
    row = [packed(part) for part in (command.PUT, "t", "k", None, b"\xc0")]
    row[place % 5] = nested(depth)
    batch = b"".join(packed(part) for part in (command.BATCH, "", "", None, 0, 0))
    assert not is_taken(b"\x97" + batch + b"\x91\x95" + b"".join(row))


@pytest.mark.parametrize("depth", [300, 500, 900, 1023, 5000])
def test_a_value_that_is_nested_deeply(depth: int) -> None:
    """Taken or not, what is taken can be shown or is refused as too deep for JSON."""
    if is_taken(command.encode_put("t", "k", nested(depth)[: OWN.value_bytes_max])):
        values.to_json(nested(depth))
    wide = Limits(value_bytes_max=10_000)
    try:
        command.check(command.encode_put("t", "k", nested(depth)), wide)
        values.to_json(nested(depth))
    except BadInput:
        return
    assert depth < 1000


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (command.encode_put("t", "k" * 41, b"\xc0"), TooLarge),
        (command.encode_put("t", "ü" * 21, b"\xc0"), TooLarge),
        (command.encode_put("t", "k", packed("v" * 200)), TooLarge),
        (command.encode_put("t" * 256, "k", b"\xc0"), BadInput),
        (command.encode_batch([(command.PUT, "t", str(n), None, b"\xc0") for n in range(4)]), TooLarge),
        (bytes(limits.COMMAND_BYTES_MAX + 1), TooLarge),
        (command.encode_put("", "k", b"\xc0"), BadInput),
        (command.encode_put("t", "", b"\xc0"), BadInput),
        (command.encode_put("t\0", "k", b"\xc0"), BadInput),
        (command.encode_put("t", "k\0", b"\xc0"), BadInput),
        (command.encode_put("t", "k", b"\xc1"), BadInput),
        (command.encode_put("t", "k", b"\xc0\xc0"), BadInput),
        (command.encode_put("t", "k", b""), BadInput),
        (command.encode_batch([]), BadInput),
        (command.encode_batch([(command.CHECK, "t", "k", None, None)]), BadInput),
        (command.encode_batch([(command.BATCH, "t", "k", None, None)]), BadInput),
        (packed([True, "t", "k", None, 0, 0, b"\xc0"]), BadInput),
        (packed([1, "t", "k", None, 1, 0, b"\xc0"]), BadInput),
        (packed([1, "t", "k", None, 0, 1, b"\xc0"]), BadInput),
        (packed([1, "t", "k", None, -1, 1, b"\xc0"]), BadInput),
        (packed([1, "t", "k", None, 1, -1, b"\xc0"]), BadInput),
        (packed([1, "t", "k", None, True, 1, b"\xc0"]), BadInput),
        (packed([1, "t", "k", None, 0, False, b"\xc0"]), BadInput),
        (packed([5, "t", "", None, 0, 0, None]), BadInput),
        (packed([5, "", "", None, 1, 1, None]), BadInput),
        (packed([5, "", "", [1], 0, 0, None]), BadInput),
        (packed([5, "", "", None, 0, 0, b"\xc0"]), BadInput),
        (packed([2, "t", "k", None, 0, 0, b"\xc0"]), BadInput),
        (packed([1, b"t", "k", None, 0, 0, b"\xc0"]), BadInput),
    ],
)
def test_each_rule(data: bytes, error: type[BadInput]) -> None:
    with pytest.raises(error):
        command.check(data, OWN)


@pytest.mark.parametrize("name", ["\ud800", "a\udfff"])
def test_half_of_a_surrogate_pair(name: str) -> None:
    """JSON can spell one, and UTF-8 can't: it was an error of the encoder."""
    assert json.loads('"\\ud800"') == "\ud800"
    batch: list[Any] = [(command.PUT, "t", name, None, b"\xc0")]
    with pytest.raises(BadInput, match="can't be encoded"):
        command.encode_put(name, "k", b"\xc0")
    with pytest.raises(BadInput, match="can't be encoded"):
        command.encode_delete("t", name)
    with pytest.raises(BadInput, match="can't be encoded"):
        command.encode_batch(batch)


@settings(deadline=None, max_examples=60)
@given(body=strategies.rubbish)
def test_the_body_of_a_frame_is_decoded_or_none(body: bytes) -> None:
    found = command.decode_body(body)
    assert found is None or msgpack.unpackb(body, use_list=False, strict_map_key=False) == found


def test_a_command_is_put_into_a_session() -> None:
    raw = command.encode_put("t", "k", b"\xc0", (command.REVISION, 7))
    inside = command.with_session(raw, 9, 2)
    assert command.check(inside, OWN) == (command.PUT, "t", "k", (command.REVISION, 7), 9, 2, b"\xc0")
    assert command.check(command.encode_open(), OWN)[0] == command.OPEN
    for bad in (inside, b"\xc1", packed([1, 2])):
        with pytest.raises(BadInput):
            command.with_session(bad, 9, 3)
