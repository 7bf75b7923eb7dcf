"""What a running member still asks its peers: whether it may serve (design section 6).

Once a start, whoever leads first asks whether another history of this cluster is served already, and
serves nothing until they answered: the formation guard. And a member without a leader asks whether the
others go on without it: nobody sends a message to one that was removed. Where either says no, `instead`
closes the member, and the node asks until it may run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from neumann.runtime.formation import Formation
from neumann.runtime.member import Member
from neumann.runtime.startup import Action, Answer, Decision, Found, was_removed

_WATCH_S = 1.0


class Guard:
    """One of each start. `look` whenever the member changed; `has_passed`: it may serve. `found_of` is the
    member's state as `decide` knows it; `on_passed` is called once a leader's peers have let it pass."""

    def __init__(
        self,
        formation: Formation,
        node_id: str,
        *,
        spawn: Callable[[Any], None],
        found_of: Callable[[Member], Found],
        decide: Callable[[dict[str, Answer], Found], Decision],
        instead: Callable[[Member, Decision], Awaitable[None]],
        on_passed: Callable[[], None],
    ) -> None:
        self.has_passed = not formation.peers
        self._formation = formation
        self._node_id = node_id
        self._spawn = spawn
        self._found_of = found_of
        self._decide = decide
        self._instead = instead
        self._on_passed = on_passed
        self._is_asking = False

    def look(self, member: Member) -> None:
        """Ask as the first leader; whoever follows one is served by it."""
        if self.has_passed or self._is_asking:
            return
        if member.raft.role == "leader":
            self._is_asking = True
            self._spawn(self._ask(member))
        elif member.raft.leader:
            self.has_passed = True

    async def _ask(self, member: Member) -> None:
        try:
            decision = self._decide(await self._formation.ask(), self._found_of(member))
            if decision.action is Action.RUN:
                self.has_passed = True
                self._on_passed()
            else:
                await self._instead(member, decision)
        finally:
            self._is_asking = False

    async def watch(self, member: Member, runs: Callable[[], bool]) -> None:
        """Ask while it runs and has no leader."""
        while runs():
            await asyncio.sleep(_WATCH_S)
            if not runs() or member.raft.leader or not self._formation.peers:
                continue
            answers = await self._formation.ask()
            removed = was_removed(self._found_of(member), self._node_id, answers)
            if removed is not None:
                await self._instead(member, removed)
