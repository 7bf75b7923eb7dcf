"""Where the leader is: runs an operation there, on this node or over the network.

Waits a little for a leader to be found. What was surely not done is asked again; what may have been done
is not. What was sent to another node is done there or refused: methods that travel this way (`leader.*`,
`admin.*`) are never sent on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from neumann.errors import NeumannError, NotLeader, Unavailable
from neumann.runtime.host import Host
from neumann.runtime.member import Member

_LEADER_WAIT_S = 5.0
_LOOK_AGAIN_S = 0.02


class Leading:
    """One node's way to the leader."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def serving(self) -> tuple[bool, str, str]:
        """(serves, reason in one line, remedy)."""
        member = self._host.member
        if member is None:
            return False, self._host.decision.reason, self._host.decision.remedy
        if member.failure is not None:
            return False, str(member.failure), "see the node's log"
        if not member.raft.leader:
            return False, "no leader", "is a majority of the voters up and connected?"
        return True, "", ""

    def member(self) -> Member:
        """The running member; Unavailable says why there is none."""
        if self._host.member is None:
            raise self.not_serving()
        return self._host.member

    def not_serving(self) -> NeumannError:
        """The error of a request that came while this node has no member."""
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
        deadline = asyncio.get_running_loop().time() + leader_wait_s
        refused: NeumannError | None = None
        while True:
            member = self.member()
            if member.failure is not None:
                raise self.not_serving()
            if member.leads:
                try:
                    return await here(member)
                except NotLeader:
                    pass
            elif member.raft.role != "leader" and member.raft.leader:
                leader = member.raft.configuration.member(member.raft.leader)
                if leader is not None:
                    try:
                        return await self._host.env.net.call(leader.address, method, params, timeout_s)
                    except Unavailable as error:
                        if not isinstance(error, NotLeader):
                            if error.code != "unavailable":
                                raise
                            refused = error
            if asyncio.get_running_loop().time() >= deadline:
                if refused is not None:
                    raise refused
                raise Unavailable("no leader", remedy="is a majority of the voters up and connected?")
            await asyncio.sleep(_LOOK_AGAIN_S)
