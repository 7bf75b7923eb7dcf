"""The store for programs without asyncio: `with neumann.sync.open("data") as db: ...`.

    with neumann.sync.open("/var/lib/mine") as db:               # in this process, one node
    with neumann.sync.connect("h1:7878,h2:7878") as db:          # a cluster
        db.put("cities", "berlin", {"population": 3_700_000})
        row = db.get("cities", "berlin")

Each method is that of neumann.Store without `await`, with the same guarantees and the same errors. The
work is done by the asyncio store on an event loop in a background thread; any number of threads may
share one store, and their requests travel together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from typing import Any, Self, TypeVar

import neumann
from neumann.client import Check, Client, Delete, Put, Row
from neumann.embedded import EmbeddedStore
from neumann.env.loop_thread import LoopThread
from neumann.errors import Unavailable
from neumann.query.statement import Params, QueryResult

__all__ = ["Check", "Delete", "Put", "Row", "Store", "connect", "open"]

_T = TypeVar("_T")
_ROWS_A_TURN = 1000  # a row at a time would cost a switch of threads each


class Store:
    """A neumann.Store without asyncio. Made by `open` and `connect`; a context manager."""

    def __init__(self, store: EmbeddedStore | Client) -> None:
        self._store = store
        self._thread: LoopThread | None = None

    def __enter__(self) -> Self:
        assert self._thread is None, "this store is open already"
        self._thread = LoopThread("neumann.sync")
        try:
            self._run(self._store.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; once is enough. Everything acknowledged is on disk already."""
        if self._thread is None:
            return
        try:
            self._run(self._store.close())
        finally:
            self._end()

    def get(self, table: str, key: str, *, stale: bool = False) -> Row | None:
        """The row, or None. Linearizable unless `stale`."""
        return self._run(self._store.get(table, key, stale=stale))

    def put(
        self,
        table: str,
        key: str,
        value: Any,
        *,
        if_absent: bool = False,
        if_revision: int | None = None,
    ) -> int:
        """Write a row; its revision. ConditionFailed if a condition does not hold."""
        return self._run(self._store.put(table, key, value, if_absent=if_absent, if_revision=if_revision))

    def delete(self, table: str, key: str, *, if_revision: int | None = None) -> int:
        """Remove a row; the index at which it was removed."""
        return self._run(self._store.delete(table, key, if_revision=if_revision))

    def batch(self, operations: Sequence[Put | Delete | Check]) -> int:
        """All or nothing, at one index."""
        return self._run(self._store.batch(operations))

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
    ) -> Iterator[Row]:
        """Rows in the order of their keys, page by page; each page is of one moment."""
        rows = self._store.scan(
            table, start=start, stop=stop, prefix=prefix, limit=limit, reverse=reverse, stale=stale
        )
        while taken := self._run(_take(rows)):
            yield from taken

    def query(
        self, sql: str, params: Params = (), *, stale: bool = False, rows_max: int | None = None
    ) -> QueryResult:
        """One SQL statement over all tables at one moment: columns, rows, and the index it holds for."""
        return self._run(self._store.query(sql, params, stale=stale, rows_max=rows_max))

    def snapshot(self) -> dict[str, Any]:
        """Make and publish a snapshot on a majority."""
        return self._run(self._store.snapshot())

    def restore_point(self, name: str) -> dict[str, Any]:
        """Name this moment, as a target for wal-replay."""
        return self._run(self._store.restore_point(name))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._thread is None:
            work.close()
            raise Unavailable("this store is not open", remedy='use "with neumann.sync.open(path) as db:"')
        return self._thread.run(work)

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()


def open(path: str) -> Store:
    """A store in this process, in the directory `path` (made if it is missing). One process at a time."""
    return Store(neumann.open(path))


def connect(addresses: str, *, timeout_s: float = 10.0) -> Store:
    """A client of the cluster that listens at these addresses, separated by commas."""
    return Store(neumann.connect(addresses, timeout_s=timeout_s))


async def _take(rows: AsyncIterator[Row]) -> list[Row]:
    taken: list[Row] = []
    async for row in rows:
        taken.append(row)
        if len(taken) == _ROWS_A_TURN:
            break
    return taken
