"""SQL on a node: one statement at a time, in a lane, over one view (query/).

A linearizable query waits for a barrier first. A query that waits for another one holds no view yet, and
its time runs all the same. Who no longer waits for an answer, and a node that stops, ends the query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from neumann.config import LimitsConfig
from neumann.env import Clock, Lane
from neumann.errors import BackPressure, BadInput, TooLarge, Unavailable
from neumann.query import statement
from neumann.query.statement import Params, QueryResult
from neumann.runtime.member import Member


class Queries:
    """One node's statements."""

    def __init__(
        self,
        limits: LimitsConfig,
        clock: Clock,
        lane: Lane,
        member: Callable[[], Member],
        barrier: Callable[[float], Awaitable[int]],
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._lane = lane
        self._member = member
        self._barrier = barrier
        self._one_at_a_time = asyncio.Lock()
        self._running: _Watch | None = None

    async def run(
        self, sql: str, params: Params, stale: bool, rows_max: int | None, timeout_s: float | None
    ) -> QueryResult:
        """See Node.query."""
        most = self._limits.query_rows_max
        rows_max = most if rows_max is None else rows_max
        if not 0 < rows_max <= most:
            raise BadInput(f"rows_max {rows_max}", remedy=f"1 to {most}, which is limits.query_rows_max")
        limit_s = min(timeout_s or self._limits.query_timeout_s, self._limits.query_timeout_s)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        try:
            async with asyncio.timeout_at(deadline):
                await self._one_at_a_time.acquire()
        except TimeoutError:
            raise BackPressure(
                f"other queries ran for {limit_s:g} s before this one", remedy="try again"
            ) from None
        watch = self._running = _Watch(self._clock, deadline - loop.time(), limit_s)
        try:
            if not stale:
                await self._barrier(limit_s)
            member = self._member()
            view, index = member.store.view(), member.applier.applied_index
            result: QueryResult = await member.repair.reading(
                lambda: self._lane.run(
                    lambda: statement.run(view, index, sql, params, rows_max=rows_max, check=watch.check)
                )
            )
            return result
        finally:
            watch.given_up = True
            self._one_at_a_time.release()

    def give_up(self) -> None:
        """The node stops: end what runs."""
        if self._running is not None:
            self._running.given_up = True

    def close(self) -> None:
        """End the lane."""
        self._lane.close()


class _Watch:
    """Looked at in the lane; `given_up` is set on the loop."""

    def __init__(self, clock: Clock, left_s: float, limit_s: float) -> None:
        self.given_up = False
        self._clock = clock
        self._end_ns = clock.monotonic_ns() + int(left_s * 1e9)
        self._limit_s = limit_s

    def check(self) -> None:
        """TooLarge when the time is over."""
        if self.given_up:
            raise Unavailable("the query was ended: nobody waits for it, or the node stops")
        if self._clock.monotonic_ns() > self._end_ns:
            raise TooLarge(
                f"the query takes longer than {self._limit_s:g} s",
                remedy="a narrower range of keys, or a higher limits.query_timeout_s",
            )
