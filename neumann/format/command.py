"""The command: one entry of a DATA frame, in the client's own MessagePack bytes.

    put     [1, table, key, condition, session, serial, value]
    delete  [2, table, key, condition, session, serial, nil]
    batch   [3, "", "", nil, session, serial, [[op, table, key, condition, value], ...]]
    open    [5, "", "", nil, 0, 0, nil]

Inside a batch `op` may also be 4, check: it only carries a condition. All conditions of a batch are
compared with the state before it; if one fails, nothing of it is written. `condition` is nil, [1]
(absent), [2, revision] or [3, value]; `value` is a bin that holds the MessagePack of the value, and
values are compared as bytes. A row's revision is the index of the entry that wrote it. `open` opens a
client session: the index of its entry is the session's id. `session` and `serial` are that id and the
client's number of the command, from 1, or both are 0 (machine/sessions.py says what they do).

A leader calls `check` before it frames a command; whatever passed can be applied without an error
(R3). Rows are addressed below this layer by one string, table + NUL + key: neither may hold a NUL, and
code-point order of that string is the order of (table, key).
"""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

import msgpack

from neumann.errors import BadInput, TooLarge
from neumann.format import limits

PUT, DELETE, BATCH, CHECK, OPEN = 1, 2, 3, 4, 5
ABSENT, REVISION, VALUE = 1, 2, 3
SEPARATOR = "\x00"
_CHARACTER_LAST, _SURROGATE_FIRST, _BEHIND_SURROGATES = "\U0010ffff", "\ud800", "\ue000"

Command = tuple[Any, ...]
"""A decoded command: the seven fields above; arrays are tuples."""


class Limits(NamedTuple):
    """A node's own limits on what clients may write (`[limits]`); never above format/limits.py."""

    key_bytes_max: int = 1024
    value_bytes_max: int = 1024 * 1024
    batch_rows_max: int = 10_000


def row_key(table: str, key: str) -> str:
    """The one string that addresses a row."""
    return f"{table}{SEPARATOR}{key}"


def table_end(table: str) -> str:
    """The exclusive end of a table's rows: an address behind all of them and before any other table's."""
    return table + chr(ord(SEPARATOR) + 1)


def prefix_end(prefix: str) -> str:
    """The smallest string behind all that begin with `prefix`; "" if there is none."""
    stem = prefix.rstrip(_CHARACTER_LAST)
    if not stem:
        return ""
    following = chr(ord(stem[-1]) + 1)
    return stem[:-1] + (_BEHIND_SURROGATES if following == _SURROGATE_FIRST else following)


def split_row_key(row: str) -> tuple[str, str]:
    """(table, key) of a row's address."""
    table, _, key = row.partition(SEPARATOR)
    return table, key


def pack_value(value: object) -> bytes:
    """The MessagePack bytes of a value; BadInput if it has none."""
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadInput(f"this value can't be stored: {error}") from error
    return packed


def unpack_value(packed: bytes) -> Any:
    """The value in those bytes. They were checked when they were written."""
    return msgpack.unpackb(packed, use_list=True, strict_map_key=False, raw=False)


def put(table: str, key: str, value: bytes, condition: tuple[object, ...] | None = None) -> Command:
    """A put of packed `value`."""
    return PUT, table, key, condition, 0, 0, value


def delete(table: str, key: str, condition: tuple[object, ...] | None = None) -> Command:
    """A delete; of an absent row it changes nothing and still has an index."""
    return DELETE, table, key, condition, 0, 0, None


def batch(ops: list[tuple[int, str, str, tuple[object, ...] | None, bytes | None]]) -> Command:
    """An atomic batch of (op, table, key, condition, packed value or None)."""
    return BATCH, "", "", None, 0, 0, ops


def encode_put(table: str, key: str, value: bytes, condition: tuple[object, ...] | None = None) -> bytes:
    """The bytes of `put`."""
    return encode(put(table, key, value, condition))


def encode_delete(table: str, key: str, condition: tuple[object, ...] | None = None) -> bytes:
    """The bytes of `delete`."""
    return encode(delete(table, key, condition))


def encode_batch(ops: list[tuple[int, str, str, tuple[object, ...] | None, bytes | None]]) -> bytes:
    """The bytes of `batch`."""
    return encode(batch(ops))


def encode_open() -> bytes:
    """Opens a client session."""
    return encode((OPEN, "", "", None, 0, 0, None))


def with_session(raw: bytes, session: int, serial: int) -> bytes:
    """The same command in a client session; BadInput if it is in one already, or is no command."""
    command = decode(raw)
    if len(command) != 7 or command[4] or command[5]:
        raise BadInput("this command has a session and a serial of its own", remedy="name them once")
    return encode((*command[:4], session, serial, command[6]))


