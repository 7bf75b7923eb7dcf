"""What a node has promised to others survives its crashes: terms, votes and acknowledged frames.

Fed with the answers on the wire, which are the promises, and with what a node knows after each start:
its term is not below one it answered in, it does not vote twice in a term, and every frame that it said
is durable is there, unless a later leader made it cut that frame (raft paper, figure 2; R1, R16).
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

    def started(self, node_id: str, term: int, log: FrameLog) -> None:
        """What the node knows now, after a start."""
        promised = self._terms.get(node_id, 0)
        require(term >= promised, f"{node_id} answered in term {promised} and starts in term {term}")
        matches = self._matches.get(node_id, {})
        for index, match_term in sorted(matches.items()):
            if index > log.base.index:
                end = log.end_at(index)
                require(
                    end is not None and end.term == match_term,
                    f"{node_id} said that ({index}, {match_term}) is durable and starts with {end} there",
                )
        self._matches[node_id] = {i: t for i, t in matches.items() if i > log.base.index}

    def damaged(self, node_id: str) -> None:
        """What the node said is durable may rot; its terms and votes are another file's."""
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
