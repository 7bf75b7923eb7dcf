"""Clients of the simulated cluster: unlike writes, conditions, batches and reads, through any node.

Every command carries a serial that no other has, so the log can be searched for it. A client asks one
node at a time, waits for the answer, and goes elsewhere after a failure; it never sends a command
twice. What it was told goes to checkers/clients.py at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, NamedTuple

from neumann.errors import Corrupt, NeumannError, OutcomeUnknown, Paused, StorageFailed, Unavailable
from neumann.format import command, rpc
from tests.sim.checkers.clients import Clients, Operation
from tests.sim.checkers.violation import require
from tests.sim.loop import SimLoop
from tests.sim.net import SimNet
from tests.sim.trace import Trace

TABLE = "registers"
JOURNAL = "journal"
KEY_COUNT = 24
TIMEOUT_S = 3.0
THINK_S = 0.01
AFTER_FAILURE_S = 0.05
READ_SHARE, SCAN_SHARE, STALE_SHARE = 0.2, 0.1, 0.1
BURST_SHARE = 0.2
WRITES_AT_ONCE_MAX = 30
READS_AT_ONCE_MAX = 12

_Row = tuple[int, str, str, tuple[object, ...] | None, bytes | None]

_NOT_DONE = (Unavailable, Paused)
_UNKNOWN = (OutcomeUnknown, StorageFailed)
_NOT_READ = (*_UNKNOWN, *_NOT_DONE, Corrupt)
"""Damage that no peer could mend yet is told, and not served (R8)."""


class Setting(NamedTuple):
    """Where a client works, with what, and who hears what it was told."""

    loop: SimLoop
    name: str
    net: SimNet
    addresses: list[str]
    random: Random
    checker: Clients
    trace: Trace
    is_reader: bool


class Client:
    """One client. Registers are shared by all clients; a journal row is written once, for ever.

    A reader only reads, each time through another node: a write that waits for a leader which nobody
    follows any more would keep it from asking that leader for a stale row.
    """

    def __init__(self, setting: Setting) -> None:
        self._loop = setting.loop
        self._name = setting.name
        self._net = setting.net
        self._addresses = setting.addresses
        self._random = setting.random
        self._checker = setting.checker
        self._trace = setting.trace
        self._is_reader = setting.is_reader
        self._serial = 0
        self._address = self._random.choice(self._addresses)
        self._revisions: dict[str, int] = {}

    async def run(self, is_over: Callable[[], bool], think_s: Callable[[], float] = lambda: THINK_S) -> None:
        """Send one request after the other until then, and think so long between two, in the mean."""
        random = self._random
        while not is_over():
            if not await self._choose()():
                self._address = random.choice(self._addresses)
                await asyncio.sleep(AFTER_FAILURE_S)
            elif self._is_reader:
                self._address = random.choice(self._addresses)
            await asyncio.sleep(random.expovariate(1 / think_s()))

    def _choose(self) -> Callable[[], Awaitable[bool]]:
        kind = self._random.random()
        if self._is_reader or kind < READ_SHARE:
            if self._random.random() < SCAN_SHARE:
                return self._scan
            return self._read_many if self._random.random() < BURST_SHARE else self._read
        return self._write_many if kind < READ_SHARE + BURST_SHARE else self._write

    async def _write(self) -> bool:
        operation, key = self._begin_write()
        try:
            index, outcome = await self._call("write", [operation.command])
        except NeumannError as error:
            return self._failed(operation, error)
        self._wrote(operation, key, index, outcome)
        return True

    async def _write_many(self) -> bool:
        """A burst that is sent at once, as a pipelining client does."""
        begun = [self._begin_write() for _ in range(self._random.randrange(2, WRITES_AT_ONCE_MAX))]
        try:
            answers = await self._call("writes", [[operation.command for operation, _ in begun]])
        except NeumannError as error:
            for operation, _ in begun:
                self._failed(operation, error)
            return False
        succeeded = True
        for (operation, key), (failure, result) in zip(begun, answers, strict=True):
            if failure is None:
                self._wrote(operation, key, *result)
            else:
                succeeded = self._failed(operation, rpc.error_from_wire(failure))
        return succeeded

    def _begin_write(self) -> tuple[Operation, str]:
        self._serial += 1
        text = f"write {self._name}/{self._serial} through {self._address}"
        key = f"k{self._random.randrange(KEY_COUNT)}"
        return self._checker.begin_write(text, self._command(key)), key

    def _wrote(self, operation: Operation, key: str, index: int, outcome: int) -> None:
        self._note(operation.text, index, outcome)
        self._checker.end_write(operation, index, outcome)
        self._revisions[key] = index

    def _command(self, key: str) -> bytes:
        """One of the kinds of writes, with this serial in it."""
        random, name = self._random, f"{self._name}-{self._serial}"
        value = command.pack_value([self._name, self._serial, "x" * random.randrange(200)])
        condition: tuple[object, ...] | None
        condition = random.choice(((1,), (2, self._revisions.get(key, 0)), (3, value)))
        match random.randrange(10):
            case 0 | 1:
                return command.encode_put(JOURNAL, name, value)
            case 2 | 3:
                return command.encode_put(TABLE, key, value, condition)
            case 4:
                deletes: _Row = (command.DELETE, TABLE, key, None, None)
                return command.encode_batch([deletes, (command.PUT, JOURNAL, name, None, value)])
            case 5:
                other = f"k{random.randrange(KEY_COUNT)}"
                rows: list[_Row] = [(command.CHECK, TABLE, key, condition, None)]
                rows += [(command.PUT, TABLE, row, None, value) for row in (other, key)]
                return command.encode_batch(rows)
        return command.encode_put(TABLE, key, value)

    async def _read_many(self) -> bool:
        """Reads that are under way at the same time."""
        reads = [self._read() for _ in range(self._random.randrange(2, READS_AT_ONCE_MAX))]
        return all(await asyncio.gather(*reads))

    async def _read(self) -> bool:
        key, is_stale = f"k{self._random.randrange(KEY_COUNT)}", self._random.random() < STALE_SHARE
        text = f"{'stale ' * is_stale}read of {key} by {self._name} through {self._address}"
        operation = self._checker.begin_read(text, is_stale)
        try:
            found = await self._call("get", [TABLE, key, is_stale])
        except _NOT_READ as error:
            self._note(text, type(error).__name__)
            return False
        row = (bytes(found[0]), int(found[1])) if found is not None else None
        self._note(text, row and row[1])
        self._checker.end_read(operation, (TABLE, key), row)
        if row is not None:
            self._revisions[key] = row[1]
        return True

    async def _scan(self) -> bool:
        is_reverse = self._random.random() < 0.5
        text = f"scan by {self._name} through {self._address}"
        operation = self._checker.begin_read(text, is_stale=False)
        try:
            rows, cursor = await self._call("scan", [TABLE, "", "", "", 1000, is_reverse, False])
        except _NOT_READ as error:
            self._note(text, type(error).__name__)
            return False
        assert cursor == "", "one page holds them all"
        keys = [row[0] for row in rows]
        require(keys == sorted(keys, reverse=is_reverse), f"{text}: not in order")
        self._note(text, *(row[2] for row in rows))
        self._checker.end_scan(operation, TABLE, {row[0]: int(row[2]) for row in rows})
        return True

    async def _call(self, method: str, params: list[object]) -> Any:
        return await self._net.call(self._address, method, params, TIMEOUT_S)

    def _failed(self, operation: Operation, error: NeumannError) -> bool:
        self._note(operation.text, type(error).__name__, error)
        if isinstance(error, _UNKNOWN):
            self._checker.end_unknown(operation)
        elif isinstance(error, _NOT_DONE):
            self._checker.end_refused(operation, str(error))
        else:
            raise error
        return False

    def _note(self, text: str, *fields: object) -> None:
        self._trace.note(self._loop.time(), "client", text, *fields)
