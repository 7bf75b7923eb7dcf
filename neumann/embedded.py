"""The store inside your own process: `async with neumann.open("data") as db: ...`.

One node, the same code and the same guarantees as a server: a write is on disk when `put` returns, a
snapshot can be taken and the directory can be served, backed up and restored with the same tools. It
listens on no port, so it is a cluster of one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Self

from neumann.client import Check, Delete, Put, Row, batch_of, condition
from neumann.config import Config
from neumann.env import real_env
from neumann.errors import Unavailable
from neumann.format import command
from neumann.machine.outcome import index_of
from neumann.query.statement import Params, QueryResult
from neumann.runtime.node import Node

NODE_ID = "embedded"
_PAGE_ROWS = 1000


class EmbeddedStore:
    """A client.Store in this process. Made by `neumann.open`."""

    def __init__(self, path: str, config: Config | None = None) -> None:
        config = config or Config()
        own = config.node
        self._config = replace(config, node=replace(own, id=own.id or NODE_ID, data_dir=path, peers={}))
        self._node: Node | None = None

    async def __aenter__(self) -> Self:
        self._node = await Node.start(self._config, real_env(), bootstrap=True)
        try:
            await self._node.barrier()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """An orderly end; everything acknowledged is on disk already."""
        node, self._node = self._node, None
        if node is not None:
            await node.stop()

    @property
    def node(self) -> Node:
        """The node itself; Unavailable when the store is not open."""
        if self._node is None:
            raise Unavailable("this store is not open", remedy='use "async with neumann.open(path) as db:"')
        return self._node

    async def get(self, table: str, key: str, *, stale: bool = False) -> Row | None:
        found = await self.node.get(table, key, stale)
        if found is None or found[0] is None:
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
        return await self.write(command.encode(batch_of(operations)))

    async def write(self, raw: bytes) -> int:
        """Commit one encoded command (format/command.py); its index."""
        return index_of(*await self.node.write(raw))

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
            rows, cursor = await self.node.scan(
                table, start=start, stop=stop, prefix=prefix, limit=count, reverse=reverse, stale=stale
            )
            for key, packed, revision, time_ns in rows:
                yield Row(table, key, command.unpack_value(packed), revision, time_ns)
            if not cursor:
                return
            start, stop = (start, cursor) if reverse else (cursor, stop)
            left = None if left is None else left - len(rows)

    async def query(
        self, sql: str, params: Params = (), *, stale: bool = False, rows_max: int | None = None
    ) -> QueryResult:
        return await self.node.query(sql, params, stale=stale, rows_max=rows_max)

    async def snapshot(self) -> dict[str, Any]:
        return await self.node.snapshot()

    async def restore_point(self, name: str) -> dict[str, Any]:
        return await self.node.restore_point(name)
