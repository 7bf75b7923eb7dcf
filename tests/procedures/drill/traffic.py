"""The users of the cluster: they load the cities, and go on writing while an operator works.

Everything goes through the public client, and each acknowledgement into the record. The client runs on
an event loop of its own in a thread, so that procedures stay plain sequences of commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import neumann
from neumann.cli.progress import Advance
from neumann.errors import OutcomeUnknown, Paused
from tests.procedures.drill.cities import TABLE
from tests.procedures.drill.record import Record, Rows, Write, pack

_BATCH_ROWS = 100
_BATCHES_IN_FLIGHT = 4
_TRICKLE_INTERVAL_S = 0.02
_RETRY_PAUSED_S = 0.1
_Result = TypeVar("_Result")


class Traffic:
    """Clients of one cluster, until `close`. `contact` is what neumann.connect takes."""

    def __init__(self, contact: str, record: Record) -> None:
        self.refused = 0
        """Writes that were refused because an operator had paused them."""
        self._record = record
        self._visitors = itertools.count(time.time_ns())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="traffic", daemon=True)
        self._thread.start()
        self._store = self._run(self._connect(contact))

    def close(self) -> None:
        self._run(self._store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def load(self, cities: Sequence[tuple[str, dict[str, Any]]], advance: Advance | None) -> None:
        """All of them, in atomic batches, several in flight; returns when all are acknowledged."""
        self._run(self._load(cities, advance))

    def put(self, key: str, value: object) -> Write:
        """One acknowledged put."""
        return self._run(self._acknowledge([(key, value)]))

    def rows(self) -> Rows:
        """Every row of every table, read linearizably."""
        return self._run(self._rows())

    @contextlib.contextmanager
    def trickle(self) -> Iterator[None]:
        """Somebody writes all the time inside the `with`; at its end all is acknowledged."""
        ending = asyncio.Event()
        writing = asyncio.run_coroutine_threadsafe(self._trickle(ending), self._loop)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(ending.set)
            writing.result()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connect(self, contact: str) -> neumann.Client:
        return await neumann.connect(contact).__aenter__()

    async def _load(self, cities: Sequence[tuple[str, dict[str, Any]]], advance: Advance | None) -> None:
        acknowledged = 0
        batches = iter([cities[at : at + _BATCH_ROWS] for at in range(0, len(cities), _BATCH_ROWS)])

        async def worker() -> None:
            nonlocal acknowledged
            for batch in batches:
                await self._acknowledge(batch)
                acknowledged += len(batch)
                if advance is not None:
                    advance(acknowledged, len(cities))

        await asyncio.gather(*(worker() for _ in range(_BATCHES_IN_FLIGHT)))

    async def _acknowledge(self, rows: Sequence[tuple[str, Any]]) -> Write:
        """Write (key, value) pairs at one index, None deletes; until it is acknowledged.

        After an unknown outcome it is written again: whether the first time counted or not, from the
        second one on the rows are what is recorded here.
        """
        ops = [
            neumann.Put(TABLE, key, value) if value is not None else neumann.Delete(TABLE, key)
            for key, value in rows
        ]
        while True:
            sent_ns = time.time_ns()
            try:
                index = await self._store.batch(ops)
            except OutcomeUnknown:
                continue
            packed = [(TABLE, key, None if value is None else pack(value)) for key, value in rows]
            return self._record.acknowledged(index, sent_ns, packed)

    async def _trickle(self, ending: asyncio.Event) -> None:
        """Visitors come, are changed, and two of three leave again."""
        for number in self._visitors:
            for value in ({"seen": 1}, {"seen": 2}, *([None] if number % 3 else [])):
                while not ending.is_set():
                    try:
                        await self._acknowledge([(f"visitor-{number}", value)])
                        break
                    except Paused:
                        self.refused += 1
                        await asyncio.sleep(_RETRY_PAUSED_S)
            if ending.is_set():
                return
            await asyncio.sleep(_TRICKLE_INTERVAL_S)

    async def _rows(self) -> Rows:
        found: Rows = {}
        for table in await self._store.tables():
            async for row in self._store.scan(table):
                found[table, row.key] = (pack(row.value), row.revision)
        return found
