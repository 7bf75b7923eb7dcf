"""What the commands of a DATA frame do to the rows (format/command.py says how they look).

`apply_data` decides conditions; `derive_rows` is told what had no effect and repeats the rest, so a
flush needs the log and nothing else. Both run the same loop. It is the node's hot path: a plain put
costs a dictionary entry and one tuple, and nothing is made per entry besides.

Rules (R3). Nothing raises on whatever was committed: what is no command changes nothing, on every node
alike. A row's revision is the index of its entry, its time that of the frame. A delete leaves a
tombstone, of an absent row too. The conditions of a batch are compared with the state before it.
While writes are paused no client's command has an effect.

The order of checks: is it a command at all; is it the first of its session and serial (sessions.py); are
writes paused; do its conditions hold. What is no command leaves its session alone too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from neumann.format.command import (
    ABSENT,
    BATCH,
    CHECK,
    DELETE,
    OPEN,
    PUT,
    REVISION,
    SEPARATOR,
    VALUE,
)
from neumann.format.frame import FrameHeader, Kind
from neumann.format.table import Version
from neumann.machine.outcome import Outcome
from neumann.machine.sessions import Sessions
from neumann.machine.state import MachineState

Commands = Sequence[Any]
"""What format.command.decode_body gives: commands, or anything else that MessagePack can hold."""
Rows = dict[str, Version]
Lookup = Callable[[str], Version | None]


class Result(NamedTuple):
    """`outcomes`: an Outcome for each entry, or None where all were applied. `skipped`: the indexes of
    the entries that had no effect. `repeats`: index of an entry that its session answers -> the index
    its client is told."""

    outcomes: list[int] | None
    skipped: Sequence[int]
    repeats: Mapping[int, int] = MappingProxyType({})


_ALL_APPLIED = Result(None, ())


class _Step(NamedTuple):
    """One operation, fully checked."""

    op: int
    row: str
    condition: tuple[int, int | bytes | None] | None
    value: bytes | None


class _NoCommand(Exception):
    """What was committed here is no command."""


_MALFORMED = (_NoCommand, TypeError, ValueError, IndexError, KeyError)
"""What taking apart any MessagePack value as a command can raise."""

_Decide = Callable[[int, list[_Step]], int]
"""(index, operations) -> Outcome."""


def needed_rows(commands: Commands | None) -> list[str]:
    """Addresses of the rows that the conditions of these commands look at; [] is the usual answer."""
    if commands is None:
        return []
    try:
        suspects = [c for c in commands if c[3] is not None or c[0] == BATCH]
    except _MALFORMED:
        suspects = list(commands)
    rows: dict[str, None] = {}
    for command in suspects:
        try:
            steps = _steps(command)
        except _MALFORMED:
            continue
        rows.update((step.row, None) for step in steps if step.condition is not None)
    return list(rows)


def apply_data(
    state: MachineState,
    header: FrameHeader,
    commands: Commands | None,
    memtable: Rows,
    lookup: Lookup,
) -> Result:
    """Apply a DATA frame; `commands` is what format.command.decode_body made of its body.

    Writes go to `memtable`. `lookup` gives a row as of before this frame; it is asked only for
    needed_rows that the memtable does not hold.
    """
    assert header.kind is Kind.DATA and header.parent == state.applied.chain
    state.applied = header.end
    state.time_ns = header.time_ns
    if state.pause is not None:
        return _run_paused(header, commands, state.sessions)

    def compare(_: int, steps: list[_Step]) -> int:
        for _op, row, condition, _value in steps:
            if condition is not None:
                found = memtable.get(row)
                if not _holds(condition, lookup(row) if found is None else found):
                    return Outcome.CONDITION_FAILED
        return Outcome.APPLIED

    return _run(header, commands, memtable, compare, state.sessions)


def derive_rows(header: FrameHeader, commands: Commands | None, skipped: Collection[int], rows: Rows) -> None:
    """Write to `rows` what apply_data wrote for this frame; `skipped` are the indexes that it named."""
    assert header.kind is Kind.DATA
    if skipped and all(i in skipped for i in range(header.first_index, header.last_index + 1)):
        return
    _run(header, commands, rows, lambda index, _: int(index in skipped), None)


def _run(
    header: FrameHeader, commands: Commands | None, rows: Rows, decide: _Decide, sessions: Sessions | None
) -> Result:
    """Write what the commands say, each one that needs it after asking its session and `decide`.

    Without `sessions` it is `decide` alone that tells of repeats.
    """
    if commands is None or len(commands) != header.last_index - header.first_index + 1:
        return _without_effect(header, Outcome.UNDECODABLE)
    time_ns = header.time_ns
    index = header.first_index - 1
    failed: dict[int, int] = {}
    repeats: dict[int, int] = {}
    for command in commands:
        index += 1
        try:
            op, table, key, condition, session, serial, value = command
            if op == PUT and condition is None and type(value) is bytes and not session and not serial:
                rows[table + SEPARATOR + key] = (value, index, time_ns)
                continue
            if sessions is not None and session and op == PUT and _is_plain_put(command):
                row = table + SEPARATOR + key
                answer = sessions.apply(session, serial, index)
                if answer is None:
                    rows[row] = (value, index, time_ns)
                else:
                    repeats[index], failed[index] = answer
                continue
            if op == BATCH and (plain := _plain_puts(command, index, time_ns)) is not None:
                rows.update(plain)
                continue
            steps = _steps(command)
        except _MALFORMED:
            failed[index] = Outcome.UNDECODABLE
            continue
        if sessions is not None and session:
            answer = sessions.recall(session, serial, index)
            if answer is not None:
                repeats[index], failed[index] = answer
                continue
            outcome = decide(index, steps)
            sessions.note(session, serial, index, outcome)
        else:
            outcome = decide(index, steps)
            if op == OPEN and sessions is not None:
                sessions.open(index)
        if outcome:
            failed[index] = outcome
            continue
        for step_op, row, _, step_value in steps:
            if step_op != CHECK:
                rows[row] = (step_value, index, time_ns)
    if not failed:
        return _ALL_APPLIED
    return _result(header, failed, repeats)


def _run_paused(header: FrameHeader, commands: Commands | None, sessions: Sessions) -> Result:
    """Nothing is written; a command whose first copy came before the pause is answered as that was."""
    indexes = range(header.first_index, header.last_index + 1)
    failed: dict[int, int] = dict.fromkeys(indexes, Outcome.PAUSED)
    repeats: dict[int, int] = {}
    if commands is not None and len(commands) == len(indexes):
        for index, command in enumerate(commands, header.first_index):
            try:
                _steps(command)
            except _MALFORMED:
                continue
            _, _, _, _, session, serial, _ = command
            if not session:
                continue
            answer = sessions.recall(session, serial, index)
            if answer is None:
                sessions.note(session, serial, index, Outcome.PAUSED)
            else:
                repeats[index], failed[index] = answer
    return _result(header, failed, repeats)


def _result(header: FrameHeader, failed: dict[int, int], repeats: dict[int, int]) -> Result:
    """`failed`: the entries that had no effect, and what their clients are told."""
    outcomes = [failed.get(i, 0) for i in range(header.first_index, header.last_index + 1)]
    return Result(outcomes, list(failed), repeats)


def _without_effect(header: FrameHeader, outcome: Outcome) -> Result:
    indexes = list(range(header.first_index, header.last_index + 1))
    return Result([outcome] * len(indexes), indexes)


def _is_plain_put(command: Any) -> bool:
    """Whether this put, in a session, has no condition and is well made, but for table and key."""
    _, _, _, condition, session, serial, value = command
    if condition is not None or type(value) is not bytes or type(session) is not int:
        return False
    return type(serial) is int and session > 0 < serial


def _plain_puts(command: Any, index: int, time_ns: int) -> Rows | None:
    """The rows of a batch that only puts, without conditions: a bulk load. None for every other, which
    `_steps` takes apart; raises one of _MALFORMED where that would too."""
    _, table, key, condition, session, serial, operations = command
    if session or serial or table or key or condition is not None or type(operations) is not tuple:
        return None
    rows: Rows = {}
    for op, row_table, row_key, row_condition, value in operations:
        if (
            type(op) is not int
            or op != PUT
            or row_condition is not None
            or type(value) is not bytes
            or type(row_table) is not str
            or type(row_key) is not str
        ):
            return None
        rows[row_table + SEPARATOR + row_key] = (value, index, time_ns)
    return rows or None


def _steps(command: Any) -> list[_Step]:
    """The operations of a command; raises one of _MALFORMED if it is none."""
    op, table, key, condition, session, serial, value = command
    if (session or serial) and not (type(session) is int and type(serial) is int and session > 0 < serial):
        raise _NoCommand
    if op == PUT and condition is None and type(value) is bytes and type(op) is int:
        return [_Step(PUT, table + SEPARATOR + key, None, value)]
    if op in (PUT, DELETE):
        return [_step(op, table, key, condition, value)]
    if (table, key, condition, session, value) == ("", "", None, 0, None) and op == OPEN and type(op) is int:
        return []
    if op != BATCH or table or key or condition is not None or type(value) is not tuple or not value:
        raise _NoCommand
    return [_step(*row) for row in value]


def _step(op: object, table: object, key: object, condition: object, value: object) -> _Step:
    is_shaped = (
        type(op) is int
        and op in (PUT, DELETE, CHECK)
        and type(table) is str
        and type(key) is str
        and (type(value) is bytes if op == PUT else value is None)
    )
    if not is_shaped:
        raise _NoCommand
    assert isinstance(op, int) and isinstance(value, bytes | None)
    return _Step(op, f"{table}{SEPARATOR}{key}", _condition(condition), value)


def _condition(plain: object) -> tuple[int, int | bytes | None] | None:
    match plain:
        case None:
            return None
        case (1,):
            return ABSENT, None
        case (2, int() as revision):
            return REVISION, revision
        case (3, bytes() as value):
            return VALUE, value
    raise _NoCommand


def _holds(condition: tuple[int, int | bytes | None], version: Version | None) -> bool:
    """Whether the row is as the condition asks. An absent row has neither a revision nor a value."""
    kind, wanted = condition
    if version is None or version[0] is None:
        return kind == ABSENT
    return version[1] == wanted if kind == REVISION else kind == VALUE and version[0] == wanted
