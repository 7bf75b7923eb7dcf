"""The clients of a run: registers that all share, a journal of rows that are written once, all recorded.

Three ways to ask: one request at a time through any node, bursts that are pipelined through any node, and
the public client, which finds the leader. No request is sent twice; each value is written once. Registers
are new ones every few seconds, so that each has a history of bounded length.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Protocol

import neumann
from neumann.env.net import RealNet
from neumann.errors import NeumannError, OutcomeUnknown, Paused, StorageFailed, Unavailable
from neumann.format import command
from neumann.machine.outcome import Outcome
from tests.history.record import DELETE, GET, INSERT, PUT, REPLACE, Recorder

REGISTERS, JOURNAL = "registers", "journal"
TABLES = (REGISTERS, JOURNAL)
_REGISTER_COUNT = 16
_REGISTERS_LIVE_S = 10.0
_TIMEOUT_S = 3.0
_THINK_S = 0.03
_AFTER_FAILURE_S = 0.2
_BURST_MAX = 30
_PADDING_MAX = 300
_NOT_DONE = (Unavailable, Paused)
_UNKNOWN = (OutcomeUnknown, StorageFailed)


class Tally:
    """What all clients of a run saw: when writes were acknowledged, and errors that nobody expects."""

    def __init__(self) -> None:
        self.began_ns = self.acknowledged_ns = time.monotonic_ns()
        self.acknowledged = 0
        self.longest_gap_ns = 0
        self.longest_gap_at_ns = 0
        self.surprises: list[str] = []

    def acknowledge(self, now_ns: int) -> None:
        """A write was acknowledged: until then nobody's was since the one before."""
        self.acknowledged += 1
        if now_ns - self.acknowledged_ns > self.longest_gap_ns:
            self.longest_gap_ns, self.longest_gap_at_ns = now_ns - self.acknowledged_ns, self.acknowledged_ns
        self.acknowledged_ns = now_ns


class Way(Protocol):
    """How a client asks. Both raise NeumannError. `node` is for the record."""

    def choose(self, random: Random) -> str:
        """Another node, by chance or by rule; its name."""
        ...

    async def write(self, raw: bytes) -> tuple[int, int]:
        """(index, Outcome)."""
        ...

    async def get(self, table: str, key: str) -> tuple[Any, int] | None:
        """(value, revision)."""
        ...

    async def close(self) -> None: ...


class AnyNode:
    """Requests to one node after the other, on the connection that peers use among themselves too."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses
        self._net = RealNet()
        self._node = next(iter(addresses))

    def choose(self, random: Random) -> str:
        self._node = random.choice(list(self._addresses))
        return self._node

    async def write(self, raw: bytes) -> tuple[int, int]:
        index, outcome = await self._call("write", [raw])
        return index, outcome

    async def get(self, table: str, key: str) -> tuple[Any, int] | None:
        found = await self._call("get", [table, key, False])
        return (command.unpack_value(found[0]), found[1]) if found is not None else None

    async def close(self) -> None:
        await self._net.close()

    async def _call(self, method: str, params: list[object]) -> Any:
        return await self._net.call(self._addresses[self._node], method, params, _TIMEOUT_S)


class Leader:
    """The public client. It does not tell at which index a condition failed: it is asked for none."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._client = neumann.connect(",".join(addresses.values()), timeout_s=_TIMEOUT_S)

    def choose(self, random: Random) -> str:
        return "leader"

    async def write(self, raw: bytes) -> tuple[int, int]:
        return await self._client.write(raw), Outcome.APPLIED

    async def get(self, table: str, key: str) -> tuple[Any, int] | None:
        row = await self._client.get(table, key)
        return (row.value, row.revision) if row is not None else None

    async def close(self) -> None:
        await self._client.close()


