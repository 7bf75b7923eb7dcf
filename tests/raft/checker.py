"""What must hold between all nodes after every step (raft paper, figure 3), and what may be said.

* election safety: one leader in a term;
* log matching: one chain value for an (index, term), which names everything before it too;
* leader completeness: a new leader has every point that was ever committed;
* state machine safety: all nodes commit the same points;
* a vote, once granted, is durable and the only one of that voter in that term; an acknowledged frame is
  durable; what a leader commits is durable on a majority of its voters;
* what a core takes for durable is, whenever the node crashes, and is all that its disk was told of;
* a read's index is not below what was committed anywhere when the read was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from neumann.format.ids import NOBODY, Candidate, LogPoint
from neumann.format.message import AppendReply, Message, VoteReply
from neumann.raft import Raft, Ready, invariants, quorum

if TYPE_CHECKING:
    from tests.raft.harness import Node, World


class Checker:
    """Remembers what was ever true of the cluster."""

    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}
        self.chains: dict[tuple[int, int], int] = {}
        self.committed: dict[int, LogPoint] = {}
        self.commit_index = 0
        self.commit_seen: dict[str, int] = {}
        self.asked: dict[int, int] = {}
        self.votes: dict[tuple[int, bytes], Candidate] = {}
        self.seen: dict[str, invariants.Moment] = {}
        self.damaged = False
        self.commits = 0
        self.reads = 0

    def started(self, core: Raft) -> None:
        """A core begins anew: it may know less of the commit index than before."""
        self.commit_seen[core.node_id] = core.commit_index
        self.seen.pop(core.node_id, None)
        invariants.check(core)

    @contextmanager
    def watching(self, core: Raft) -> Iterator[None]:
        """Around one input."""
        before = self.seen.get(core.node_id) or invariants.observe(core)
        yield
        invariants.check(core)
        now = self.seen[core.node_id] = invariants.observe(core)
        invariants.check_step(before, now)

    def after_ready(self, world: World, core: Raft, ready: Ready) -> None:
        """The core handed something out."""
        assert not core.diverged, f"{core.node_id} diverged: {core.diverged}"
        for frame in ready.frames:
            end = frame.header.end
            assert self.chains.setdefault((end.index, end.term), end.chain) == end.chain
        if core.role == "leader":
            known = self.leaders.setdefault(core.term, core.node_id)
            assert known == core.node_id, f"{known} and {core.node_id} lead term {core.term}"
            if ready.role_changed:
                self._check_complete(core)
        self._check_commit(world, core)
        for token, index in ready.reads:
            self.reads += 1
            assert index >= self.asked.pop(token), "a stale read"

    def _check_complete(self, core: Raft) -> None:
        for index, point in self.committed.items():
            if point.term < core.term and index >= core.log.base.index:
                found = core.log.end_at(index)
                assert found == point, f"leader {core.node_id} lacks the committed {point}"

    def _check_commit(self, world: World, core: Raft) -> None:
        index = core.commit_index
        seen = self.commit_seen[core.node_id]
        if index == seen:
            return
        self.commit_seen[core.node_id] = index
        while index > max(seen, core.log.base.index):
            point = core.log.end_at(index)
            assert point is not None, "the commit index is a frame end"
            known = self.committed.setdefault(index, point)
            assert known == point, f"{core.node_id} commits {point}, another one {known}"
            index = core.log.previous_end(index).index
        if core.commit_index > self.commit_index:
            self.commits += 1
            self.commit_index = core.commit_index
            if core.role == "leader" and not self.damaged:
                self._check_majority(world, core)

    def _check_majority(self, world: World, core: Raft) -> None:
        point = core.log.end_at(core.commit_index)
        assert point is not None and point.term == core.term, "only the own term is counted"
        voters = core.configuration.voters
        named = {m.node_id: m.storage_id for m in core.configuration.members}
        disks = {v: world.nodes[v].disk for v in voters if world.nodes[v].disk.storage_id == named[v]}
        holders = [v for v, disk in disks.items() if disk.holds(point.index, point.term)]
        assert len(holders) >= quorum.majority(len(voters)), f"{point} is durable on {holders} only"

    def durable(self, node: Node) -> None:
        """After an input, what the core takes for durable: neither too much nor too little."""
        core = node.up
        point = core.log.end_at(core.durable_index)
        assert point is not None and node.disk.holds(point.index, point.term)
        cuts = [ready.truncate_after for ready in node.pending if ready.truncate_after is not None]
        assert point.index <= min(cuts, default=point.index), f"{node.name}: {point} is about to be cut"
        assert node.pending or point == core.last, f"{node.name}: all is durable, and not only {point}"

    def sent(self, node: Node, message: Message) -> None:
        """A message leaves a node."""
        if isinstance(message, AppendReply) and message.ok and message.match_index:
            held = node.disk.holds(message.match_index, message.match_term)
            assert held, f"{node.name} acknowledged {message}, which is not durable"
        if isinstance(message, VoteReply) and message.granted and not message.pre:
            assert node.disk.vote[0] >= message.term, f"{node.name}'s vote is not durable"
            if node.disk.vote[0] == message.term:
                candidate = node.disk.vote[1]
                assert candidate != NOBODY, "a granted vote names its candidate"
                known = self.votes.setdefault((message.term, node.disk.storage_id), candidate)
                assert known == candidate, f"{node.name} voted twice in term {message.term}"

    def read_asked(self, token: int) -> None:
        """The read must see at least what is committed now."""
        self.asked[token] = self.commit_index

    def read_accepted(self, token: int, accepted: bool) -> None:
        if not accepted:
            del self.asked[token]
