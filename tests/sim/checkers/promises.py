"""What a node has promised to others survives its crashes: terms, votes and acknowledged frames.

Fed with the answers on the wire, which are the promises, and with what a node knows after each start:
its term is not below one it answered in, it does not vote twice in a term, and every frame that it said
is durable is there, unless a later leader made it cut that frame (raft paper, figure 2; R1, R16). Where
its log rotted it may lack some of them, and says so by a floor not below any (design section 4; R8).
"""

from __future__ import annotations

from neumann.format.message import AppendReply, Message, VoteReply
from neumann.raft.log import FrameLog
from tests.sim.checkers.violation import require


class Promises:
    """One per world."""

    def __init__(self) -> None:
        self._terms: dict[str, int] = {}
        self._votes: dict[tuple[str, int], tuple[str, bytes]] = {}
        self._matches: dict[str, dict[int, int]] = {}
        self._lost: dict[str, tuple[int, int]] = {}

    def answered(self, node_id: str, target: str, message: Message) -> None:
        """`node_id` sends this answer to `target`."""
        if isinstance(message, VoteReply) and not message.pre:
            self._promise_term(node_id, message.term)
            if message.granted:
                candidate = (target, message.candidate)
                known = self._votes.setdefault((node_id, message.term), candidate)
                require(
                    known == candidate, f"{node_id} votes for {known} and {candidate} in term {message.term}"
                )
        elif isinstance(message, AppendReply):
            self._promise_term(node_id, message.term)
            if message.ok:
                self._matches.setdefault(node_id, {})[message.match_index] = message.match_term

    def started(
        self,
        node_id: str,
        term: int,
        log: FrameLog,
        floor: tuple[int, int] = (0, 0),
        *,
        may_lose: bool = False,
    ) -> None:
        """What the node knows now, after a start. `may_lose`: its log may have rotted."""
        promised = self._terms.get(node_id, 0)
        require(term >= promised, f"{node_id} answered in term {promised} and starts in term {term}")
        matches, kept = self._matches.get(node_id, {}), self._kept(node_id, log)
        for index, match_term in sorted(matches.items()):
            if index > log.base.index and index not in kept:
                require(
                    may_lose,
                    f"{node_id} said that ({index}, {match_term}) is durable and starts with "
                    f"{log.end_at(index)} there",
                )
                self._lost[node_id] = max(self._lost.get(node_id, (0, 0)), (match_term, index))
        self._matches[node_id] = {i: t for i, t in kept.items() if i > log.base.index}
        self._check_floor(node_id, log, floor)

    def _check_floor(self, node_id: str, log: FrameLog, floor: tuple[int, int]) -> None:
        """Until its log reaches what was lost, or further, the floor is not below it."""
        lost, last = self._lost.get(node_id, (0, 0)), (log.last.term, log.last.index)
        require(
            max(floor, last) >= lost,
            f"{node_id} has lost {lost}, and starts with a log up to {last} and the floor {floor}",
        )
        if last >= lost:
            self._lost.pop(node_id, None)

    def torn(self, node_id: str) -> None:
        """Its log is damaged above the sync mark, where that can't be told from a torn batch: the residual
        window, in which what it said is durable may go without a word."""
        self._matches.pop(node_id, None)

    def truncated(self, node_id: str, log: FrameLog) -> None:
        """A leader made the node cut frames: what is no more in its log is no promise any more."""
        self._matches[node_id] = self._kept(node_id, log)

    def installed(self, node_id: str, before: FrameLog, log: FrameLog) -> None:
        """A leader's snapshot, the base of `log`, took the place of state with the log `before`.

        A log that conflicts with the snapshot is superseded; one that reaches it goes on behind it.
        """
        if before.end_at(log.base.index) != log.base:
            self._matches[node_id] = self._kept(node_id, log)

    def forgot(self, node_id: str) -> None:
        """Its disk is gone. Who comes back under its name is another voter (raft thesis 3.11.2)."""
        self._terms.pop(node_id, None)
        self._matches.pop(node_id, None)
        self._lost.pop(node_id, None)
        self._votes = {vote: target for vote, target in self._votes.items() if vote[0] != node_id}

    def _kept(self, node_id: str, log: FrameLog) -> dict[int, int]:
        matches = self._matches.get(node_id, {})
        return {
            index: match_term
            for index, match_term in matches.items()
            if (end := log.end_at(index)) is not None and end.term == match_term
        }

    def _promise_term(self, node_id: str, term: int) -> None:
        self._terms[node_id] = max(term, self._terms.get(node_id, 0))