def session_of(data: bytes) -> tuple[int, int]:
    """(session, serial) of a command, and nothing else of it decoded; (0, 0) where it has none or is none."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(data)))
    unpacker.feed(data)
    try:
        if unpacker.read_array_header() != 7:
            return 0, 0
        for _ in range(4):
            unpacker.skip()
        session, serial = unpacker.unpack(), unpacker.unpack()
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError):
        return 0, 0
    is_one = type(session) is int and type(serial) is int and session > 0 < serial
    return (session, serial) if is_one else (0, 0)


def encode(command: Command) -> bytes:
    """The bytes of a command. A name with half of a surrogate pair, as JSON can spell it, is no UTF-8."""
    try:
        packed: bytes = msgpack.packb(command, use_bin_type=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadInput(f"this command can't be encoded: {error}") from error
    return packed


def decode_body(body: bytes) -> list[Command] | tuple[Command, ...] | None:
    """All commands of a DATA frame's body, or None if the body can't be decoded (R3)."""
    try:
        commands = msgpack.unpackb(body, use_list=False, strict_map_key=False, raw=False)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError):
        return None
    return commands if isinstance(commands, tuple) else None


def decode(data: bytes) -> Command:
    """Seven fields; BadInput or TooLarge. What is in them is not looked at."""
    if len(data) > limits.COMMAND_BYTES_MAX:
        raise TooLarge(f"command of {len(data)} bytes; the limit is {limits.COMMAND_BYTES_MAX}")
    try:
        command = msgpack.unpackb(data, use_list=False, strict_map_key=False, raw=False)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise BadInput(f"the command is not one MessagePack value: {error}") from error
    if type(command) is not tuple or len(command) != 7:
        raise BadInput("a command is an array of seven: op, table, key, condition, session, serial, value")
    return command


def check(data: bytes, own: Limits) -> Command:
    """Decode one command and check it fully; BadInput or TooLarge says what is wrong with it."""
    command = decode(data)
    op, table, key, condition, session, serial, value = command
    if (
        type(session) is not int
        or type(serial) is not int
        or not (session > 0 < serial or session == serial == 0)
    ):
        raise BadInput(
            f"session {reprlib.repr(session)} and serial {reprlib.repr(serial)}",
            remedy="the id of an open session and a serial from 1, or 0 for both",
        )
    if type(op) is not int:
        raise BadInput(f"operation {reprlib.repr(op)} is no integer")
    if op in (PUT, DELETE):
        _check_row(op, table, key, condition, value, own)
    elif op == BATCH:
        _check_batch(table, key, condition, value, own)
    elif op == OPEN:
        if (table, key, condition, session, value) != ("", "", None, 0, None):
            raise BadInput("the command that opens a session has nothing else in it")
    else:
        raise BadInput(f"unknown operation {op!r}", remedy="1 is put, 2 delete, 3 batch, 5 open")
    return command


def _check_batch(table: object, key: object, condition: object, rows: object, own: Limits) -> None:
    if table != "" or key != "" or condition is not None or type(rows) is not tuple:
        raise BadInput("a batch has empty table and key, no condition, and an array of operations")
    if not rows:
        raise BadInput("a batch without operations")
    if len(rows) > min(own.batch_rows_max, limits.BATCH_ROWS_MAX):
        raise TooLarge(f"batch of {len(rows)} rows; the limit is {own.batch_rows_max}")
    for row in rows:
        if type(row) is not tuple or len(row) != 5:
            raise BadInput("an operation of a batch is an array of five: op, table, key, condition, value")
        op, row_table, row_key_, row_condition, value = row
        if type(op) is not int or op not in (PUT, DELETE, CHECK):
            raise BadInput(f"unknown operation {reprlib.repr(op)} in a batch")
        if op == CHECK and row_condition is None:
            raise BadInput("a check in a batch needs a condition")
        _check_row(op, row_table, row_key_, row_condition, value, own)


def _check_row(op: int, table: object, key: object, condition: object, value: object, own: Limits) -> None:
    if type(table) is not str or type(key) is not str:
        raise BadInput("table and key are strings")
    check_names(table, key, own)
    if op == PUT:
        _check_value(value, own)
    elif value is not None:
        raise BadInput("only a put carries a value")
    if condition is not None:
        _check_condition(condition, own)


def check_names(table: str, key: str, own: Limits) -> None:
    """Raise unless (table, key) can address a row."""
    if not table or SEPARATOR in table or len(table.encode()) > limits.TABLE_BYTES_MAX:
        raise BadInput(
            f"{reprlib.repr(table)} is no table name", remedy="1 to 255 bytes of UTF-8 without NUL"
        )
    if not key or SEPARATOR in key:
        raise BadInput(f"{reprlib.repr(key)} is no key", remedy="one byte or more of UTF-8 without NUL")
    key_bytes = len(key) if key.isascii() else len(key.encode())
    if key_bytes > own.key_bytes_max:
        raise TooLarge(f"key of {key_bytes} bytes; the limit is {own.key_bytes_max}")


def _check_value(value: object, own: Limits) -> None:
    if type(value) is not bytes:
        raise BadInput("a value is a bin that holds the value's MessagePack")
    if len(value) > own.value_bytes_max:
        raise TooLarge(f"value of {len(value)} bytes; the limit is {own.value_bytes_max}")
    try:
        msgpack.unpackb(value, strict_map_key=False, raw=False)
    except (ValueError, msgpack.UnpackException, RecursionError, TypeError) as error:
        raise BadInput(f"the value is not one MessagePack value: {error}") from error


def _check_condition(condition: object, own: Limits) -> None:
    match condition:
        case (1,):
            return
        case (2, int() as revision) if type(revision) is int and revision >= 0:
            return
        case (3, bytes() as value) if len(value) <= own.value_bytes_max:
            return
    raise BadInput(
        f"{reprlib.repr(condition)} is no condition", remedy="[1] absent, [2, revision] or [3, value]"
    )
