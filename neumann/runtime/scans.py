"""Reads of many rows at one index: scans, the list of tables, exact counts and the content digest.

A linearizable scan waits for a barrier first; then one immutable view is read in a lane, so that the
loop goes on and the rows are those of one moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import accumulate
from typing import Any, NamedTuple

from neumann.env import Lane
from neumann.errors import BadInput
from neumann.format.command import SEPARATOR, prefix_end, row_key, split_row_key, table_end
from neumann.format.times import time_text
from neumann.runtime.member import Member
from neumann.runtime.sinks import Version

_LIMIT_MAX = 10_000
_PAGE_BYTES_AIM = 8 * 1024 * 1024
"""A page is an answer of one piece (limits.RPC_MESSAGE_BYTES_MAX)."""


class ScanPage(NamedTuple):
    """rows: (key, packed value, revision, time_ns); cursor: where the next page begins, "" at the end."""

    rows: list[tuple[str, bytes, int, int]]
    cursor: str


class Scans:
    """One node's reads of many rows."""

    def __init__(
        self, lane: Lane, member: Callable[[], Member], barrier: Callable[[], Awaitable[int]]
    ) -> None:
        self._lane = lane
        self._member = member
        self._barrier = barrier
        self._counted: tuple[int, int, bytes] | None = None

    async def page(
        self, table: str, start: str, stop: str, prefix: str, limit: int, reverse: bool, stale: bool
    ) -> ScanPage:
        """See Node.scan. `start` is inclusive, `stop` exclusive; both hold for reverse scans too."""
        if not table or SEPARATOR in table:
            raise BadInput(f"{table!r} is no table name")
        if not 0 < limit <= _LIMIT_MAX:
            raise BadInput(f"limit {limit}", remedy=f"1 to {_LIMIT_MAX}; use the cursor for more")
        low = row_key(table, max(start, prefix))
        high = _upper(table, stop, prefix)
        view = await self._view(stale)
        rows = await self._read(lambda: view.scan(low, high, limit + 1, reverse, _PAGE_BYTES_AIM))
        count = min(limit, _fitting(rows))
        found = [(split_row_key(row)[1], v[0], v[1], v[2]) for row, v in rows[:count]]
        cursor = ""
        if len(rows) > count:
            cursor = found[-1][0] if reverse else split_row_key(rows[count][0])[1]
        return ScanPage(found, cursor)

    async def tables(self, stale: bool) -> list[str]:
        """Names of the tables that hold a row: one seek a table."""
        view = await self._view(stale)
        return list(await self._read(view.tables))

    async def count(self) -> tuple[int, bytes]:
        """(live rows, content digest) of this node's state now; kept until something is applied."""
        member = self._member()
        index = member.applier.applied_index
        if self._counted is None or self._counted[0] != index:
            view = member.store.view()
            rows, digest = await self._read(lambda: (view.count(), view.content_digest()))
            self._counted = (index, rows, digest)
        return self._counted[1], self._counted[2]

    async def stats(self) -> dict[str, Any]:
        """Exact numbers of this node, linearizable."""
        await self._barrier()
        member = self._member()
        index, time_ns = member.applier.applied_index, member.applier.state.time_ns
        rows, digest = await self.count()
        return {
            "total_entries": rows,
            "index": index,
            "time": time_text(time_ns) if time_ns else None,
            "content_digest": digest.hex(),
            "last_log_index": member.raft.last.index,
            "snapshot_index": member.manifest.point.index,
            "tables": len(member.manifest.tables),
            "store_bytes": member.store.disk_bytes,
            "wal_bytes": member.wal.disk_bytes,
            "node_id": member.identity.node_id,
        }

    @property
    def counted_rows(self) -> int | None:
        """The newest count of live rows, if there was one."""
        return self._counted[1] if self._counted is not None else None

    def close(self) -> None:
        """End the lane."""
        self._lane.close()

    async def _read(self, work: Callable[[], Any]) -> Any:
        """In the lane; damage that is met is mended first, if a peer can."""
        return await self._member().repair.reading(lambda: self._lane.run(work))

    async def _view(self, stale: bool) -> Any:
        if not stale:
            await self._barrier()
        return self._member().store.view()


def _fitting(rows: list[tuple[str, Version]]) -> int:
    """How many of the rows one page takes: the first, and those that keep it below its aim."""
    ends = accumulate(len(version[0] or b"") for _, version in rows)
    return max(1, sum(end <= _PAGE_BYTES_AIM for end in ends))


def _upper(table: str, stop: str, prefix: str) -> str:
    """The exclusive end of the range in row addresses."""
    ends = [row_key(table, stop)] if stop else []
    if behind := prefix_end(prefix):
        ends.append(row_key(table, behind))
    return min(ends) if ends else table_end(table)
