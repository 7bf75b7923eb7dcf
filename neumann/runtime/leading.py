"""Where the leader is: runs an operation there, on this node or over the network.

Waits a little for a leader to be found; however many operations wait, one timer looks. What was surely not
done is asked again; what may have been done is not. What was sent to another node is done there or refused:
methods that travel this way (`leader.*`, `admin.*`) are never sent on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from neumann.errors import NeumannError, NotLeader, Unavailable
from neumann.recovery.formation import LOST_MAJORITY
from neumann.runtime.host import Host
from neumann.runtime.member import Member

_LEADER_WAIT_S = 5.0
_LOOK_AGAIN_S = 0.02


class Leading:
    """One node's way to the leader."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    def serving(self) -> tuple[bool, str, str]:
        """(serves, reason in one line, remedy)."""
        member = self._host.member
        if member is None:
            return False, self._host.decision.reason, self._host.decision.remedy
        if member.failure is not None:
            return False, str(member.failure), "see the node's log"
        if not member.raft.leader:
            return False, "no leader", f"is a majority of the voters up and connected? {LOST_MAJORITY}"
        return True, "", ""

    def member(self) -> Member:
        """The running member; Unavailable says why there is none, or what has ended it: it shows nothing."""
        member = self._host.member
        if member is None or member.failure is not None:
            raise self.not_serving()
        return member

    def not_serving(self) -> NeumannError:
        """The error of a request that came while this node has no member that runs."""
        _, reason, remedy = self.serving()
        return Unavailable(f"this node does not serve: {reason}", remedy=remedy)

    async def run(
        self,
        here: Callable[[Member], Awaitable[Any]],
        method: str,
        params: list[object],
        timeout_s: float,
        leader_wait_s: float = _LEADER_WAIT_S,
    ) -> Any:
        """Run it here if this node leads, else on the leader; wait a little for one to be found."""
        deadline_s = asyncio.get_running_loop().time() + leader_wait_s
        refused: NeumannError | None = None
        while True:
            member = self.member()
            if member.leads:
                try:
                    return await here(member)
                except NotLeader:
                    pass
            elif address := member.leader_elsewhere:
                try:
                    return await self._host.env.net.call(address, method, params, timeout_s)
                except Unavailable as error:
                    if not isinstance(error, NotLeader):
                        if error.code != "unavailable":
                            raise
                        refused = error
            if asyncio.get_running_loop().time() >= deadline_s:
                if refused is not None:
                    raise refused
                raise Unavailable("no leader", remedy="is a majority of the voters up and connected?")
            await self._look_again(deadline_s)

    def _look_again(self, deadline_s: float) -> asyncio.Future[None]:
        """Done a moment later, when it may be worth a try, or the time is over."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(_LOOK_AGAIN_S, self._look)
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append((deadline_s, waiter))
        return waiter

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s, is_worth_it = loop.time(), self._is_worth_a_try()
        waiting, self._waiting = self._waiting, []
        for deadline_s, waiter in waiting:
            if waiter.done():
                continue
            if is_worth_it or now_s >= deadline_s:
                waiter.set_result(None)
            else:
                self._waiting.append((deadline_s, waiter))
        if self._waiting:
            loop.call_later(_LOOK_AGAIN_S, self._look)

    def _is_worth_a_try(self) -> bool:
        """There is somebody to ask, or nobody here to wait any longer."""
        member = self._host.member
        if member is None or member.failure is not None or member.leads:
            return True
        return bool(member.leader_elsewhere)
