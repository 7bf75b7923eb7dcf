"""What one node holds in any role: term and vote, log, membership, how far all is durable.

`Raft` (core.py) makes every change of role; election, following and replication work on this state.
Invariants (checked by invariants.py): applied_index <= commit_index <= log.last.index;
durable_index <= log.last.index; term, and commit_index, never fall; one vote in a term.
"""

from __future__ import annotations

from enum import StrEnum

from neumann.format.frame import Frame
from neumann.format.ids import NOBODY, Candidate, LogPoint
from neumann.format.message import Message
from neumann.raft.config import RaftConfig, Restored
from neumann.raft.membership import Memberships
from neumann.raft.ready import Outbox


class Role(StrEnum):
    """What the node is in its term."""

    FOLLOWER = "follower"
    PRECANDIDATE = "precandidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class State:
    """Shared by the parts of one core; nothing outside of raft/ changes it."""

    def __init__(self, config: RaftConfig, restored: Restored) -> None:
        log = restored.log
        assert log.base.index <= restored.commit_index <= log.last.index
        assert restored.applied_index <= restored.commit_index
        self.config = config
        self.node_id = config.node_id
        self.candidate = Candidate(config.node_id, config.storage_id)
        self.term = restored.term
        self.voted_for = restored.voted_for
        self.role = Role.FOLLOWER
        self.leader = ""
        self.log = log
        self.memberships = Memberships(self.candidate, restored.configuration_index, restored.configuration)
        for index, configuration in restored.later_configurations:
            self.memberships.append(index, configuration)
        self.commit_index = restored.commit_index
        self.applied_index = restored.applied_index
        self.durable_index = log.last.index
        self.durable_vote = (self.term, self.voted_for)
        self.floor = restored.floor
        self.can_vote = restored.can_vote
        self.snapshot = log.base
        self.diverged = ""
        self.outbox = Outbox(log.last.index)
        if self.term < log.last.term:  # of one batch, the frames reached the disk and the vote did not
            self.set_vote(log.last.term, NOBODY)
        self.lift_floor()

    @property
    def is_voter(self) -> bool:
        """Whether the configuration in force names this node, with this storage, as a voter."""
        return self.memberships.is_voter

    @property
    def is_sole_voter(self) -> bool:
        """Whether this node alone is the majority."""
        return self.is_voter and len(self.memberships.voters) == 1

    @property
    def vote_durable(self) -> bool:
        """Whether a crash now would remember term and vote."""
        return self.durable_vote == (self.term, self.voted_for)

    @property
    def durable_point(self) -> LogPoint:
        """The last frame end that a crash now would surely keep."""
        point = self.log.end_at(self.durable_index)
        assert point is not None
        return point

    def set_vote(self, term: int, voted_for: Candidate) -> None:
        """Enter `term`, or give this term's vote; it is out only once it is durable."""
        assert term > self.term or (term == self.term and self.voted_for in (NOBODY, voted_for))
        if (term, voted_for) != (self.term, self.voted_for):
            self.term = term
            self.voted_for = voted_for
            self.outbox.vote = (term, voted_for)

    def send(self, receiver: str, message: Message) -> None:
        """Send now: nothing in it needs to be durable first, or all of it is."""
        self.outbox.messages.append((receiver, message))

    def answer(self, receiver: str, message: Message) -> None:
        """Send as soon as the term that the answer names is durable."""
        (self.send if self.vote_durable else self.send_after_sync)(receiver, message)

    def send_after_sync(self, receiver: str, message: Message) -> None:
        """Send once the vote and the log, as they are now, are durable."""
        self.outbox.messages_after_sync.append((receiver, message))

    def append(self, frame: Frame) -> None:
        """Add a frame to the log; a configuration in it is in force from here on."""
        self.log.append(frame.header)
        self.memberships.append_frame(frame)
        self.outbox.frames.append(frame)

    def truncate_after(self, index: int) -> None:
        """Cut what a leader of a later term contradicts; never what is committed."""
        assert self.commit_index <= index < self.log.last.index
        self.log.truncate_after(index)
        self.memberships.truncate_after(index)
        self.outbox.truncate(index)
        self.durable_index = min(self.durable_index, index)

    def commit(self, index: int) -> None:
        """Everything up to `index`, a frame end, is committed. Never falls."""
        if index > self.commit_index:
            assert self.log.end_at(index) is not None
            self.commit_index = index

    def persisted(self, index: int, term: int, truncations: int) -> bool:
        """The log, as it was when a Ready named these `truncations`, is durable up to the frame end
        (index, term). False if that tells nothing.

        It counts unless something was cut since. A frame that was cut may have come back, the same to the
        last bit: then it is being written again, and the report is of the first time (reference bug 29). If
        nothing was cut the log has only grown, and holds that very frame, of whichever term it is.
        """
        if truncations != self.outbox.truncations or index <= self.durable_index:
            return False
        point = self.log.end_at(index)
        assert point is not None and point.term == term, "a frame that was handed out"
        self.durable_index = index
        self.lift_floor()
        return True

    def lift_floor(self) -> None:
        """Forget the floor once the durable log reaches it (design section 4)."""
        if self.floor != (0, 0):
            point = self.durable_point
            if (point.term, point.index) >= self.floor:
                self.floor = (0, 0)

    def diverge(self, text: str) -> None:
        """Stop for good: this log can't be told from a wrong one, and nothing of it is cut (R5)."""
        if not self.diverged:
            self.diverged = text
            self.outbox.diverged = text
