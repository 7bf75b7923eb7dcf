"""A client of a cluster, over RPC: `async with neumann.connect("h1:7878,h2:7878") as db: ...`.

It talks to the leader and finds the next one when the leader changes. What was surely not done is tried
again until `timeout_s`; what may have been done raises OutcomeUnknown and is never repeated by itself.
The cluster id and the timeline are pinned at the first answer: another one later is TimelineChanged or
WrongHistory, and is not followed (design section 6).

`Row` and the packing of conditions and values are shared with the embedded store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, cast

import msgpack

from neumann.config import LimitsConfig, split_address
from neumann.errors import (
    BadInput,
    NeumannError,
    OutcomeUnknown,
    Unavailable,
)
from neumann.format import command, rpc
from neumann.machine.outcome import index_of
from neumann.query.statement import Params, QueryResult

_DIAL_TIMEOUT_S = 2.0
_AGAIN_S = 0.05
_PAGE_ROWS = 1000
_WAIT_S = 10.0
_GRACE_S = 5.0


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


def encode_operations(operations: Sequence[Put | Delete | Check]) -> bytes:
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
    return command.encode_batch(plain)


class _Link(asyncio.Protocol):
    """One connection: requests go out as they come, answers find their futures."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._unpacker = rpc.new_unpacker()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._outbox: list[bytes] = []
        self._next_id = 1
        self._is_retired = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._fail(OutcomeUnknown("the connection broke before the answer came"))

    def _fail(self, error: NeumannError) -> None:
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(error)

    def data_received(self, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
            for _, call_id, error, result in self._unpacker:
                future = self._calls.pop(call_id, None)
                if future is None or future.done():
                    continue
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(rpc.error_from_wire(error))
            if self._is_retired and not self._calls:
                self.close()
        except (ValueError, TypeError, msgpack.UnpackException):
            self._fail(OutcomeUnknown("the server sent what is no MessagePack-RPC"))
            self.close()

    def call(self, method: str, params: Sequence[object]) -> asyncio.Future[Any]:
        """Ask; all requests of one turn of the loop leave in one write."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self.transport is None:
            future.set_exception(Unavailable("not connected"))
            return future
        call_id, self._next_id = self._next_id, self._next_id + 1
        self._calls[call_id] = future
        if not self._outbox:
            loop.call_soon(self._flush)
        self._outbox.append(rpc.pack((rpc.REQUEST, call_id, method, params)))
        return future

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if self.transport is not None:
            self.transport.write(b"".join(outbox))

    def retire(self) -> None:
        """Close it when what was asked has been answered; nothing new is asked here."""
        self._is_retired = True
        if not self._calls:
            self.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Client:
    """A Store over the network. Made by `neumann.connect`; connects at first use."""

    def __init__(self, addresses: Sequence[str], timeout_s: float = _WAIT_S) -> None:
        if not addresses:
            raise BadInput("no address to connect to", remedy='neumann.connect("host:7878,host:7878")')
        for address in addresses:
            split_address(address)
        self._addresses = list(addresses)
        self._timeout_s = timeout_s
        self._link: _Link | None = None
        self._retired: list[_Link] = []
        self._connecting = asyncio.Lock()
        self._query_timeout_s = LimitsConfig().query_timeout_s
        self.cluster_id: bytes | None = None
        self.timeline: str | None = None

    async def __aenter__(self) -> Self:
        await self._leader()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        for link in (self._link, *self._retired):
            if link is not None:
                link.close()
        self._link, self._retired = None, []

    async def get(self, table: str, key: str, *, stale: bool = False) -> Row | None:
        found = await self._call("get", (table, key, stale))
        if found is None:
            return None
        return Row(table, key, command.unpack_value(found[0]), found[1], found[2])

    async def put(
        self,
        table: str,
        key: str,
        value: Any,
        *,
        if_absent: bool = False,
        if_revision: int | None = None,
    ) -> int:
        wanted = condition(if_absent, if_revision)
        return await self.write(command.encode_put(table, key, command.pack_value(value), wanted))

    async def delete(self, table: str, key: str, *, if_revision: int | None = None) -> int:
        return await self.write(command.encode_delete(table, key, condition(False, if_revision)))

    async def batch(self, operations: Sequence[Put | Delete | Check]) -> int:
        return await self.write(encode_operations(operations))

    async def write(self, raw: bytes) -> int:
        """Commit one encoded command (format/command.py); its index."""
        index, outcome = await self._call("write", (raw,))
        return index_of(index, outcome)

    async def scan(
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
        left = limit
        while left is None or left > 0:
            count = _PAGE_ROWS if left is None else min(left, _PAGE_ROWS)
            rows, cursor = await self._call("scan", (table, start, stop, prefix, count, reverse, stale))
            for key, packed, revision, time_ns in rows:
                yield Row(table, key, command.unpack_value(packed), revision, time_ns)
            if not cursor:
                return
            start, stop = (start, cursor) if reverse else (cursor, stop)
            left = None if left is None else left - len(rows)

    async def query(
        self, sql: str, params: Params = (), *, stale: bool = False, rows_max: int | None = None
    ) -> QueryResult:
        given = params if isinstance(params, Mapping) else tuple(params)
        timeout_s = max(self._timeout_s, self._query_timeout_s + _GRACE_S)
        answer = await self._call("query", (sql, given, stale, rows_max), timeout_s=timeout_s)
        return QueryResult(list(answer[0]), list(answer[1]), answer[2])

    async def tables(self, *, stale: bool = False) -> list[str]:
        """Names of the tables that hold a row."""
        return list(await self._call("tables", (stale,)))

    async def status(self) -> dict[str, Any]:
        """What /admin/status tells."""
        return dict(await self._call("status", ()))

    async def snapshot(self) -> dict[str, Any]:
        return dict(await self._call("admin.snapshot", ({"timeout_s": 60.0},), timeout_s=65.0))

    async def restore_point(self, name: str) -> dict[str, Any]:
        return dict(await self._call("admin.restore_point", ({"name": name},)))

    # --- the way to the leader -------------------------------------------------------------------

    async def _call(self, method: str, params: Sequence[object], timeout_s: float | None = None) -> Any:
        """Ask the leader. What was surely not done is asked again; reads also when the link broke."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = asyncio.get_running_loop().time() + limit_s
        is_read = method in ("get", "scan", "query", "tables", "status")
        while True:
            link = None
            try:
                async with asyncio.timeout_at(deadline):
                    link = await self._leader()
                    return await link.call(method, params)
            except TimeoutError:
                may_be_done = link is not None and not is_read
                if link is not None:
                    self._leave(link)  # its machine may be dead, which nobody tells
                text = f"no answer to {method} within {limit_s:g} s"
                raise (OutcomeUnknown if may_be_done else Unavailable)(text) from None
            except (Unavailable, OutcomeUnknown) as error:
                may_be_done = isinstance(error, OutcomeUnknown) and not is_read
                is_told = error.code not in ("unavailable", "not_leader", "outcome_unknown")
                if may_be_done or is_told or asyncio.get_running_loop().time() + _AGAIN_S >= deadline:
                    raise
                if link is not None:
                    self._leave(link)
                await asyncio.sleep(_AGAIN_S)

    def _leave(self, link: _Link) -> None:
        """Look for the leader anew; other calls may be waiting for this link's answers."""
        if self._link is link:
            self._link = None
        link.retire()
        self._retired = [one for one in (*self._retired, link) if one.transport is not None]

    async def _leader(self) -> _Link:
        if self._link is not None and self._link.transport is not None:
            return self._link
        async with self._connecting:
            if self._link is not None and self._link.transport is not None:
                return self._link
            reasons: list[str] = []
            for address in list(self._addresses):
                link = await self._try(address, reasons)
                if link is not None:
                    self._link = link
                    return link
        raise Unavailable("no leader found: " + "; ".join(reasons), remedy="is a majority running?")

    async def _try(self, address: str, reasons: list[str]) -> _Link | None:
        """A link to the leader that this address knows; None, with the reason, if it knows none."""
        hello = await self._hello(address, reasons)
        if hello is None:
            return None
        link, said = hello
        if said["leader"] == said["node_id"]:
            return link
        link.close()
        leader = said["members"].get(said["leader"])
        if leader is None:
            reasons.append(f"{address} knows no leader")
            return None
        if leader not in self._addresses:
            self._addresses.append(leader)
        hello = await self._hello(leader, reasons)
        if hello is None:
            return None
        link, said = hello
        if said["leader"] == said["node_id"]:
            return link
        link.close()
        reasons.append(f"{leader} leads no more")
        return None

    async def _hello(self, address: str, reasons: list[str]) -> tuple[_Link, dict[str, Any]] | None:
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        link = _Link()
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT_S):
                await loop.create_connection(lambda: link, host, port)
                asked = (rpc.PROTOCOL_VERSION, None, self.cluster_id, self.timeline)
                said = await link.call("hello", asked)
        except BaseException as error:
            link.close()
            if isinstance(error, OSError | TimeoutError | Unavailable | OutcomeUnknown):
                text = error.message if isinstance(error, NeumannError) else str(error) or "no answer"
                reasons.append(f"{address}: {text}")
                return None
            raise
        self.cluster_id, self.timeline = said["cluster_id"], said["timeline"]
        self._query_timeout_s = said["limits"]["query_timeout_s"]
        return link, said
