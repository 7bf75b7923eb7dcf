"""One table as SQLite sees it: a virtual table without rowids whose primary key is the key.

Comparisons of the key by = < <= > >= IN become a lookup or a range, ORDER BY key costs no sort, and a
value is decoded when a cell of it is asked for. The methods and their order are those of SQLite's virtual
table interface, as apsw calls them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neumann.format.command import row_key, split_row_key, table_end
from neumann.format.table import NO_ROWS, Columns
from neumann.format.times import time_text
from neumann.query.columns import FIXED, SqlValue, cell, column_of, fields_of, fold_of
from neumann.store.view import View

if TYPE_CHECKING:
    import apsw

_KEY, _REVISION, _FIRST_FIELD = 0, 1, len(FIXED)
_EQ, _GT, _LE, _LT, _GE = "eq", "gt", "le", "lt", "ge"
_OPERATORS: Mapping[int, str] = {2: "eq", 4: "gt", 8: "le", 16: "lt", 32: "ge"}
"""SQLITE_INDEX_CONSTRAINT_EQ, GT, LE, LT, GE."""

_CONSTRAINTS_MAX = 32
_ROW_IN = re.compile(r"\)(?:\s|--[^\n]*|/\*.*?\*/)*IN\b", re.IGNORECASE | re.DOTALL)
"""Behind so many constraints, and in `(key, a) IN (...)`, SQLite doesn't tell IN from = and asks for each
value by itself. What is read too much for one of them then passes as a row of the others, and is there
twice."""

_ROWS_GUESSED = 1_000_000
"""Nobody counts them; only the proportions of the costs matter."""


class Table:
    """Made for one statement and the fields that it may name."""

    def __init__(self, view: View, name: str, fields: Sequence[str], sql: str) -> None:
        self.view = view
        self.name = name
        self.fields = fields
        self.folds = [fold_of(field) for field in fields]
        self._may_be_row_in = _ROW_IN.search(sql) is not None

    @property
    def declaration(self) -> str:
        """The statement that would create it."""
        columns = ["key TEXT PRIMARY KEY NOT NULL", "revision INTEGER NOT NULL", "time TEXT NOT NULL"]
        columns += ['"' + column_of(field).replace('"', '""') + '"' for field in self.fields]
        return f"CREATE TABLE rows({', '.join(columns)}) WITHOUT ROWID"

    def BestIndexObject(self, info: apsw.IndexInfo) -> bool:
        """Take what compares the key. SQLite compares again, so a hint that is not used harms nothing."""
        operators: list[str] = []
        for number in range(min(info.nConstraint, _CONSTRAINTS_MAX)):
            operator = _OPERATORS.get(info.get_aConstraint_op(number))
            if (
                operator is not None
                and info.get_aConstraint_iColumn(number) == _KEY
                and info.get_aConstraint_usable(number)
                and info.get_aConstraint_collation(number) == "BINARY"
            ):
                if info.get_aConstraintUsage_in(number):
                    operator = "in"
                    info.set_aConstraintUsage_in(number, True)
                elif operator == "eq" and self._may_be_row_in:
                    continue
                operators.append(operator)
                info.set_aConstraintUsage_argvIndex(number, len(operators))
        rows = 1 if {"eq", "in"} & {*operators} else _ROWS_GUESSED >> 2 * min(len(operators), 2)
        info.idxStr, info.estimatedRows, info.estimatedCost = " ".join(operators), rows, 10.0 * rows
        if info.nOrderBy and info.get_aOrderBy_iColumn(0) == _KEY:
            info.orderByConsumed = True  # keys differ: what follows the key in ORDER BY decides nothing
            info.idxNum = int(info.get_aOrderBy_desc(0))
        return True

    def Open(self) -> Cursor:
        """One reading of the table."""
        return Cursor(self)

    def Disconnect(self) -> None:
        """Nothing is held."""

    Destroy = Disconnect


class Cursor:
    """A place among the rows of a range."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._runs: Iterator[Columns] = iter(())
        self._rows = NO_ROWS
        self._reverse = False
        self._places: Iterator[int] = iter(())
        self._place = -1
        self._fields: dict[str, Any] | None = None
        self._by_fold: dict[str, Any] | None = None

    def Filter(self, reverse: int, operators: str, arguments: Sequence[SqlValue | set[SqlValue]]) -> None:
        """Begin to read what the hints of BestIndexObject leave. An argument of "in" is a set."""
        name, view = self._table.name, self._table.view
        self._reverse, self._runs, self._places = bool(reverse), iter(()), iter(())
        low, high = row_key(name, ""), table_end(name)
        points: set[str] | None = None
        for operator, argument in zip(operators.split(), arguments, strict=True):
            values = argument if isinstance(argument, set) else {argument}
            texts = {value for value in values if isinstance(value, str)}
            if len(texts) < len(values - {None}):
                continue  # only SQLite knows how a text compares with another type
            addresses = {row_key(name, text) for text in texts}  # of NULL, none: nothing is equal to it
            match operator:
                case "eq" | "in":
                    points = addresses if points is None else points & addresses
                case _ if not addresses:
                    points = set()
                case "ge":
                    low = max(low, *addresses)
                case "gt":
                    low = max(low, *(address + "\0" for address in addresses))
                case "lt":
                    high = min(high, *addresses)
                case "le":
                    high = min(high, *(address + "\0" for address in addresses))
        if points is not None:
            self._runs = _lookups(view, sorted(points, reverse=self._reverse))
        elif low < high:
            blocks_at_once = 1 if operators else 4
            self._runs = view.runs(low, high, reverse=self._reverse, blocks_at_once=blocks_at_once)
        self.Next()

    def Next(self) -> None:
        """Go on by one row."""
        self._fields = self._by_fold = None
        self._place = next(self._places, -1)
        if self._place < 0:
            self._rows = next(self._runs, NO_ROWS)
            places = range(len(self._rows.keys))
            self._places = reversed(places) if self._reverse else iter(places)
            self._place = next(self._places, -1)

    def Eof(self) -> bool:
        """Whether the rows are at their end."""
        return self._place < 0

    def Column(self, number: int) -> SqlValue:
        """A cell of this row."""
        if number >= _FIRST_FIELD:
            return cell(self._field(number - _FIRST_FIELD))
        if number == _KEY:
            return split_row_key(self._rows.keys[self._place])[1]
        if number == _REVISION:
            return self._rows.revisions[self._place]
        return time_text(self._rows.times[self._place], 9)

    def _field(self, number: int) -> Any:
        """Under the spelling that the table is known to have, else under another one."""
        if self._fields is None:
            self._fields = fields_of(self._rows.values[self._place])
        spelling = self._table.fields[number]
        if spelling in self._fields:
            return self._fields[spelling]
        if self._by_fold is None:
            self._by_fold = {fold_of(field): value for field, value in self._fields.items()}
        return self._by_fold.get(self._table.folds[number])

    def Close(self) -> None:
        """Let go of the rows."""
        self._runs, self._rows = iter(()), NO_ROWS


def _lookups(view: View, addresses: Sequence[str]) -> Iterator[Columns]:
    for address in addresses:
        version = view.get(address)
        if version is not None and version[0] is not None:
            value, revision, time_ns = version
            yield Columns((address,), (value,), (revision,), (time_ns,))
