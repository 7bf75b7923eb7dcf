"""Elections: timers, pre-votes and votes (raft paper 5.2 and 5.4, thesis 4.2.3 and 9.6).

* A pre-vote changes nothing on either side; only its winner enters a new term.
* A voter that heard from a leader within the shortest election timeout answers no request, except in a
  leadership transfer (so a node that was cut off disturbs nobody when it comes back).
* A vote binds to the candidate's node id and storage id: a disk that comes back after its node was
  replaced is another candidate of the same name. A candidate need not be in the voter's configuration
  (thesis 4.2.2), but it counts only the votes of those that its own names.
* A vote is given only once in a term and only to a log at least as far as the own, and at least as far
  as the floor; it leaves only when durable. A candidate asks, and counts itself, only when its own
  vote is durable: what it says of its log then survives a crash, and leadership begins with a durable
  term (R15).
"""

from __future__ import annotations

from neumann.format.ids import NOBODY, Candidate
from neumann.format.message import VoteReply, VoteRequest
from neumann.raft import quorum
from neumann.raft.config import Random
from neumann.raft.quorum import Vote
from neumann.raft.state import Role, State


class Election:
    """The timer, and the votes of the election that this node stands in."""

    __slots__ = ("_elapsed_ticks", "_granted", "_random", "_refused", "_state", "_timeout_ticks")

    def __init__(self, state: State, random: Random) -> None:
        self._state = state
        self._random = random
        self._granted: set[str] = set()
        self._refused: set[str] = set()
        self.restart_timer()

    def heard_leader(self) -> None:
        """Wait again, as long as was drawn."""
        self._elapsed_ticks = 0

    def restart_timer(self) -> None:
        """A vote was given, or a role began: wait again, for another time."""
        ticks = self._state.config.election_ticks
        self._elapsed_ticks = 0
        self._timeout_ticks = self._random.randrange(ticks, 2 * ticks)

    def tick(self) -> bool:
        """One tick of a node that doesn't lead. True when it has waited long enough for a leader; a
        sole voter has nobody to wait for."""
        self._elapsed_ticks += 1
        if self._elapsed_ticks >= self._timeout_ticks:
            return True
        return self._state.is_sole_voter and self._state.role is Role.FOLLOWER

    def may_campaign(self) -> bool:
        """Only a voter with a vote record, whose log has reached its floor."""
        state = self._state
        return state.is_voter and state.can_vote and state.floor == (0, 0) and not state.diverged

    def in_lease(self) -> bool:
        """Whether a living leader is known, so that nobody else is wanted."""
        state = self._state
        if state.role is Role.LEADER:
            return True
        return state.leader != "" and self._elapsed_ticks < state.config.election_ticks

    def ask(self, pre: bool, transfer: bool = False) -> Vote:
        """Ask all voters. The role and, unless `pre`, the new term are set already."""
        state = self._state
        last = state.log.last
        self._granted.clear()
        self._refused.clear()
        self.restart_timer()
        request = VoteRequest(state.term + pre, last.index, last.term, pre, transfer)
        for voter in state.memberships.voters:
            if voter != state.node_id:
                (state.send if pre else state.send_after_sync)(voter, request)
        return self.count(state.node_id, True) if pre else Vote.PENDING

    def count(self, voter: str, granted: bool) -> Vote:
        """One answer. Never won without the own vote."""
        state = self._state
        if voter not in self._granted | self._refused:
            (self._granted if granted else self._refused).add(voter)
        result = quorum.vote_result(state.memberships.voters, self._granted, self._refused)
        if result is Vote.WON and state.node_id not in self._granted:
            return Vote.PENDING
        return result

    def answer(self, candidate: Candidate, request: VoteRequest) -> None:
        """Give or refuse the vote. A real request's term is not above the own any more."""
        state = self._state
        node_id, storage_id = candidate
        free = state.voted_for == candidate or (state.voted_for == NOBODY and state.leader == "")
        ahead = request.pre and request.term > state.term
        granted = request.term >= state.term and (free or ahead) and self._far_enough(request)
        if request.pre:
            term = request.term if granted else state.term
            state.answer(node_id, VoteReply(term, granted, True, storage_id))
            return
        if granted:
            state.set_vote(state.term, candidate)
            self.restart_timer()
        state.send_after_sync(node_id, VoteReply(state.term, granted, False, storage_id))

    def _far_enough(self, request: VoteRequest) -> bool:
        last = self._state.log.last
        needed = max((last.term, last.index), self._state.floor)
        return (request.last_term, request.last_index) >= needed
