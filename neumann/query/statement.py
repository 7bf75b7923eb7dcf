"""Runs one SQL statement over a view. It only reads, and it is bounded in time, rows and bytes.

The columns of a table are known only to who has read all of it. So a statement is prepared twice. First
every word of it is taken for a column of every table, and SQLite tells which it would read; `*` shows in
that it reads the column of that name. Where each of them is found in some row, mostly in the first, no
other reading of the names is possible: the statement runs with these columns, and the rest of the table
need not be looked at. Where one is not found, or that preparation fails, all fields are collected, and
SQLite judges the statement by them.

The rows in the answer are whole or there is none: an answer above a limit is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from neumann.errors import BadInput, NeumannError, TooLarge
from neumann.format.limits import RPC_MESSAGE_BYTES_MAX
from neumann.query.columns import (
    COLUMNS_MAX,
    FIXED,
    Check,
    SqlValue,
    all_fields,
    column_of,
    find_fields,
    fold,
)
from neumann.query.virtual import Table
from neumann.store.view import View

if TYPE_CHECKING:
    import apsw

SQL_CHARS_MAX = 1_000_000
ANSWER_BYTES_MAX = RPC_MESSAGE_BYTES_MAX // 2
"""Of all cells; an answer has to fit into one message."""

_CELL_BYTES_MAX = 64 * 1024 * 1024
_CHECK_STEPS = 2_000
_NAMES_SHOWN = 20
_EVERYTHING = "*"
_WORDS = re.compile(
    r'"((?:[^"]|"")*)"|`([^`]*)`|\[([^\]]*)\]|([A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)'
)

Params = Sequence[object] | Mapping[str, object]
"""For `?` in order, or for `:name`."""


class QueryResult(NamedTuple):
    """The answer to a statement, and the index of the state that it holds for."""

    columns: list[str]
    rows: list[tuple[SqlValue, ...]]
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here


def run(view: View, index: int, sql: str, params: Params, *, rows_max: int, check: Check) -> QueryResult:
    """Answer one statement over `view`, the state at `index`.

    BadInput for what is no query of these tables, TooLarge for an answer above a limit, and whatever
    `check` raises.
    """
    assert rows_max > 0
    bindings = _bindings(sql, params)
    engine = _engine()
    tables = view.tables()
    known = _fields_named(engine, view, tables, sql, bindings, check)
    database = _Database(
        view, tables, sql, check, lambda t: known[t] if t in known else all_fields(view, t, check)
    )
    try:
        with closing(database.connect(engine)) as connection:
            columns, rows = _execute(connection, sql, bindings, rows_max)
    except engine.Error as error:
        raise _refusal(engine, error, database) from error
    except RecursionError as error:
        raise BadInput(
            "a value is nested too deeply for SQL", remedy="leave that row or field out"
        ) from error
    return QueryResult(columns, rows, index)


def _engine() -> Any:
    try:
        import apsw
    except ModuleNotFoundError as error:
        raise NeumannError("apsw is not installed", remedy="pip install 'neumann[sql]'") from error
    return apsw


# --- what comes in --------------------------------------------------------------------------------


class _Named(dict[str, object]):
    """Parameters by name; to ask for one that was not given is the caller's mistake."""

    def __missing__(self, name: str) -> object:
        raise BadInput(f"the statement has a parameter {name!r:.40}, and none of that name was given")


def _bindings(sql: str, params: Params) -> _Named | tuple[object, ...]:
    """The parameters as SQLite takes them; BadInput for others, and for a statement that is no text."""
    if len(sql) > SQL_CHARS_MAX:
        raise TooLarge(f"a statement of {len(sql)} characters; the limit is {SQL_CHARS_MAX}")
    if "\0" in sql:
        raise BadInput("the statement has a NUL in it", remedy="give such a text as a parameter")
    _check_value("the statement", sql)
    if isinstance(params, Mapping):
        for name, value in params.items():
            _check_value(f"parameter {name!r:.40}", value)
        return _Named(params)
    for number, value in enumerate(params, 1):
        _check_value(f"parameter {number}", value)
    return tuple(params)


def _check_value(what: str, value: object) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"{what} is no Unicode text: {error}") from error
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise BadInput(f"{what} is {value}, beyond 64 bits")
    elif value is not None and not isinstance(value, float | bytes):
        raise BadInput(f"{what} is {value!r:.40}: no number, text, bytes or null")


def _words(sql: str) -> list[str]:
    """What may be the name of a column in this statement, once each; some are none."""
    found: dict[str, str] = {}
    for match in _WORDS.finditer(sql):
        word = next(part for part in match.groups() if part is not None).replace('""', '"')
        if word and "\0" not in word and fold(word) not in (*FIXED, _EVERYTHING):
            found.setdefault(fold(word), word)
    return list(found.values())


def _fields_named(
    engine: Any, view: View, tables: Sequence[str], sql: str, bindings: Any, check: Check
) -> dict[str, list[str]]:
    """Table -> the fields that the statement reads of it, of those tables where they suffice."""
    words = [*_words(sql), _EVERYTHING]
    if len(words) > COLUMNS_MAX:
        return {}
    database = _Database(view, tables, sql, check, lambda _: words)
    try:
        with closing(database.connect(engine)) as connection:
            cursor = connection.cursor()
            cursor.exec_trace = lambda *_: False
            cursor.execute(sql, bindings)
    except engine.ExecTraceAbort:
        pass
    except engine.SQLError:
        return {}
    except engine.Error as error:
        raise _refusal(engine, error, database) from error
    known: dict[str, list[str]] = {}
    for table in database.declared:
        read = database.reads.get(table, set())
        if _EVERYTHING not in read:
            found = find_fields(view, table, {fold(column) for column in read} - {*FIXED, ""}, check)
            if found is None:
                return {}
            known[table] = found
    return known


