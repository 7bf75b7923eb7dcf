"""Which entry did it: looks through archived commands for those that touch a row (wal-search).

An entry that is found was committed; whether a conditional one had an effect only a replay can tell, so
it is marked. What can't be read is told: a search that did not see everything does not look complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

from neumann.errors import Corrupt, NeumannError
from neumann.format.command import BATCH, DELETE, PUT, Command, decode_body
from neumann.format.frame import Frame, FrameHeader, Kind
from neumann.format.ids import LogPoint, Timeline
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.recovery.catalog import Catalog, Head
from neumann.recovery.runs import ends_before, gap
from neumann.snapshot.segment_file import End

OPERATIONS = {"put": PUT, "delete": DELETE}
_NAMES = {number: name for name, number in OPERATIONS.items()}


class Query(NamedTuple):
    """What to look for; None, and 0 for a time, is anything. Times are inclusive."""

    table: str | None = None
    key: str | None = None
    op: str | None = None
    from_ns: int = 0
    to_ns: int = 0


class Entry(NamedTuple):
    """A command that was found. `op`, `table`, `key` are those of its first row that matches;
    `matches` counts them, and `rows` is how many the command has. `conditional`: it may have failed."""

    timeline: Timeline
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    time_ns: int
    op: str
    table: str
    key: str
    matches: int
    rows: int
    conditional: bool


def search(catalog: Catalog, query: Query, wrong: list[NeumannError]) -> Iterator[Entry]:
    """The entries, oldest first in each timeline; what could not be read is added to `wrong`."""
    assert query.op is None or query.op in OPERATIONS
    wrong += [problem.error for problem in catalog.problems]
    last: tuple[Timeline, LogPoint] | None = None
    for head, following in zip_longest(catalog.heads, catalog.heads[1:]):
        is_later = 0 < query.to_ns < head.first_time_ns
        if is_later or (following is not None and ends_before(head, following, query.from_ns)):
            last = None
            continue
        read = catalog.scan(head, bodies=True)
        if last is not None and last[0] == head.timeline and last[1] != head.previous:
            wrong.append(gap(head.timeline, last[1].index + 1, head.first_index - 1))
        if read.end is not End.SEALED and not catalog.is_begun(head):
            wrong.append(Corrupt(read.damage))
        last = head.timeline, read.last
        yield from _in_segment(catalog, head, read.last.index, query)


def _in_segment(catalog: Catalog, head: Head, last_index: int, query: Query) -> Iterator[Entry]:
    data = catalog.read(head)
    offset = SEGMENT_HEADER_BYTES
    needles = [text.encode() for text in (query.table, query.key) if text is not None]
    for header in catalog.headers(head):
        if header.last_index > last_index or 0 < query.to_ns < header.time_ns:
            return
        frame = Frame(header, data[offset : offset + header.frame_bytes])
        offset += header.frame_bytes
        if header.kind is Kind.DATA and header.time_ns >= query.from_ns:
            body = frame.body
            if all(needle in body for needle in needles):
                yield from _in_frame(head.timeline, header, decode_body(body) or (), query)


def _in_frame(
    timeline: Timeline, header: FrameHeader, commands: list[Command] | tuple[Command, ...], query: Query
) -> Iterator[Entry]:
    for index, command in enumerate(commands, header.first_index):
        try:
            rows = _rows(command)
            found = [row for row in rows if _matches(row, query)]
        except (ValueError, TypeError, IndexError):
            continue  # it is no command, and changed nothing (R3)
        if found:
            op, table, key, _ = found[0]
            conditional = any(row[3] is not None for row in rows)
            yield Entry(
                timeline, index, header.time_ns, _NAMES[op], table, key, len(found), len(rows), conditional
            )


def _rows(command: Any) -> list[tuple[int, str, str, object]]:
    """(operation, table, key, condition) of each row that a command names; checks of a batch too."""
    op, table, key, condition, _, _, value = command
    if op == BATCH:
        return [(row[0], row[1], row[2], row[3]) for row in value]
    return [(op, table, key, condition)]


def _matches(row: tuple[int, str, str, object], query: Query) -> bool:
    op, table, key, _ = row
    return (
        op in _NAMES
        and query.table in (None, table)
        and query.key in (None, key)
        and (query.op is None or OPERATIONS[query.op] == op)
    )