class Client:
    """One of them. `burst` requests at most are under way at once."""

    def __init__(
        self, name: str, way: Way, random: Random, recorder: Recorder, tally: Tally, *, burst: int = 1
    ) -> None:
        self._name = name
        self._way = way
        self._random = random
        self._recorder = recorder
        self._tally = tally
        self._burst = burst
        self._conditions = not isinstance(way, Leader)
        self._serial = 0
        self._node = way.choose(random)
        self._revisions: dict[str, int] = {}

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Ask until then."""
        is_served = True
        try:
            while not is_over():
                count = self._random.randrange(1, self._burst + 1) if is_served else 1
                answers = await asyncio.gather(*(self._operate() for _ in range(count)))
                is_served = all(answers)
                if not is_served:
                    self._node = self._way.choose(self._random)
                    await asyncio.sleep(_AFTER_FAILURE_S)
                elif self._random.random() < 0.1:
                    self._node = self._way.choose(self._random)
                await asyncio.sleep(self._random.expovariate(1 / _THINK_S))
        finally:
            await self._way.close()

    async def _operate(self) -> bool:
        """One operation; False where it was not answered as wished."""
        random = self._random
        self._serial += 1
        value = f"{self._name}-{self._serial}"
        generation = (time.monotonic_ns() - self._tally.began_ns) // int(_REGISTERS_LIVE_S * 1e9)
        key = f"{generation}/{random.randrange(_REGISTER_COUNT)}"
        kind = random.choices((GET, PUT, REPLACE, INSERT, DELETE, JOURNAL), (25, 30, 14, 8, 8, 15))[0]
        if kind == GET:
            return await self._get(key)
        if kind == JOURNAL:
            kind = INSERT if self._conditions else PUT
            return await self._write(kind, JOURNAL, value, value)
        if kind == DELETE:
            return await self._write(DELETE, REGISTERS, key, "")
        return await self._write(kind if self._conditions else PUT, REGISTERS, key, value)

    async def _write(self, kind: str, table: str, key: str, value: str) -> bool:
        condition: tuple[object, ...] | None = None
        if_revision = self._revisions.get(key, 1) if kind == REPLACE else 0
        if kind == INSERT:
            condition = (command.ABSENT,)
        elif kind == REPLACE:
            condition = (command.REVISION, if_revision)
        if kind == DELETE:
            raw = command.encode_delete(table, key, None)
        else:
            packed = command.pack_value([value, "x" * self._random.randrange(_PADDING_MAX)])
            raw = command.encode_put(table, key, packed, condition)
        number = self._recorder.invoke(
            time.monotonic_ns(), self._name, self._node, kind, f"{table}/{key}", value, if_revision
        )
        try:
            index, outcome = await self._way.write(raw)
        except NeumannError as error:
            return self._failed(number, error)
        now_ns = time.monotonic_ns()
        match Outcome(outcome):
            case Outcome.APPLIED:
                self._recorder.ok(number, now_ns, index)
                self._tally.acknowledge(now_ns)
                self._revisions[key] = index
            case Outcome.CONDITION_FAILED:
                self._recorder.condition_failed(number, now_ns, index)
            case other:
                self._recorder.refused(number, now_ns, other.name)
        return True

    async def _get(self, key: str) -> bool:
        number = self._recorder.invoke(time.monotonic_ns(), self._name, self._node, GET, f"{REGISTERS}/{key}")
        try:
            found = await self._way.get(REGISTERS, key)
        except NeumannError as error:
            return self._failed(number, error)
        value, revision = found if found is not None else ([""], 0)
        self._recorder.ok(number, time.monotonic_ns(), revision, value[0])
        if revision:
            self._revisions[key] = revision
        return True

    def _failed(self, number: int, error: NeumannError) -> bool:
        text = f"{error.code}: {error.message}"
        if isinstance(error, _NOT_DONE):
            self._recorder.refused(number, time.monotonic_ns(), text)
        else:
            self._recorder.unknown(number, time.monotonic_ns(), text)
        if not isinstance(error, _NOT_DONE + _UNKNOWN):
            self._tally.surprises.append(text)
        return False


def make_clients(
    addresses: Mapping[str, str], random: Random, recorder: Recorder, tally: Tally
) -> list[Client]:
    """Four that wait for each answer, four that pipeline, two that follow the leader."""

    def client(number: int, way: Way, burst: int) -> Client:
        own = Random(random.getrandbits(64))
        return Client(f"c{number}", way, own, recorder, tally, burst=burst)

    return [
        *(client(number, AnyNode(addresses), 1) for number in range(1, 5)),
        *(client(number, AnyNode(addresses), _BURST_MAX) for number in range(5, 9)),
        client(9, Leader(addresses), 1),
        client(10, Leader(addresses), _BURST_MAX),
    ]
