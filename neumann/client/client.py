"""`Client`: a Store over the network.

It talks to the leader and finds the next one when the leader changes. Reads, and what was surely not
done, are asked again until `timeout_s`. A write goes in a session of the client's own, under a serial:
so it is sent again also where nobody knows whether it was done, and is done once (thesis 6.3). Only when
the time is over is it OutcomeUnknown.

What was refused before any try was left open is not done, and told at once: Paused, BackPressure, a full
disk. Behind such a try a refusal says nothing of it, and the client goes on asking.

The cluster id and the timeline are pinned at the first answer: another one later is TimelineChanged or
WrongHistory, and is not followed (design section 6).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

from neumann.client.link import Link
from neumann.client.rows import Check, Delete, Put, Row, batch_of, condition
from neumann.client.session import Session
from neumann.config import LimitsConfig, split_address
from neumann.errors import BadInput, NeumannError, OutcomeUnknown, Paused, Unavailable
from neumann.format import command, rpc
from neumann.format.command import Command
from neumann.machine.outcome import Outcome, index_of
from neumann.query.statement import Params, QueryResult

_DIAL_TIMEOUT_S = 2.0
_TRY_S = 2.0
"""How long one try of a write waits for its answer: a machine that died tells nobody."""
_AGAIN_S = 0.05
_NOT_DONE = ("unavailable", "not_leader")
"""Refusals that pass when another node leads; what is not here a caller has to decide."""
_PAGE_ROWS = 1000
_WAIT_S = 10.0
_GRACE_S = 5.0


class Client:
    """A Store over the network. Made by `neumann.connect`; connects at first use."""

    def __init__(self, addresses: Sequence[str], timeout_s: float = _WAIT_S) -> None:
        if not addresses:
            raise BadInput("no address to connect to", remedy='neumann.connect("host:7878,host:7878")')
        for address in addresses:
            split_address(address)
        self._addresses = list(addresses)
        self._timeout_s = timeout_s
        self._link: Link | None = None
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._retired: list[Link] = []
        self._connecting = asyncio.Lock()
        self._query_timeout_s = LimitsConfig().query_timeout_s
        self.cluster_id: bytes | None = None
        self.timeline: str | None = None

    async def __aenter__(self) -> Self:
        """Waits for a leader to be found where somebody of the cluster answers; else fails at once."""
        deadline = self._deadline()
        while True:
            try:
                await self._leader()
                return self
            except Unavailable:
                is_alive = self.cluster_id is not None
                if not is_alive or asyncio.get_running_loop().time() + _AGAIN_S >= deadline:
                    raise
            await asyncio.sleep(_AGAIN_S)

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
        return await self._write(command.put(table, key, command.pack_value(value), wanted))

    async def delete(self, table: str, key: str, *, if_revision: int | None = None) -> int:
        return await self._write(command.delete(table, key, condition(False, if_revision)))

    async def batch(self, operations: Sequence[Put | Delete | Check]) -> int:
        return await self._write(batch_of(operations))

    async def write(self, raw: bytes) -> int:
        """Commit one encoded command (format/command.py), with or without a session in it; its index."""
        plain = command.decode(raw)
        if plain[4] or plain[5]:
            (index, outcome), _ = await self._until_known(raw, self._deadline())
            return index_of(index, outcome)
        return await self._write(plain)

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

    # --- writes ----------------------------------------------------------------------------------

    async def _write(self, plain: Command) -> int:
        """Commit it in this client's session. Where that had been forgotten before the command was sent,
        nothing was done, and it goes into a new one."""
        deadline = self._deadline()
        head, value = plain[:4], plain[6]
        while True:
            session, serial = await self._serial(deadline)
            try:
                raw = command.encode((*head, session.id, serial, value))
                (index, outcome), was_open = await self._until_known(raw, deadline)
            finally:
                session.end(serial)
            if outcome == Outcome.SESSION_EXPIRED and self._session is session:
                self._session = None
            if outcome != Outcome.SESSION_EXPIRED or was_open:
                return index_of(index, outcome)

    async def _serial(self, deadline: float) -> tuple[Session, int]:
        """A serial of the client's session, which is opened if there is none."""
        try:
            async with asyncio.timeout_at(deadline):
                session = self._session or await self._open_session()
                return session, await session.take()
        except TimeoutError:
            raise Unavailable(f"no session was open within {self._timeout_s:g} s; nothing was sent") from None

    async def _open_session(self) -> Session:
        async with self._opening:
            if self._session is None:
                index, outcome = await self._call("write", (command.encode_open(),), repeatable=True)
                self._session = Session(index_of(index, outcome))
            return self._session

    async def _until_known(self, raw: bytes, deadline: float) -> tuple[tuple[int, int], bool]:
        """Send a command with a session until its (index, outcome) is told; and whether it may be that of
        an earlier try."""
        loop = asyncio.get_running_loop()
        is_open = False
        while True:
            link = None
            try:
                async with asyncio.timeout_at(min(deadline, loop.time() + _TRY_S)):
                    link = await self._leader()
                    index, outcome = await link.call("write", (raw,))
                    return (index, outcome), is_open
            except TimeoutError:
                is_open = is_open or link is not None
                error: NeumannError = Unavailable(f"no answer to a write within {self._timeout_s:g} s")
            except (Unavailable, OutcomeUnknown, Paused) as caught:
                error = caught
                is_open = is_open or isinstance(caught, OutcomeUnknown)
                if not is_open and caught.code not in _NOT_DONE:
                    raise
            if link is not None:
                self._leave(link)  # its machine may be dead, which nobody tells
            if loop.time() + _AGAIN_S >= deadline:
                if not is_open:
                    raise error
                raise OutcomeUnknown(
                    f"the outcome of a write was not told within {self._timeout_s:g} s: {error.message}",
                    remedy="read the row to see whether it took effect",
                )
            await asyncio.sleep(_AGAIN_S)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s

    # --- the way to the leader -------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        params: Sequence[object],
        timeout_s: float | None = None,
        *,
        repeatable: bool = False,
    ) -> Any:
        """Ask the leader. What was surely not done is asked again; reads, and whatever else is repeatable,
        also when the link broke."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = asyncio.get_running_loop().time() + limit_s
        repeatable = repeatable or method in ("get", "scan", "query", "tables", "status")
        while True:
            link = None
            try:
                async with asyncio.timeout_at(deadline):
                    link = await self._leader()
                    return await link.call(method, params)
            except TimeoutError:
                may_be_done = link is not None and not repeatable
                if link is not None:
                    self._leave(link)  # its machine may be dead, which nobody tells
                text = f"no answer to {method} within {limit_s:g} s"
                raise (OutcomeUnknown if may_be_done else Unavailable)(text) from None
            except (Unavailable, OutcomeUnknown) as error:
                may_be_done = isinstance(error, OutcomeUnknown) and not repeatable
                is_told = error.code not in (*_NOT_DONE, "outcome_unknown")
                if may_be_done or is_told or asyncio.get_running_loop().time() + _AGAIN_S >= deadline:
                    raise
                if link is not None:
                    self._leave(link)
                await asyncio.sleep(_AGAIN_S)

    def _leave(self, link: Link) -> None:
        """Look for the leader anew; other calls may be waiting for this link's answers."""
        if self._link is link:
            self._link = None
        link.retire()
        self._retired = [one for one in (*self._retired, link) if one.transport is not None]

    async def _leader(self) -> Link:
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

    async def _try(self, address: str, reasons: list[str]) -> Link | None:
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

    async def _hello(self, address: str, reasons: list[str]) -> tuple[Link, dict[str, Any]] | None:
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        link = Link()
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
