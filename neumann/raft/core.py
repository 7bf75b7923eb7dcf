"""Raft as a pure state machine: the one class that an embedder talks to (see the package's docstring).

Inputs change the state and collect outputs; `ready` hands the outputs over. Nothing here reads a clock,
draws randomness of its own, or does I/O. Every change of role is made in this file, nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from neumann.format.frame import Frame
from neumann.format.ids import NOBODY, Candidate, Configuration, Incarnation, LogPoint
from neumann.format.message import (
    Append,
    AppendReply,
    Message,
    SnapshotOffer,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from neumann.raft.config import RaftConfig, Random, Restored
from neumann.raft.election import Election
from neumann.raft.following import Following
from neumann.raft.log import FrameLog
from neumann.raft.progress import Progress
from neumann.raft.quorum import Vote
from neumann.raft.ready import Ready
from neumann.raft.replication import Leadership
from neumann.raft.state import Role, State

_NO_PROGRESS: Mapping[str, Progress] = MappingProxyType({})


class Raft:
    """One node's part in the consensus."""

    def __init__(self, config: RaftConfig, restored: Restored, random: Random) -> None:
        self._state = State(config, restored)
        self._election = Election(self._state, random)
        self._following = Following(self._state)
        self._leadership: Leadership | None = None
        self._told_commit_index = restored.commit_index
        self._told_role = self._role_now()
        self.left_because = ""

    # What can be asked.

    @property
    def node_id(self) -> str:
        """This node."""
        return self._state.node_id

    @property
    def role(self) -> Role:
        """Equal to "follower", "precandidate", "candidate" or "leader"."""
        return self._state.role

    @property
    def term(self) -> int:
        """The current term."""
        return self._state.term

    @property
    def voted_for(self) -> Candidate:
        """Who has this node's vote in the current term; NOBODY for nobody."""
        return self._state.voted_for

    @property
    def leader(self) -> str:
        """The leader of the current term where it is known and was heard lately, or ""."""
        return self._state.leader

    @property
    def commit_index(self) -> int:
        """Everything up to here is committed."""
        return self._state.commit_index

    @property
    def applied_index(self) -> int:
        """What the embedder said it applied."""
        return self._state.applied_index

    @property
    def durable_index(self) -> int:
        """The local log is known to be durable up to here, at least."""
        return self._state.durable_index

    @property
    def last(self) -> LogPoint:
        """The end of the local log."""
        return self._state.log.last

    @property
    def log(self) -> FrameLog:
        """The local log's frame ends; read only."""
        return self._state.log

    @property
    def configuration(self) -> Configuration:
        """The newest configuration in the log, in force from its append."""
        return self._state.memberships.configuration

    @property
    def voters(self) -> tuple[str, ...]:
        """Its voters' node ids, in order."""
        return self._state.memberships.voters

    @property
    def configuration_index(self) -> int:
        """The index of its entry."""
        return self._state.memberships.index

    def configuration_at(self, index: int) -> Configuration:
        """The configuration in force at `index`, not before the log's base."""
        return self._state.memberships.at(index)

    @property
    def configuration_pending(self) -> bool:
        """Whether a configuration can't be proposed now, by a leader or at all."""
        return self._leadership is None or self._leadership.configuration_pending

    @property
    def progress(self) -> Mapping[str, Progress]:
        """Of every other member, while this node leads; read only."""
        return self._leadership.progress if self._leadership else _NO_PROGRESS

    @property
    def transferring(self) -> str:
        """Whom leadership is being handed to, or "". Meanwhile nothing may be proposed."""
        return self._leadership.transferring if self._leadership else ""

    @property
    def own_term_committed(self) -> bool:
        """Whether this node leads and has committed an entry of its term."""
        return self._leadership is not None and self._leadership.own_term_committed

    @property
    def is_voter(self) -> bool:
        """Whether the configuration in force counts this node's vote."""
        return self._state.is_voter

    @property
    def can_vote(self) -> bool:
        """Whether this node has a vote record (R10)."""
        return self._state.can_vote

    @property
    def floor(self) -> tuple[int, int]:
        """(term, index) that the log must reach again before this node campaigns; (0, 0): none."""
        return self._state.floor

    @property
    def diverged(self) -> str:
        """Why this node has stopped for good, or ""."""
        return self._state.diverged

    # Inputs.

    def tick(self) -> None:
        """`config.tick_ms` have passed."""
        if self._state.diverged:
            return
        if self._leadership is None:
            if self._election.tick():
                if self._election.may_campaign():
                    self._campaign(pre=True)
                else:
                    self._follow(self._state.term, "", "")
                    self._election.restart_timer()
        elif not self._leadership.tick():
            self._follow(self._state.term, "", "no answer from a majority in an election timeout")

    def step(self, sender: str, message: Message, incarnation: Incarnation) -> None:
        """A message from `sender`, a node id; `incarnation` is who exactly sent it."""
        if self._state.diverged or sender == self._state.node_id:
            return
        if isinstance(message, AppendReply):
            self._on_append_reply(sender, message, incarnation)
        elif isinstance(message, Append | SnapshotOffer):
            self._on_leader(sender, message)
        elif isinstance(message, VoteRequest):
            self._on_vote_request(Candidate(sender, incarnation.storage_id), message)
        elif isinstance(message, VoteReply):
            self._on_vote_reply(sender, message, incarnation)
        else:
            self._on_timeout_now(sender, message)

    def propose(self, frame: Frame) -> None:
        """Append a frame. Only on a leader that is not handing over; the frame continues the log."""
        assert self._leadership is not None, "only a leader proposes"
        self._leadership.propose(frame)

    def persisted(self, index: int, term: int, truncations: int) -> None:
        """The own log is durable up to the end of the frame (index, term) that a Ready with these
        `truncations` handed out. Ignored if something was cut since."""
        if self._state.persisted(index, term, truncations) and self._leadership is not None:
            self._leadership.advance_commit()
            self._resign_if_removed()

    def vote_persisted(self, term: int, voted_for: Candidate) -> None:
        """`Ready.vote` is durable. A candidate's vote for itself counts from now on."""
        state = self._state
        state.durable_vote = (term, voted_for)
        state.can_vote = True
        if state.role is Role.CANDIDATE and state.vote_durable:
            self._judge(self._election.count(state.node_id, True))

    def applied(self, index: int) -> None:
        """Everything up to `index` has been applied."""
        assert self._state.applied_index <= index <= self._state.commit_index
        self._state.applied_index = index

    def read_index(self, token: int) -> bool:
        """Ask for a point at which a read is linearizable; it comes in `Ready.reads`, or the token in
        `Ready.lost_reads`. False if this node doesn't lead."""
        if self._leadership is None:
            return False
        self._leadership.read(token)
        return True

    def installed(self, point: LogPoint, configuration: Configuration) -> None:
        """A fetched snapshot stands in place of store and log, durably. The log goes on behind
        `point`; what the own log has behind exactly that frame end is kept."""
        state = self._state
        assert self._leadership is None
        if point.index <= state.log.base.index:
            return
        if state.log.end_at(point.index) == point:
            state.log.drop_before(point)
            state.memberships.drop_before(point.index)
            state.durable_index = max(state.durable_index, point.index)
        else:
            if point.index <= state.commit_index:
                self.diverge(f"the snapshot at {point} contradicts what is committed here")
                return
            state.log.reset(point)
            state.memberships.reset(point.index, configuration)
            state.durable_index = point.index
            state.outbox.restart(point.index)
        if point.term > state.term:  # a later leader's, before that leader was heard
            self._follow(point.term, "", "")
        state.commit(point.index)
        state.applied_index = max(state.applied_index, point.index)
        state.snapshot = max(state.snapshot, point)
        state.lift_floor()
        if state.leader:
            state.answer(state.leader, AppendReply(state.term, True, point.index, point.term, 0))

    def compact_to(self, point: LogPoint) -> None:
        """The log up to `point`, a frame end that is applied and in a durable snapshot, is gone."""
        state = self._state
        assert point.index <= state.applied_index
        if point.index > state.log.base.index:
            state.log.drop_before(point)
            state.memberships.drop_before(point.index)
            state.durable_index = max(state.durable_index, point.index)

    def snapshot_published(self, point: LogPoint) -> None:
        """The newest snapshot that others may fetch here; it is offered to whom the log can't help."""
        assert point.index <= self._state.commit_index
        self._state.snapshot = max(self._state.snapshot, point)

    def transfer_to(self, node_id: str) -> None:
        """Hand leadership to this voter; given up after an election timeout."""
        assert self._leadership is not None
        self._leadership.transfer_to(node_id)

    def leaves(self, node_id: str, incarnation: Incarnation) -> None:
        """This start of a member, or an earlier one, has said its last: it may give its state up. What it
        acknowledged counts no more in this leadership, however late it comes; its next start's does."""
        if self._leadership is not None:
            self._leadership.leaves(node_id, incarnation)

    def step_down(self, reason: str) -> None:
        """Stop leading at once, and let the voter that has most of the log campaign."""
        if self._leadership is not None:
            self._leadership.abdicate()
            self._follow(self._state.term, "", reason)

    def report_unreachable(self, node_id: str) -> None:
        """Messages to this member were lost."""
        if self._leadership is not None:
            self._leadership.unreachable(node_id)

    def diverge(self, reason: str) -> None:
        """The embedder found this node's data different from the others' (R5): stop for good."""
        self._state.diverge(reason)
        if self._leadership is not None:
            self._follow(self._state.term, "", reason)

    def ready(self) -> Ready | None:
        """Everything to be done since the last call, or None."""
        state = self._state
        if self._leadership is not None:
            self._leadership.flush()
        role = self._role_now()
        role_changed = role != self._told_role
        committed = state.commit_index != self._told_commit_index
        self._told_role = role
        self._told_commit_index = state.commit_index
        return state.outbox.take(state.commit_index, committed, role_changed)

    # Messages.

    def _on_append_reply(self, sender: str, reply: AppendReply, incarnation: Incarnation) -> None:
        if reply.term > self._state.term:
            self._follow(reply.term, "", f"{sender} is in the later term {reply.term}")
        elif reply.term == self._state.term and self._leadership is not None:
            self._leadership.on_reply(sender, reply, incarnation)
            self._resign_if_removed()

    def _on_leader(self, sender: str, message: Append | SnapshotOffer) -> None:
        state = self._state
        if message.term < state.term:
            self._following.reject_stale(sender, message)
            return
        if message.term == state.term and (state.leader or sender) != sender:
            self.diverge(f"{state.leader} and {sender} both lead term {state.term}")
            return
        if message.term > state.term or state.role is not Role.FOLLOWER or state.leader != sender:
            self._follow(message.term, sender, f"{sender} leads term {message.term}")
        self._election.heard_leader()
        if isinstance(message, Append):
            self._following.on_append(sender, message)
        else:
            self._following.on_offer(sender, message)

    def _on_vote_request(self, candidate: Candidate, request: VoteRequest) -> None:
        state = self._state
        if not state.can_vote:
            return
        if request.term > state.term:
            if self._election.in_lease() and not request.transfer:
                return
            if not request.pre:
                self._follow(request.term, "", f"{candidate.node_id} campaigns in term {request.term}")
        self._election.answer(candidate, request)

    def _on_vote_reply(self, sender: str, reply: VoteReply, incarnation: Incarnation) -> None:
        state = self._state
        named = state.memberships.storages.get(sender) == incarnation.storage_id
        if not named or reply.candidate != state.candidate.storage_id:
            return
        if reply.pre and reply.granted:
            if state.role is Role.PRECANDIDATE and reply.term == state.term + 1:
                self._judge(self._election.count(sender, True))
        elif reply.term > state.term:
            self._follow(reply.term, "", f"{sender} is in the later term {reply.term}")
        elif reply.term == state.term:
            standing = Role.PRECANDIDATE if reply.pre else Role.CANDIDATE
            if state.role is standing:
                self._judge(self._election.count(sender, reply.granted))

    def _on_timeout_now(self, sender: str, message: TimeoutNow) -> None:
        state = self._state
        if (message.term, sender) == (state.term, state.leader) and self._election.may_campaign():
            self._campaign(pre=False, transfer=True)

    # Roles.

    def _campaign(self, pre: bool, transfer: bool = False) -> None:
        state = self._state
        assert self._leadership is None
        state.leader = ""
        if pre:
            state.role = Role.PRECANDIDATE
        else:
            state.role = Role.CANDIDATE
            state.set_vote(state.term + 1, state.candidate)
        self._judge(self._election.ask(pre, transfer))

    def _judge(self, result: Vote) -> None:
        if result is Vote.LOST:
            self._follow(self._state.term, "", "")
        elif result is Vote.WON and self._state.role is Role.PRECANDIDATE:
            self._campaign(pre=False)
        elif result is Vote.WON:
            self._lead()

    def _lead(self) -> None:
        state = self._state
        assert state.role is Role.CANDIDATE and state.durable_vote == (state.term, state.candidate)
        state.role = Role.LEADER
        state.leader = state.node_id
        self._leadership = Leadership(state)

    def _follow(self, term: int, leader: str, why: str) -> None:
        """Become (or stay) a follower, of `leader` where it is known."""
        state = self._state
        if self._leadership is not None:
            state.outbox.lost_reads += self._leadership.abandon()
            self._leadership = None
            self.left_because = why
        if term > state.term:
            state.set_vote(term, NOBODY)
        if state.role is not Role.FOLLOWER:
            self._election.restart_timer()
        state.role = Role.FOLLOWER
        state.leader = leader
        self._following.new_leader()

    def _resign_if_removed(self) -> None:
        """A leader that is no voter any more leads until that is committed (thesis 4.2.2)."""
        state = self._state
        committed = state.memberships.index <= state.commit_index
        if self._leadership is not None and committed and not state.is_voter:
            self._leadership.abdicate()
            self._follow(state.term, "", "this node is no voter any more")

    def _role_now(self) -> tuple[Role, int, str]:
        return self._state.role, self._state.term, self._state.leader
