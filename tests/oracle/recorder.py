"""A cluster of ours (tests/raft/harness.py) that writes down each input in etcd's words.

Three things are kept out, because etcd has no counterpart, so that both sides mean the same: the disk of a
node that is no follower is as fast as its core (etcd 3.4 counts a leader's own copy before it is durable); a
restart keeps the leader's match of a node (no disk here loses what was acknowledged, so there is nothing to
forget); and who has no vote record yet is asked for no vote (R10).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from neumann.format.frame import Frame, Kind
from neumann.format.ids import LogPoint
from neumann.format.message import (
    Append,
    AppendReply,
    Message,
    SnapshotOffer,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from neumann.raft import Raft, Ready, Role
from tests.oracle import words
from tests.oracle.differences import Step
from tests.oracle.words import number
from tests.raft.checker import Checker
from tests.raft.harness import ELECTION_TICKS, HEARTBEAT_TICKS, Node, Packet, World


class _Listening(Checker):
    """Hears what a core hands out; with `lenient` it finds nothing wrong (the oracle is to find it)."""

    def __init__(self, lenient: bool) -> None:
        super().__init__()
        self.lenient = lenient
        self.heard: list[Ready] = []

    @contextmanager
    def watching(self, core: Raft) -> Iterator[None]:
        if self.lenient:
            yield
            return
        with super().watching(core):
            yield

    def after_ready(self, world: World, core: Raft, ready: Ready) -> None:
        self.heard.append(ready)
        if not self.lenient:
            super().after_ready(world, core, ready)

    def durable(self, node: Node) -> None:
        if not self.lenient:
            super().durable(node)

    def sent(self, node: Node, message: Message) -> None:
        if not self.lenient:
            super().sent(node, message)


class Recorder(World):
    """The cluster. `steps` is what was recorded; `skipped` counts what neither side was given; `late` is
    for the schedule, which may let a packet arrive a second time."""

    def __init__(self, voters: str, blank: str, seed: int, lenient: bool = False, **limits: int) -> None:
        self.steps: list[Step] = []
        self.skipped: Counter[str] = Counter()
        self.late: list[Packet] = []
        self._open: Step | None = None
        self._rounds: dict[str, int] = {}
        self._asked: dict[str, dict[int, int]] = {}
        self._counted_anew: set[int] = set()
        self._silent_ticks: dict[str, int] = {}
        self._listening = _Listening(lenient)
        super().__init__(voters, "", blank, seed, self._listening, **limits)

    def lines(self) -> list[dict[str, object]]:
        """The steps as etcd/main.go reads them."""
        return [
            {
                "node": number(step.node),
                "do": step.do,
                "sumAfter": step.sum_after,
                "electionTicks": ELECTION_TICKS,
                "beatTicks": HEARTBEAT_TICKS,
            }
            for step in self.steps
        ]

    # Inputs.

    def start(self, name: str) -> None:
        self._listening.heard.clear()
        super().start(name)
        self._rounds[name] = 0
        self._asked[name] = {}
        self._restart(name, "starts")

    def tick(self, name: str) -> None:
        core = self[name]
        was_leader, leader, term = core.role is Role.LEADER, core.leader, core.term
        with self._recording(name, "tick") as step:
            step.do.append({"do": "tick"})
            self._silent_ticks[name] = self._silent_ticks.get(name, 0) + 1
            super().tick(name)
            asks = any(isinstance(m, VoteRequest) and m.pre for _, m in step.said)
            if asks or (not was_leader and core.term > term):
                step.do.append({"do": "campaign"})
            elif was_leader and core.role is not Role.LEADER:
                step.allowed.add("own check of the quorum")
            elif not was_leader and leader and not core.leader:
                step.allowed.add("no patience of a non-voter")

    def propose_frame(self, name: str, kind: Kind, entries: list[bytes]) -> Frame:
        if kind is Kind.NOOP:  # etcd appends its own, inside the step that makes it leader
            return super().propose_frame(name, kind, entries)
        with self._recording(name, f"propose {len(entries)}") as step:
            frame = super().propose_frame(name, kind, entries)
            proposal = {"do": "propose", "entries": words.entries(frame)}
            step.do.append(proposal)
        return frame

    def read(self, name: str) -> int:
        asked_in = self._rounds[name]
        with self._recording(name, "read") as step:
            token = super().read(name)
            self._asked[name][token] = asked_in
            step.do.append({"do": "read", "context": str(token)})
        return token

    def change(self, name: str, act: Callable[[Raft], None]) -> None:
        with self._recording(name, "change"):
            super().change(name, act)

    def fetch(self, name: str) -> bool:
        core = self.nodes[name].core
        if core is None:
            return False
        leader, term = core.leader, core.term
        with self._recording(name, "install") as step:
            installed = super().fetch(name)
            if installed:
                point, members = self.nodes[name].disk.snapshot
                taken = words.snapshot(leader, term, point[:2], members)
                if members.member(name) is None:  # etcd would not take it (etcd #13741)
                    taken["learners"].append(number(name))
                step.do += [taken, {"do": "members", **words.members(members)}]
                step.do += self._silence(name)  # to install is to hear nothing
                if point.term > term:  # of a term that no message has told of yet
                    step.do = [words.new(core, self._frames(name))]
                step.allowed.add("snapshot by hand")
        return installed

    def deliver(self, position: int = 0, keep: bool = False) -> None:
        packet = self.packets[position]
        always_one = packet.incarnation._replace(start_number=1)
        self.packets[position] = packet._replace(incarnation=always_one)
        name, message = packet.receiver, packet.message
        core = self.nodes[name].core if name in self.nodes else None
        if core is None or (packet.sender, name) in self.cut:
            super().deliver(position, keep)
            return
        is_answer = isinstance(message, AppendReply | VoteReply)
        if is_answer and core.configuration.member(packet.sender) is None:
            self.skipped["stranger's answer"] += 1
            del self.packets[position]
            return
        what = f"{type(message).__name__} of {packet.sender}"
        with self._recording(name, f"{what} {tuple(message)[:7]}") as step:
            step.message = (packet.sender, message)
            self._translate(step, core, packet.sender, message)
            super().deliver(position, keep)

    # Both sides.

    def _translate(self, step: Step, core: Raft, sender: str, message: Message) -> None:
        """What etcd's node is to do, judged by ours before it takes the message."""
        if isinstance(message, VoteRequest):
            if not core.can_vote:
                return
            if message.term < core.term and not message.pre:
                step.allowed.add("silent to an old candidate")
            step.do.append(words.vote_request(sender, message))
        elif isinstance(message, VoteReply):
            if message.pre and message.granted and message.term != core.term + 1:
                step.allowed.add("late pre-vote")
                return
            step.do.append(words.vote_reply(sender, message))
        elif isinstance(message, Append):
            self._hear_leader(core, message.term)
            step.do.append(words.append(sender, message))
            if message.term >= core.term and message.prev_index < core.commit_index:
                step.allowed.add("append from before the commit index")
                rest = words.append_behind(sender, message, core.commit_index)
                step.do += [rest] if rest else []
        elif isinstance(message, AppendReply):
            if core.role is Role.LEADER and message.term == core.term:
                step.do += self._read_answers(core.node_id, sender, message)
            step.do.append(words.append_reply(sender, message))
        elif isinstance(message, SnapshotOffer):
            self._hear_leader(core, message.term)
            step.do.append(words.heartbeat(sender, message))
            offered = LogPoint(message.index, message.snapshot_term, message.chain)
            is_new = message.term >= core.term and message.index > core.commit_index
            if is_new and core.log.end_at(message.index) == offered:
                step.do.append(words.snapshot(sender, message.term, offered[:2], core.configuration))
        elif (message.term, sender) == (core.term, core.leader) and core.is_voter:
            step.do.append(words.timeout_now(sender, message))
        else:
            assert isinstance(message, TimeoutNow)
            step.allowed.add("timeout-now of the leader only")

    def _hear_leader(self, core: Raft, term: int) -> None:
        if term >= core.term:
            self._silent_ticks[core.node_id] = 0

    def _silence(self, name: str) -> list[words.Operation]:
        """As long as this node has heard nothing of its leader."""
        return [{"do": "tick"}] * self._silent_ticks.get(name, 0)

    def _read_answers(self, name: str, sender: str, reply: AppendReply) -> list[words.Operation]:
        """The answer also answers the heartbeat of each read that was asked for before its round."""
        covered = [token for token, asked_in in self._asked[name].items() if asked_in < reply.round]
        from_term = {"do": "MsgHeartbeatResp", "from": number(sender), "term": reply.term}
        return [{**from_term, "context": str(token)} for token in covered]

    @contextmanager
    def _recording(self, name: str, what: str) -> Iterator[Step]:
        """Around one input; what it sets off at once belongs to it."""
        if self._open is not None:
            yield self._open
            return
        step = self._open = Step(name, what)
        core = self[name]
        role, term, configuration = core.role, core.term, core.configuration
        self._listening.heard = _Heard(step)
        yield step
        while core.role is not Role.FOLLOWER and self.nodes[name].pending:
            super().sync(name)
        self._open = None
        self._note_reads(step, core)
        self._note_rounds(name, core, role)
        if core.configuration != configuration:
            self._tell_members(step, core)
        left = role is Role.LEADER and core.role is not Role.LEADER and core.term == term
        if left and "own check of the quorum" not in step.allowed:
            step.allowed.add("leaves when asked")
        if step.do or step.allowed:
            self._close(step, core)
        if left or "no patience of a non-voter" in step.allowed:
            self._restart(name, "is made equal")

    def _note_reads(self, step: Step, core: Raft) -> None:
        """Confirmed reads wait no more; those that the members changed under are not compared."""
        for token, _ in step.reads:
            self._asked[core.node_id].pop(token, None)
        if any(token in self._counted_anew for token, _ in step.reads):
            step.allowed.add("reads counted anew")
            step.reads = [read for read in step.reads if read[0] not in self._counted_anew]

    def _note_rounds(self, name: str, core: Raft, role_before: Role) -> None:
        """How many rounds the leader has begun, and which reads still wait."""
        if core.role is not Role.LEADER or role_before is not Role.LEADER:
            self._rounds[name] = 0
            self._asked[name].clear()
        step_messages = [m for ready in self._listening.heard for _, m in ready.messages]
        rounds = [m.round for m in step_messages if isinstance(m, Append | SnapshotOffer)]
        if core.role is Role.LEADER:
            self._rounds[name] = max([self._rounds[name], *rounds])

    def _tell_members(self, step: Step, core: Raft) -> None:
        """etcd changes its members when ours do: a leader before it proposes, unless it removes itself."""
        self._counted_anew.update(self._asked[core.node_id])
        change = {"do": "members", **words.members(core.configuration)}
        proposes = bool(step.do) and step.do[0]["do"] == "propose"
        step.do.insert(0 if proposes and core.is_voter else len(step.do), change)
        step.allowed.add("membership from the append")

    def _restart(self, name: str, what: str) -> None:
        """etcd's node begins with what ours holds."""
        core = self[name]
        step = Step(name, what)
        step.do.append(words.new(core, self._frames(name)))
        if core.leader:
            step.do.append({"do": "MsgHeartbeat", "from": number(core.leader), "term": core.term})
            step.do += self._silence(name)
        self._close(step, core)

    def _close(self, step: Step, core: Raft) -> None:
        step.sum_after = core.log.base.index
        step.state = {
            "role": str(core.role),
            "term": core.term,
            "vote": number(core.voted_for.node_id),
            "leader": number(core.leader),
            "commit": core.commit_index,
            "last": core.last.index,
            "last_term": core.last.term,
            "sum": sum(words.frame_sum(frame) for frame in self._frames(step.node)),
        }
        self.steps.append(step)

    def _frames(self, name: str) -> list[Frame]:
        """The log behind its base, in order."""
        node = self.nodes[name]
        base = node.up.log.base.index
        return [frame for first, frame in sorted(node.frames.items()) if first > base]


class _Heard(list[Ready]):
    """Readys, taken apart into the step that they belong to."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self._step = step

    def append(self, ready: Ready) -> None:
        super().append(ready)
        self._step.said += ready.messages + ready.messages_after_sync
        self._step.reads += ready.reads