# --- SQLite ---------------------------------------------------------------------------------------


class _Database:
    """The tables of a view as one SQLite database; its "module", in SQLite's words.

    `fields` is asked for a table's fields when a statement names the table. `declared` has the columns of
    such tables, and `reads` those that a statement would read.
    """

    def __init__(
        self,
        view: View,
        tables: Sequence[str],
        sql: str,
        check: Check,
        fields: Callable[[str], Sequence[str]],
    ) -> None:
        self.tables = tables
        self.declared: dict[str, list[str]] = {}
        self.reads: dict[str, set[str]] = {}
        self._view = view
        self.sql = sql
        self._check = check
        self._fields = fields

    def connect(self, engine: Any) -> apsw.Connection:
        """A connection, which the caller closes."""
        connection: apsw.Connection = engine.Connection(":memory:")
        connection.limit(engine.SQLITE_LIMIT_LENGTH, _CELL_BYTES_MAX)
        connection.config(engine.SQLITE_DBCONFIG_DQS_DML, 0)  # "x" is a name and never a text
        module: Any = self  # which has of apsw's VTModule what reading needs
        for table in self.tables:
            connection.create_module(
                table, module, use_bestindex_object=True, eponymous_only=True, read_only=True
            )
        reading = {engine.SQLITE_SELECT, engine.SQLITE_READ, engine.SQLITE_FUNCTION, engine.SQLITE_RECURSIVE}

        def authorize(action: int, table: str | None, column: str | None, *_: object) -> int:
            is_of_sqlite = (table or "").startswith("sqlite_") and table not in self.tables
            if action not in reading or is_of_sqlite:
                raise BadInput("a query reads rows and does nothing else", remedy=self.tables_here())
            if action == engine.SQLITE_READ:
                self.reads.setdefault(str(table), set()).add(str(column))
            return int(engine.SQLITE_OK)

        connection.authorizer = authorize
        connection.set_progress_handler(self._progress, _CHECK_STEPS)
        return connection

    def tables_here(self) -> str:
        """For the remedy of who named another one."""
        return f"tables here: {_listed(self.tables)}" if self.tables else "no table has a row here"

    def Connect(self, _: object, module: str, *__: object) -> tuple[str, Table]:
        """A statement names this table for the first time."""
        twins = [table for table in self.tables if fold(table) == fold(module)]
        if len(twins) > 1:
            raise BadInput(
                f"the tables {_listed(twins)} differ only in case, and SQL doesn't tell them apart",
                remedy="read them with scan",
            )
        fields = self._fields(module)
        self.declared[module] = [*FIXED, *map(column_of, fields)]
        table = Table(self._view, module, fields, self.sql)
        return table.declaration, table

    def _progress(self) -> bool:
        self._check()
        return False


def _execute(
    connection: apsw.Connection, sql: str, bindings: Any, rows_max: int
) -> tuple[list[str], list[tuple[SqlValue, ...]]]:
    columns: list[str] = []
    statements = 0

    def begin(cursor: apsw.Cursor, text: str, _: object) -> bool:
        nonlocal statements
        statements += cursor.has_vdbe
        if statements > 1:
            raise BadInput(f"a second statement begins at {text.strip()!r:.40}", remedy="one at a time")
        if cursor.has_vdbe:
            columns.extend(column[0] for column in cursor.get_description())
        return True

    cursor = connection.cursor()
    cursor.exec_trace = begin
    rows: list[tuple[SqlValue, ...]] = []
    size = 0
    for row in cursor.execute(sql, bindings):
        rows.append(row)
        size += sum(map(_packed_bytes, row))
        if len(rows) > rows_max:
            raise TooLarge(f"the answer has more than {rows_max} rows", remedy="LIMIT, or a narrower WHERE")
        if size > ANSWER_BYTES_MAX:
            what = f"the answer has more than {ANSWER_BYTES_MAX} bytes in {len(rows)} rows"
            raise TooLarge(what, remedy="LIMIT, or fewer columns")
    if not statements:
        raise BadInput("there is no statement", remedy="one looks like SELECT COUNT(*) FROM cities")
    return columns, rows


def _packed_bytes(cell: SqlValue) -> int:
    """What a message spends on it at most."""
    return 9 + (len(cell.encode()) if isinstance(cell, str) else len(cell) if isinstance(cell, bytes) else 0)


def _refusal(engine: Any, error: Exception, database: _Database) -> NeumannError:
    """What SQLite says, with what to do about it."""
    text = str(error)
    if "..." in database.sql and "syntax error" in text:
        remedy = f"write a table's name in place of ...; {database.tables_here()}"
        return BadInput(f"SQL: {text}", remedy=remedy)
    if text.startswith("no such table: "):
        return BadInput(f"there is no table {text.partition(': ')[2]}", remedy=database.tables_here())
    if "no such column" in text:
        columns = [f"{table} has {_listed(names)}" for table, names in database.declared.items()]
        return BadInput(f"SQL: {text}", remedy="; ".join(columns))
    if isinstance(error, engine.TooBigError | engine.NoMemError):
        return TooLarge(f"SQL: {text}")
    if isinstance(error, engine.FullError | engine.IOError | engine.CantOpenError):
        what = f"SQLite can't use its temporary file for this query: {text}"
        return NeumannError(what, remedy="make room in /tmp, or sort and group less")
    return BadInput(f"SQL: {text}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown
