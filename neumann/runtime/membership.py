"""Who belongs to the cluster, as its leader sees to it: taking in, replacing, promoting (design section 6).

One change at a time, and only after an entry of the own term is committed (`configuration_pending`, kept by
the core). Looked at with each tick of a leader; nothing here is remembered beyond a leadership.

**A member that comes back with an empty disk.** Its node id is a voter's, its storage id is not: in the
configuration that voter is still the disk that is gone. The newcomer must first become as good as the old
one was, and only then take its place; until then the old disk, should it come back, is the voter. A
configuration with two members of one name would say so, but node ids are the names under which everything
from the core to a metric knows a member. It is not needed either: a member has one address, only one of its
two disks can live there, and whichever does is what the leader's messages reach. So the configuration stays
as it is, and the core serves *whoever answers there*; acknowledgements, rounds and votes of another storage
than the named one count for nothing (raft/progress.py, `counts`), which makes the newcomer a learner
without an entry saying so. When the old storage has been silent for SILENT_TIMEOUTS election timeouts, and
the newcomer has caught up, two entries follow each other: the voter becomes a learner with the new storage
(a voter is removed), and when that is committed, a voter (a voter is added), with `auto_promote` or
without. Each is a change of one server, so the thesis's argument (4.1) covers both; a server is a (node id,
storage id) in it. The first costs no availability: of n voters, one of them silent, n - 1 need as many to
agree as n do, or fewer. The configuration between the two names the member in `replaced`: whoever leads, and
whenever it has caught up, goes on from there.

**A member that gives its state up** closes first, then asks, and counts for nothing until its next start
(runtime/leaving.py): every change here stands on the word of members that answered this leadership.

A learner's place is taken at once: it has no vote. So is that of a member that `member-add` named and
nobody has seen yet: its storage id is empty.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from neumann.config import Config
from neumann.env import Clock
from neumann.errors import Unavailable
from neumann.format.ids import LEARNER, VOTER, Configuration, Member
from neumann.raft import Raft
from neumann.raft.quorum import majority, next_promotion
from neumann.runtime.peers import Peers, PeerState
from neumann.runtime.proposer import Proposer

log = logging.getLogger(__name__)

_SECOND_NS = 1_000_000_000


class Membership:
    """One leader's care for its members; `began` resets it with each leadership."""

    def __init__(self, config: Config, clock: Clock, raft: Raft, peers: Peers, proposer: Proposer) -> None:
        self._config = config
        self._clock = clock
        self._raft = raft
        self._peers = peers
        self._proposer = proposer
        self.began()

    def began(self) -> None:
        """This node became leader: nobody has been heard yet."""
        self._commits: deque[tuple[int, int]] = deque()
        self._lonely_since_ns: int | None = None
        self._peers.began()

    def look(self) -> None:
        """Propose the change that is due, if one is and none is on its way."""
        now = self._clock.monotonic_ns()
        self._note_commit(now)
        if self._raft.configuration_pending:
            self._lonely_since_ns = None
        elif not self._finish_replacement() and not self._begin_replacement(now):
            self._promote(now)

    # --- taking in -------------------------------------------------------------------------------

    async def announce(self, node_id: str, storage_id: bytes, address: str) -> dict[str, Any]:
        """A node without state wants to belong: `accepted` and the term, or why not in `text`.

        Where the configuration has to change for it, that is committed when this returns.
        """
        configuration = self._raft.configuration
        known = configuration.member(node_id)
        refused = self._refusal(known, node_id, storage_id, address)
        if refused:
            return {"accepted": False, "text": refused, "term": 0}
        wanted = Member(node_id, storage_id, address, LEARNER)
        if known is None or (known.role == LEARNER and known != wanted):
            await self._change(configuration.with_member(wanted))
            log.info("took in %s at %s as a learner", node_id, address)
        return {"accepted": True, "text": "", "term": self._raft.term}

    def _refusal(self, known: Member | None, node_id: str, storage_id: bytes, address: str) -> str:
        """Why this node is not taken in; "" if it is."""
        again = f"neumann-admin member-add {node_id}={address}"
        if node_id in self._raft.configuration.removed:
            return f"{node_id} was removed by an operator; {again} takes it in again"
        configured = self._config.node.peers.get(node_id)
        if known is None:
            listed = configured == address
            return "" if listed else f"the leader's `peers` have no {node_id} at {address}; {again} adds it"
        if known.address != address and not (known.role == LEARNER and configured == address):
            return f"{node_id} is a member at {known.address}, and this node is at {address}"
        if known.role == VOTER and known.storage_id != storage_id and not self._peers.is_silent(node_id):
            return (
                f"{node_id} is a voter with the storage {known.storage_id.hex()}, heard "
                f"{self._peers.silent_ns(node_id) / 1e9:.1f} s ago: its place is free once that has been "
                f"silent for {self._peers.silence_ns / 1e9:g} s"
            )
        return ""

    async def _change(self, configuration: Configuration) -> None:
        if self._raft.configuration_pending:
            raise Unavailable("another change of the membership is on its way", remedy="try again")
        await self._proposer.submit_change(configuration)

    # --- replacing -------------------------------------------------------------------------------

    def _begin_replacement(self, now_ns: int) -> bool:
        """The first entry: the place of a silent storage goes to the one that answers there."""
        configuration = self._raft.configuration
        for node_id, state in self._peers.successors.items():
            member = configuration.member(node_id)
            if member is None or (member.storage_id and not self._peers.is_silent(node_id)):
                continue
            if member.role == VOTER and not self._caught_up(node_id, state, now_ns):
                continue
            log.warning(
                "%s comes back with another disk: storage %s takes the place of %s",
                node_id,
                state.storage_id.hex(),
                member.storage_id.hex() or "none",
            )
            if member.role == VOTER:
                change = configuration.replacing(node_id, state.storage_id)
            else:
                change = configuration.with_member(member._replace(storage_id=state.storage_id))
            self._proposer.propose_now(change)
            return True
        return False

    def _finish_replacement(self) -> bool:
        """The second entry: the first is committed, and the successor votes. No operator took that vote, so
        none has to give it back."""
        configuration = self._raft.configuration
        for member in configuration.members:
            if member.node_id in configuration.replaced and self.has_caught_up(member.node_id):
                self._proposer.propose_now(configuration.with_member(member._replace(role=VOTER)))
                return True
        return False

    # --- promoting -------------------------------------------------------------------------------

    def _promote(self, now_ns: int) -> None:
        """Learners that have caught up become voters, in pairs."""
        configuration = self._raft.configuration
        caught_up = {n for n in configuration.learners if self.has_caught_up(n)}
        if not caught_up or not self._config.raft.auto_promote:
            self._lonely_since_ns = None
            return
        if self._lonely_since_ns is None:
            self._lonely_since_ns = now_ns
        promoted = next_promotion(configuration, caught_up, (now_ns - self._lonely_since_ns) // 1_000_000)
        if promoted and (member := configuration.member(promoted)):
            self._proposer.propose_now(configuration.with_member(member._replace(role=VOTER)))

    def has_caught_up(self, node_id: str) -> bool:
        """Whether this member has what was committed a second ago, and says so."""
        state = self._peers.states.get(node_id)
        return state is not None and self._caught_up(node_id, state, self._clock.monotonic_ns())

    def has_all(self, node_id: str) -> bool:
        """Whether this voter is up, and has on its disk everything that is committed."""
        raft = self._raft
        if node_id == raft.node_id:
            return raft.durable_index >= raft.commit_index
        return self.has_caught_up(node_id) and raft.progress[node_id].match_index >= raft.commit_index

    def spares(self) -> list[str]:
        """Members without which a majority of the voters is up and has caught up."""
        configuration = self._raft.configuration
        good = {v for v in configuration.voters if v == self._raft.node_id or self.has_caught_up(v)}
        needed = majority(len(configuration.voters))
        return [m.node_id for m in configuration.members if len(good - {m.node_id}) >= needed]

    def _caught_up(self, node_id: str, state: PeerState, now_ns: int) -> bool:
        progress = self._raft.progress.get(node_id)
        if progress is None or progress.incarnation is None or now_ns - state.heard_ns > _SECOND_NS:
            return False
        is_it = progress.incarnation.storage_id == state.storage_id
        return is_it and bool(self._commits) and progress.match_index >= self._commits[0][1]

    def _note_commit(self, now_ns: int) -> None:
        """Keep what was committed a second ago at the front."""
        seen = self._commits
        seen.append((now_ns, self._raft.commit_index))
        while len(seen) > 1 and seen[1][0] <= now_ns - _SECOND_NS:
            seen.popleft()
