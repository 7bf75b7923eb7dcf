"""What every store takes and gives: rows, the operations of a batch, and the protocol `Store`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, Protocol

from neumann.errors import BadInput
from neumann.format import command
from neumann.query.statement import Params, QueryResult


class Row(NamedTuple):
    """One row. `revision` is the index of the entry that wrote it, `time_ns` that entry's log time."""

    table: str
    key: str
    value: Any
    revision: int
    time_ns: int


class Put(NamedTuple):
    """An operation of a batch."""

    table: str
    key: str
    value: Any
    if_absent: bool = False
    if_revision: int | None = None


class Delete(NamedTuple):
    """An operation of a batch."""

    table: str
    key: str
    if_revision: int | None = None


class Check(NamedTuple):
    """An operation of a batch that only carries a condition."""

    table: str
    key: str
    if_absent: bool = False
    if_revision: int | None = None


class Store(Protocol):
    """What `neumann.open` and `neumann.connect` both give. Errors are the classes of errors.py."""

    async def get(self, table: str, key: str, *, stale: bool = False) -> Row | None:
        """The row, or None. Linearizable unless `stale`."""
        ...

    async def put(
        self,
        table: str,
        key: str,
        value: Any,
        *,
        if_absent: bool = False,
        if_revision: int | None = None,
    ) -> int:
        """Write a row; its revision. ConditionFailed if a condition does not hold."""
        ...

    async def delete(self, table: str, key: str, *, if_revision: int | None = None) -> int:
        """Remove a row; the index at which it was removed."""
        ...

    async def batch(self, operations: Sequence[Put | Delete | Check]) -> int:
        """All or nothing, at one index."""
        ...

    def scan(
        self,
        table: str,
        *,
        start: str = "",
        stop: str = "",
        prefix: str = "",
        limit: int | None = None,
        reverse: bool = False,
        stale: bool = False,
    ) -> AsyncIterator[Row]:
        """Rows in the order of their keys, page by page; each page is of one moment."""
        ...

    async def query(
        self, sql: str, params: Params = (), *, stale: bool = False, rows_max: int | None = None
    ) -> QueryResult:
        """One SQL statement over all tables at one moment: columns, rows, and the index it holds for."""
        ...

    async def snapshot(self) -> dict[str, Any]:
        """Make and publish a snapshot on a majority."""
        ...

    async def restore_point(self, name: str) -> dict[str, Any]:
        """Name this moment, as a target for wal-replay."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


def condition(if_absent: bool, if_revision: int | None) -> tuple[object, ...] | None:
    """The wire form of the keywords; BadInput if both are given."""
    if if_absent and if_revision is not None:
        raise BadInput("if_absent and if_revision exclude each other")
    if if_absent:
        return (command.ABSENT,)
    return (command.REVISION, if_revision) if if_revision is not None else None


def batch_of(operations: Sequence[Put | Delete | Check]) -> command.Command:
    """The command of a batch."""
    plain: list[tuple[int, str, str, tuple[object, ...] | None, bytes | None]] = []
    for op in operations:
        if isinstance(op, Put):
            wanted = condition(op.if_absent, op.if_revision)
            plain.append((command.PUT, op.table, op.key, wanted, command.pack_value(op.value)))
        elif isinstance(op, Delete):
            plain.append((command.DELETE, op.table, op.key, condition(False, op.if_revision), None))
        else:
            wanted = condition(op.if_absent, op.if_revision)
            plain.append((command.CHECK, op.table, op.key, wanted, None))
    return command.batch(plain)
