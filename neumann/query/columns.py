"""The columns of a table, which are those that its rows happen to have, and the cells in them.

    key, revision, time   every row has them; time is ISO 8601 in UTC with nanoseconds
    <field>               of values that are maps with keys of text: each field that any row has, else NULL
    value                 any other value

A field that is called like one of the first three, or has no name, gets a `_` in front. Fields that differ
only in the case of ASCII letters are one column, for SQL doesn't tell them apart: their "fold" is the same.
A boolean is 1 or 0, a bin a BLOB, an integer beyond 64 bits signed a REAL, a nested value JSON text
(format/values.py).
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import Any

from neumann.errors import BadInput
from neumann.format.command import row_key, table_end, unpack_value
from neumann.format.table import Columns
from neumann.format.values import plain
from neumann.store.view import View

FIXED = ("key", "revision", "time")
COLUMNS_MAX = 1_900
"""Of one table, besides the fixed ones; SQLite ends at 2,000."""

SqlValue = None | int | float | str | bytes
Check = Callable[[], None]
"""Called often; what it raises ends the reading."""

_PLAIN = "value"
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_ONLY_TEXT = frozenset({str})


def fold(name: str) -> str:
    """Names with the same fold are one name to SQL."""
    return name.translate(_LOWER)


def column_of(field: str) -> str:
    """The column that shows a field."""
    return f"_{field}" if not field or fold(field) in FIXED else field


@lru_cache(maxsize=4096)
def fold_of(field: str) -> str:
    """The fold of a field's column."""
    return fold(column_of(field))


def fields_of(packed: bytes | None) -> dict[str, Any]:
    """The fields of a row's value."""
    assert packed is not None, "a view shows no tombstones"
    value = unpack_value(packed)
    if type(value) is dict and _ONLY_TEXT.issuperset(map(type, value)):
        return value
    return {_PLAIN: value}


def cell(value: Any) -> SqlValue:
    """A field's value as SQLite takes it."""
    match value:
        case bool():
            return int(value)
        case int():
            return value if -(2**63) <= value < 2**63 else float(value)
        case None | str() | float() | bytes():
            return value
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def find_fields(view: View, table: str, folds: Collection[str], check: Check) -> list[str] | None:
    """A field for each of these columns, or None if one of them is in no row."""
    missing, found = set(folds), []
    if not missing:
        return []
    for rows in _runs(view, table, check, 1):
        for packed in rows.values:
            for field in fields_of(packed):
                if fold_of(field) in missing:
                    missing.remove(fold_of(field))
                    found.append(field)
            if not missing:
                return found
    return None


def all_fields(view: View, table: str, check: Check) -> list[str]:
    """A field for every column, in the order in which rows show them. Reads the whole table."""
    known: set[str] = set()
    found: dict[str, str] = {}
    for rows in _runs(view, table, check, 4):
        for packed in rows.values:
            fields = fields_of(packed)
            if known.issuperset(fields):
                continue
            known.update(fields)
            for field in fields:
                if "\0" not in field:  # no statement can name it
                    found.setdefault(fold_of(field), field)
    if len(found) > COLUMNS_MAX:
        raise BadInput(
            f"the rows of {table} have {len(found)} fields, and SQL takes {COLUMNS_MAX}",
            remedy="name those that you want in place of *",
        )
    return list(found.values())


def _runs(view: View, table: str, check: Check, blocks_at_once: int) -> Iterator[Columns]:
    for rows in view.runs(row_key(table, ""), table_end(table), blocks_at_once=blocks_at_once):
        check()
        yield rows
