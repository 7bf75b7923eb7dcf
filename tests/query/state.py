"""Rows, and a real store that has them in all the places where a row can be."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from neumann.env.disk import RealDisk
from neumann.format.command import pack_value, row_key
from neumann.format.ids import LogPoint
from neumann.format.table import Version
from neumann.query.statement import Params, QueryResult, run
from neumann.store.store import Store
from neumann.store.table_writer import write_table
from neumann.store.view import View
from tests.store.rows import Rows, in_order, manifest_of

INDEX = 1000
SECOND_NS = 1_000_000_000


class State:
    """Puts make rows with revisions 1, 2, ... and as many seconds since 1970."""

    def __init__(self) -> None:
        self.rows: Rows = {}

    def put(self, table: str, key: str, value: Any) -> None:
        """Another row."""
        revision = len(self.rows) + 1
        self.rows[row_key(table, key)] = pack_value(value), revision, revision * SECOND_NS

    def view(self, directory: Path, rng: random.Random | None = None) -> View:
        """Of two tables in files, a frozen and an active memtable, with old versions and deleted rows."""
        rng = rng or random.Random(1)
        old: list[Version] = [(None, 0, 0), (pack_value({"old": 1}), 0, 0)]
        places: list[Rows] = [{}, {}, {}, {}]
        for address, version in self.rows.items():
            place = rng.randrange(len(places))
            places[place][address] = version
            places[rng.randrange(place + 1)].setdefault(address, rng.choice(old))
        for table in {address.partition("\0")[0] for address in self.rows}:
            for number in range(5):
                places[0][row_key(table, f"deleted{number}")] = old[1]
                places[rng.randrange(1, 4)][row_key(table, f"deleted{number}")] = old[0]
        disk = RealDisk()
        refs = [ref for rows in places[:2] if (ref := write_table(disk, str(directory), in_order(rows), 256))]
        store = Store.open(disk, str(directory), manifest_of(*refs[::-1], index=1), 1 << 20)
        store.active.rows.update(places[2])
        store.freeze(LogPoint(2, 1, 2), 0)
        store.active.rows.update(places[3])
        return store.view()


def nothing() -> None:
    """A check that lets a query go on."""


def ask(view: View, sql: str, params: Params = (), rows_max: int = 10_000) -> QueryResult:
    """One statement, without a limit on its time."""
    return run(view, INDEX, sql, params, rows_max=rows_max, check=nothing)


def rows_of(view: View, sql: str, params: Params = ()) -> list[Any]:
    """Its rows alone."""
    return ask(view, sql, params).rows
