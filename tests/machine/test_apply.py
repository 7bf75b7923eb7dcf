"""What commands do to rows: outcomes, conditions, batches, and that nothing committed ever raises (R3)."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neumann.format import command as c
from neumann.format import frame as frame_format
from neumann.format.frame import Frame, Kind
from neumann.format.ids import Configuration, LogPoint
from neumann.format.manifest import Archiving
from neumann.format.special import Pause
from neumann.format.table import Version
from neumann.machine.apply import Result, Rows, apply_data, derive_rows, needed_rows
from neumann.machine.outcome import Outcome
from neumann.machine.state import MachineState

BASE = LogPoint(0, 1, 7)


def state_at(point: LogPoint = BASE) -> MachineState:
    return MachineState(Configuration(), 0, None, Archiving(), 1, point, 0)


def data_frame(*entries: bytes, after: LogPoint = BASE) -> Frame:
    time_ns = (after.index + 1) * 10
    return frame_format.encode(Kind.DATA, after.index + 1, 1, time_ns, after.chain, entries)


def apply(*entries: bytes, below: Rows | None = None, rows: Rows | None = None) -> tuple[Result, Rows]:
    """Apply one frame over the rows `below` the memtable `rows`."""
    memtable: Rows = {} if rows is None else rows
    commands = c.decode_body(data_frame(*entries).body)
    needed = needed_rows(commands)

    def lookup(row: str) -> Version | None:
        assert row in needed
        return (below or {}).get(row)

    return apply_data(state_at(), data_frame(*entries).header, commands, memtable, lookup), memtable


def put(key: str, value: bytes, condition: Any = None) -> bytes:
    return c.encode_put("t", key, value, condition)


def test_a_put_writes_value_revision_and_time() -> None:
    result, rows = apply(put("a", b"\x01"), put("b", b"\x02"))
    assert result == Result(None, ())
    assert rows == {"t\0a": (b"\x01", 1, 10), "t\0b": (b"\x02", 2, 10)}


def test_a_delete_leaves_a_tombstone_of_an_absent_row_too() -> None:
    result, rows = apply(c.encode_delete("t", "a"))
    assert result.outcomes is None and rows == {"t\0a": (None, 1, 10)}


LIVE: Version = (b"\x05", 40, 9)
DELETED: Version = (None, 41, 9)


@pytest.mark.parametrize("place", ["memtable", "below"])
@pytest.mark.parametrize(
    ("found", "condition", "holds"),
    [
        (None, (c.ABSENT,), True),
        (DELETED, (c.ABSENT,), True),
        (LIVE, (c.ABSENT,), False),
        (LIVE, (c.REVISION, 40), True),
        (LIVE, (c.REVISION, 41), False),
        (None, (c.REVISION, 0), False),
        (DELETED, (c.REVISION, 41), False),
        (LIVE, (c.VALUE, b"\x05"), True),
        (LIVE, (c.VALUE, b"\x06"), False),
        (None, (c.VALUE, b"\x05"), False),
    ],
)
def test_conditions(place: str, found: Version | None, condition: Any, holds: bool) -> None:
    there = {"t\0a": found} if found else {}
    rows = dict(there) if place == "memtable" else {}
    result, rows = apply(put("a", b"\x09", condition), rows=rows, below=there if place == "below" else {})
    if holds:
        assert result.outcomes is None and rows["t\0a"] == (b"\x09", 1, 10)
    else:
        assert result == Result([Outcome.CONDITION_FAILED], [1])
        assert rows == (there if place == "memtable" else {})


def test_a_condition_sees_the_entries_before_it_in_its_frame() -> None:
    result, rows = apply(
        put("a", b"\x01"),
        put("a", b"\x02", (c.REVISION, 1)),
        put("a", b"\x03", (c.ABSENT,)),
        put("b", b"\x04"),
    )
    assert result == Result([0, 0, Outcome.CONDITION_FAILED, 0], [3])
    assert rows == {"t\0a": (b"\x02", 2, 10), "t\0b": (b"\x04", 4, 10)}


def test_the_revision_of_a_lock_fences_its_late_holder() -> None:
    """Bug 38: a lock is no mutual exclusion, because its holder may go on after it has lost it. The
    revision under which it was taken, checked in the very write that it protects, is."""
    result, rows = apply(
        put("lock", b"\x01", (c.ABSENT,)),
        c.encode_delete("t", "lock"),
        put("lock", b"\x02", (c.ABSENT,)),
        c.encode_batch([(c.CHECK, "t", "lock", (c.REVISION, 1), None), (c.PUT, "t", "data", None, b"\x01")]),
        c.encode_batch([(c.CHECK, "t", "lock", (c.REVISION, 3), None), (c.PUT, "t", "data", None, b"\x02")]),
    )
    assert result == Result([0, 0, 0, Outcome.CONDITION_FAILED, 0], [4])
    assert rows["t\0data"] == (b"\x02", 5, 10)


def test_the_memtable_hides_what_is_below() -> None:
    _, rows = apply(put("a", b"\x01", (c.ABSENT,)), rows={"t\0a": DELETED}, below={"t\0a": LIVE})
    assert rows["t\0a"] == (b"\x01", 1, 10)


def test_a_batch_is_all_or_nothing_and_compares_with_the_state_before_it() -> None:
    batch = c.encode_batch(
        [
            (c.PUT, "t", "a", (c.ABSENT,), b"\x01"),
            (c.PUT, "t", "b", None, b"\x02"),
            (c.CHECK, "t", "a", (c.ABSENT,), None),
            (c.DELETE, "t", "c", None, None),
        ]
    )
    result, rows = apply(batch)
    assert result.outcomes is None
    assert rows == {"t\0a": (b"\x01", 1, 10), "t\0b": (b"\x02", 1, 10), "t\0c": (None, 1, 10)}
    result, rows = apply(batch, below={"t\0a": LIVE})
    assert result == Result([Outcome.CONDITION_FAILED], [1]) and rows == {}


def test_while_paused_nothing_is_written() -> None:
    state = state_at()
    state.pause = Pause("op", 0, "")
    frame = data_frame(put("a", b"\x01"), put("b", b"\x01"))
    rows: Rows = {}
    result = apply_data(state, frame.header, c.decode_body(frame.body), rows, {}.get)
    assert result == Result([Outcome.PAUSED] * 2, [1, 2]) and rows == {}
    assert state.applied == frame.header.end
    derive_rows(frame.header, c.decode_body(frame.body), set(result.skipped), rows)
    assert rows == {}


NO_COMMANDS: list[Any] = [
    None,
    7,
    "putting",
    b"1234567",
    [],
    {"a": 1},
    [c.PUT, "t", "k", None, 0, 0],
    [c.PUT, "t", "k", None, 0, 0, b"", 1],
    [c.PUT, "t", "k", None, 0, 0, None],
    [c.PUT, "t", "k", None, 0, 0, "text"],
    [c.PUT, b"t", "k", None, 0, 0, b"v"],
    [c.PUT, "t", 5, None, 0, 0, b"v"],
    [c.PUT, "t", "k", None, 1, 0, b"v"],
    [c.PUT, "t", "k", None, 0, 1, b"v"],
    [c.PUT, "t", "k", None, -1, 1, b"v"],
    [c.PUT, "t", "k", None, True, 1, b"v"],
    [c.PUT, "t", "k", None, "1", 1, b"v"],
    [c.PUT, "t", "k", None, [{}], 1, b"v"],
    [c.PUT, "t", "k", None, 1, {}, b"v"],
    [c.OPEN, "", "", None, 1, 1, None],
    [c.OPEN, "t", "", None, 0, 0, None],
    [float(c.OPEN), "", "", None, 0, 0, None],
    [c.PUT, "t", "k", [9], 0, 0, b"v"],
    [c.PUT, "t", "k", [c.REVISION], 0, 0, b"v"],
    [c.PUT, "t", "k", [c.VALUE, "x"], 0, 0, b"v"],
    [c.PUT, "t", "k", {}, 0, 0, b"v"],
    [c.DELETE, "t", "k", None, 0, 0, b"v"],
    [c.CHECK, "t", "k", [c.ABSENT], 0, 0, None],
    [99, "t", "k", None, 0, 0, b"v"],
    [[c.PUT], "t", "k", None, 0, 0, b"v"],
    [c.BATCH, "", "", None, 0, 0, None],
    [c.BATCH, "", "", None, 0, 0, []],
    [c.BATCH, "", "", None, 0, 0, [1]],
    [c.BATCH, "", "", None, 0, 0, [[c.PUT, "t", "k", None, b"v"], [c.PUT, "t", "k", None]]],
    [c.BATCH, "", "", None, 0, 0, [[c.PUT, "t", "k", None, b"v"], [c.BATCH, "", "", None, None]]],
    [c.BATCH, "t", "", None, 0, 0, [[c.PUT, "t", "k", None, b"v"]]],
]


@pytest.mark.parametrize("plain", NO_COMMANDS, ids=repr)
def test_what_is_no_command_changes_nothing_and_hurts_no_neighbour(plain: Any) -> None:
    garbage: bytes = msgpack.packb(plain)
    result, rows = apply(put("a", b"\x01"), garbage, put("b", b"\x02", (c.ABSENT,)))
    assert result == Result([0, Outcome.UNDECODABLE, 0], [2])
    assert rows == {"t\0a": (b"\x01", 1, 10), "t\0b": (b"\x02", 3, 10)}


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x93\x01", b"\xdd\xff\xff\xff\xff", b"\x91\x81\x80\x01"])
def test_a_body_that_is_no_array_of_commands_changes_nothing(body: bytes) -> None:
    header = data_frame(put("a", b"\x01"), put("b", b"\x01")).header
    rows: Rows = {}
    result = apply_data(state_at(), header, c.decode_body(body), rows, {}.get)
    assert result == Result([Outcome.UNDECODABLE] * 2, [1, 2]) and rows == {}


_KEYS = st.sampled_from(["a", "b", "c"])
_VALUES = st.sampled_from([b"\x01", b"\x02"])
_CONDITIONS = st.one_of(
    st.none(),
    st.just((c.ABSENT,)),
    st.tuples(st.just(c.REVISION), st.integers(0, 30)),
    st.tuples(st.just(c.VALUE), _VALUES),
)
_PUTS = st.builds(put, _KEYS, _VALUES, _CONDITIONS)
_DELETES = st.builds(c.encode_delete, st.just("t"), _KEYS, _CONDITIONS)
_OPS = st.one_of(
    st.tuples(st.just(c.PUT), st.just("t"), _KEYS, _CONDITIONS, _VALUES),
    st.tuples(st.just(c.DELETE), st.just("t"), _KEYS, _CONDITIONS, st.none()),
    st.tuples(st.just(c.CHECK), st.just("t"), _KEYS, _CONDITIONS, st.none()),
)
_BATCHES = st.builds(c.encode_batch, st.lists(_OPS, min_size=1, max_size=4))
_ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-4, 4)
    | st.floats()
    | st.text(max_size=2)
    | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=20,
).map(msgpack.packb)
_SESSIONED = st.builds(
    c.with_session, st.one_of(_PUTS, _DELETES, _BATCHES), st.integers(1, 3), st.integers(1, 4)
)
_ENTRIES = st.one_of(
    _PUTS, _PUTS, _DELETES, _BATCHES, _ANYTHING, _SESSIONED, _SESSIONED, st.just(c.encode_open())
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_ENTRIES, min_size=1, max_size=6), max_size=6))
def test_a_flush_derives_what_apply_wrote(frames: list[list[bytes]]) -> None:
    """derive_rows knows the log and the skipped indexes, apply_data the rows: they must agree."""
    state, memtable, derived = state_at(), dict[str, Version](), dict[str, Version]()
    for entries in frames:
        frame = data_frame(*entries, after=state.applied)
        result = apply_data(state, frame.header, c.decode_body(frame.body), memtable, {}.get)
        derive_rows(frame.header, c.decode_body(frame.body), set(result.skipped), derived)
        assert result.outcomes is None or len(result.outcomes) == len(entries)
    assert derived == memtable


def test_batches_and_conditions_against_a_model() -> None:
    """Random commands over a small key space; the model is written from format/command.py's text."""
    rng = random.Random(5)
    model: dict[str, tuple[bytes, int]] = {}
    state, rows = state_at(), dict[str, Version]()

    def some_condition() -> tuple[Any, ...] | None:
        return rng.choice([None, None, (1,), (2, rng.randrange(1, state.applied.index + 2)), (3, b"\x01")])

    def holds(key: str, condition: tuple[Any, ...] | None) -> bool:
        match condition:
            case None:
                return True
            case (1,):
                return key not in model
            case (2, revision):
                return key in model and model[key][1] == revision
            case (3, value):
                return key in model and model[key][0] == value
        raise AssertionError

    for index in range(1, 2000):
        ops: list[Any] = [
            (op, "t", rng.choice("abcd"), some_condition(), b"\x01" if op == c.PUT else None)
            for op in rng.choices([c.PUT, c.DELETE, c.CHECK], k=rng.randrange(1, 4))
        ]
        frame = data_frame(c.encode_batch(ops), after=state.applied)
        result = apply_data(state, frame.header, c.decode_body(frame.body), rows, {}.get)
        is_applied = all(holds(key, condition) for _, _, key, condition, _ in ops)
        assert (result.outcomes is None) == is_applied
        for op, _, key, _, value in ops if is_applied else []:
            if op == c.PUT:
                model[key] = (value, index)
            elif op == c.DELETE:
                model.pop(key, None)
        live = {row[2:]: (v[0], v[1]) for row, v in rows.items() if v[0] is not None}
        assert live == model
