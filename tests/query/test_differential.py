"""Random statements give what SQLite gives for the same rows in its own tables."""

from __future__ import annotations

import math
import random
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from neumann.format.times import time_text
from neumann.store.view import View
from tests.query.state import SECOND_NS, State, ask

FIELDS = ("a", "b", "c", "Long name")
TABLES = ("cities", "other")
KEYS = ["A", "a", "aa", "ab", "b", "B", "5", "05", "5.0", "9e1", "z", "é", "京", "𐍈", "a/b", "a'b", "%"]
VALUES = [None, True, False, 0, 1, 5, -7, 2**62, 2.5, -0.5, math.inf, "", "5", "a", "A", "ab", "é", b"", b"5"]
ALL = "SELECT * "


def quoted(name: str) -> str:
    return f'"{name}"'


def both(rng: random.Random, directory: Path) -> tuple[View, sqlite3.Connection]:
    """The same rows as neumann's tables and as SQLite's."""
    state, peer = State(), sqlite3.connect(":memory:")
    columns = ", ".join(f'"{field}"' for field in FIELDS)
    for table in TABLES:
        peer.execute(
            f"CREATE TABLE {table}(key TEXT PRIMARY KEY NOT NULL, revision INTEGER NOT NULL,"
            f" time TEXT NOT NULL, {columns}) WITHOUT ROWID"
        )
        keys = rng.sample([*KEYS, *(f"{n:03}" for n in range(60))], 40)
        for number, key in enumerate(keys):
            value = {field: rng.choice(VALUES) for field in FIELDS if number == 0 or rng.random() < 0.8}
            state.put(table, key, value)
            revision = len(state.rows)
            time = time_text(revision * SECOND_NS, 9)
            row = (key, revision, time, *(value.get(field) for field in FIELDS))
            peer.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    return state.view(directory, rng), peer


def literal(rng: random.Random) -> str:
    key = rng.choice([*KEYS, "", "~", "0", "030"]).replace("'", "''")
    return rng.choice([f"'{key}'"] * 6 + ["NULL", "5", "5.0", "x'61'", "-1", "1e400", "'a' || 'b'"])


def operand(rng: random.Random, alias: str) -> str:
    column = rng.choice(["key", "key", "key", "revision", "time", "a", "b", "c", '"long NAME"'])
    return f"{alias}.{column}" if rng.random() < 0.5 else column


def condition(rng: random.Random, alias: str, depth: int = 0) -> str:
    if depth < 3 and rng.random() < 0.55:
        parts = [condition(rng, alias, depth + 1) for _ in range(rng.randrange(1, 4))]
        joined = f" {rng.choice(['AND', 'AND', 'OR'])} ".join(f"({part})" for part in parts)
        return f"NOT ({joined})" if rng.random() < 0.15 else joined
    left = operand(rng, alias)
    right = operand(rng, alias) if rng.random() < 0.3 else literal(rng)
    if rng.random() < 0.2:
        left, right = right, left
    some = ", ".join(literal(rng) for _ in range(rng.randrange(1, 5)))
    comparison = rng.choice(["=", "=", "<", "<=", ">", ">=", "<>", "IS", "IS NOT"])
    return rng.choice(
        [
            *[f"{left} {comparison} {right}"] * 6,
            f"{left} IN ({some})",
            f"{left} BETWEEN {right} AND {literal(rng)}",
            f"{left} IS NULL",
            f"{left} LIKE '%a%'",
            f"{left} GLOB 'a*'",
            f"{left} COLLATE NOCASE {comparison} {right}",
            f"{left} IN (SELECT a FROM other WHERE {operand(rng, 'other')} IS NOT NULL)",
            f"({alias}.key, {alias}.b) IN (SELECT a, b FROM other)",
        ]
    )


def statement(rng: random.Random) -> tuple[str, bool]:
    """(SQL, whether the order of its rows is determined)."""
    where = condition(rng, "x")
    table = rng.choice(TABLES)
    direction = rng.choice(["", "DESC", "ASC"])
    page = rng.choice(["", "LIMIT 3", "LIMIT 5 OFFSET 2"])
    match rng.randrange(8):
        case 0:
            return f"SELECT COUNT(*), MIN(key), MAX(key), COUNT(a) FROM {table} x WHERE {where}", True
        case 1:
            return f"SELECT a, COUNT(*), SUM(revision) FROM {table} x WHERE {where} GROUP BY a", False
        case 2:
            column = rng.choice(["key", "b", "typeof(c)", "a, b"])
            return f"SELECT DISTINCT {column} FROM {table} x WHERE {where}", False
        case 3:
            on = rng.choice(["x.key = y.key", "x.key = y.a", "x.key < y.key AND y.key < 'b'", "x.b = y.b"])
            outer = rng.choice(["JOIN", "LEFT JOIN"])
            return f"SELECT x.key, y.key, y.c FROM cities x {outer} other y ON {on} WHERE x.key > '05'", False
        case 4:
            order = rng.choice(["a", "b DESC", "key COLLATE NOCASE", "revision / 7"])
            return (
                f"SELECT key, a FROM {table} x WHERE {where} ORDER BY {order}, key {direction} {page}",
                True,
            )
        case 5:
            return f"SELECT * FROM {table} x WHERE {where}", False
        case 6:
            return (
                f"SELECT key FROM {table} x WHERE {where} UNION SELECT a FROM other ORDER BY 1 {direction}",
                True,
            )
    order = rng.choice(["key", "key", "key, a"])
    return f"SELECT key, c, revision FROM {table} x WHERE {where} ORDER BY {order} {direction} {page}", True


@pytest.mark.parametrize("seed", range(8))
def test_statements(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    view, peer = both(rng, tmp_path)
    answered = 0
    for _ in range(150):
        sql, is_ordered = statement(rng)
        ours = ask(view, sql)
        if ALL in sql:  # whose columns come in another order
            sql = sql.replace("*", ", ".join(map(quoted, ours.columns)), 1)
        found, expected = list(map(repr, ours.rows)), list(map(repr, peer.execute(sql)))
        assert found == expected if is_ordered else Counter(found) == Counter(expected), sql
        answered += bool(expected)
    assert answered > 50
