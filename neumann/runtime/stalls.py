"""Notices a leader that does not get on: it abdicates (design section 6), so that one that does can lead.

Work that waits has a place; one that does not change for ten election timeouts is a stall. Slow work moves
on, and is none. Time is counted in ticks: a process that stood still as a whole has made none. A leader is
watched from the beginning of its term, so that one which stalls and is elected all the same, because nobody
else can be, has that long to bring the others up to date.

The member ticks it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from neumann.config import Config
from neumann.raft import Raft
from neumann.runtime.applier import BACKLOG_HOLDS_PROPOSALS, Applier
from neumann.runtime.core import TICK_MS
from neumann.runtime.durability import Durability
from neumann.runtime.peers import Peers
from neumann.runtime.space import SpaceWatch
from neumann.store.store import Store

_TIMEOUTS = 10


class Stalls:
    """What a leader of these parts waits for."""

    def __init__(
        self,
        config: Config,
        raft: Raft,
        durability: Durability,
        applier: Applier,
        store: Store,
        space: SpaceWatch,
        peers: Peers,
    ) -> None:
        self._limit_ticks = _TIMEOUTS * config.raft.election_timeout_ms // TICK_MS
        self._raft = raft
        self._durability = durability
        self._applier = applier
        self._store = store
        self._space = space
        self._peers = peers
        self._free_bytes_min = config.store.disk_free_bytes_min
        self._seen: dict[Callable[[], Hashable], tuple[Hashable, int]] = {}
        self._texts: dict[Callable[[], Hashable], str] = {
            self._writing: "its disk has not taken what it was given",
            self._applying: "it has not applied what is committed",
            self._flushing: "its snapshots have not got on while writes wait for them",
            self._being_full: "its disk is full, and a majority's are not",
        }

    def tick(self) -> str:
        """Why this leader has to abdicate now, or ""."""
        if self._raft.role != "leader" or len(self._raft.voters) < 2:
            self._seen.clear()
            return ""
        for place, text in self._texts.items():
            here = place()
            before, ticks = self._seen.get(place, (None, 0))
            ticks = ticks + 1 if here is not None and here == before else 0
            self._seen[place] = (here, ticks)
            if ticks > self._limit_ticks:
                return f"{text} for {_TIMEOUTS} election timeouts"
        return ""

    # The place of each kind of work; None where none waits.

    def _writing(self) -> int | None:
        return self._durability.batch

    def _applying(self) -> int | None:
        behind = self._applier.applied_index < self._raft.commit_index
        return self._applier.applied_index if behind else None

    def _flushing(self) -> int | None:
        held = self._store.backlog >= BACKLOG_HOLDS_PROPOSALS
        return self._store.manifest.point.index if held else None

    def _being_full(self) -> bool | None:
        if self._space.refusal is None:
            return None
        voters = self._raft.voters
        told = [self._peers.states[voter].status for voter in voters if voter in self._peers.states]
        roomy = sum(status.free_bytes >= self._free_bytes_min for status in told)
        return True if roomy > len(voters) // 2 else None
