"""Several cores over a network and disks in memory, moved one small step at a time.

`World` does what an embedder does, as slowly as a test wants: a Ready's writes become durable only at
`sync`, a message arrives only at `deliver`, an entry is applied only at `apply`. A crash keeps what was
synced, and of the rest any prefix of the log's writes and any of the votes. After every input the
Checker looks at the core and at all nodes together (checker.py).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from neumann.format import frame as frame_format
from neumann.format import special
from neumann.format.frame import Frame, Kind
from neumann.format.ids import NOBODY, Configuration, Incarnation
from neumann.format.message import Append, Message, SnapshotOffer, VoteReply, VoteRequest
from neumann.raft import FrameLog, Raft, RaftConfig, Random, Ready, Restored
from tests.raft.checker import Checker
from tests.raft.disk import BASE, Disk, Snapshot, members, storage_of

HEARTBEAT_TICKS, ELECTION_TICKS = 2, 8


class Packet(NamedTuple):
    """A message under way. `incarnation`: which start of the sender sent it."""

    sender: str
    incarnation: Incarnation
    receiver: str
    message: Message


class Node:
    """One core, its disk, and its Readys that are not durable yet."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.name = name
        self.disk = disk
        self.starts = 0
        self.core: Raft | None = None
        self.frames: dict[int, Frame] = {}
        self.pending: deque[Ready] = deque()
        self.wanted: SnapshotOffer | None = None
        self.reads: list[tuple[int, int]] = []
        self.lost_reads: list[int] = []

    @property
    def up(self) -> Raft:
        """The running core."""
        assert self.core is not None, f"{self.name} is down"
        return self.core

    @property
    def incarnation(self) -> Incarnation:
        return Incarnation(self.disk.storage_id, self.starts)


class World:
    """The cluster. `settle` runs it gently; tests/raft/test_chaos.py runs it badly."""

    def __init__(
        self,
        voters: str = "abc",
        learners: str = "",
        blank: str = "",
        seed: int = 0,
        checker: Checker | None = None,
        **limits: int,
    ) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.limits = limits
        self.checker = checker or Checker()
        self.packets: list[Packet] = []
        self.cut: set[tuple[str, str]] = set()
        self.serial = 0
        self.nodes: dict[str, Node] = {}
        for name in sorted(voters + learners + blank):
            stateless = name in blank
            configuration = Configuration() if stateless else members(voters, learners)
            disk = Disk(Snapshot(BASE, configuration), has_vote=not stateless, storage_id=storage_of(name))
            self.nodes[name] = Node(name, disk)
            self.start(name)

    def __getitem__(self, name: str) -> Raft:
        return self.nodes[name].up

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.core is not None]

    # Starting and crashing.

    def start(self, name: str) -> None:
        """Start from what is durable."""
        node = self.nodes[name]
        disk = node.disk
        log = FrameLog(disk.base)
        later = []
        for frame in disk.frames:
            log.append(frame.header)
            entry = special.decode(frame) if frame.header.kind is Kind.CONFIGURATION else None
            if isinstance(entry, Configuration) and log.last.index > disk.snapshot.point.index:
                later.append((log.last.index, entry))
        node.starts += 1
        node.frames = {f.header.first_index: f for f in disk.frames}
        restored = Restored(
            term=disk.vote[0],
            voted_for=disk.vote[1],
            log=log,
            configuration=disk.snapshot.configuration,
            configuration_index=disk.snapshot.point.index,
            later_configurations=tuple(later),
            commit_index=disk.snapshot.point.index,
            applied_index=disk.snapshot.point.index,
            floor=disk.floor,
            can_vote=disk.has_vote,
        )
        config = RaftConfig(
            name,
            disk.storage_id,
            heartbeat_ticks=HEARTBEAT_TICKS,
            election_ticks=ELECTION_TICKS,
            **self.limits,
        )
        node.core = Raft(config, restored, self._timeouts(node))
        node.core.snapshot_published(disk.snapshot.point)
        self.checker.started(node.core)
        self._pump(node)

    def _timeouts(self, node: Node) -> Random:
        """What the node draws its election timeouts from."""
        return random.Random(f"{self.seed}/{node.name}/{node.starts}")

    def crash(self, name: str, keep: float = 0.0) -> None:
        """Stop. Of what was not synced each write survives with probability `keep`."""
        node = self.nodes[name]
        for ready in node.pending:
            if ready.vote is not None and self.random.random() < keep:
                node.disk.vote, node.disk.has_vote = ready.vote, True
        for ready in node.pending:
            if self.random.random() >= keep:
                break
            if ready.truncate_after is not None:
                node.disk.truncate_after(ready.truncate_after)
            count = self.random.randint(0, len(ready.frames))
            node.disk.frames += ready.frames[:count]
            if count < len(ready.frames):
                break
        node.pending.clear()
        node.core = None
        node.wanted = None

    def wipe(self, name: str, storage_id: bytes, configuration: Configuration | None = None) -> None:
        """A node comes back with an empty disk; with a configuration, as one that was taken in."""
        if self.nodes[name].core is not None:
            self.crash(name)
        self.packets = [packet for packet in self.packets if packet.sender != name]
        node = self.nodes[name] = Node(name, Disk(Snapshot(BASE, configuration or Configuration())))
        node.disk.storage_id, node.disk.has_vote = storage_id, configuration is not None
        self.start(name)

    def damage(self, name: str, tail_known: bool = True) -> None:
        """A node that is down loses every frame above its manifest, and keeps the floor that
        runtime/floor.py would."""
        disk = self.nodes[name].disk
        assert self.nodes[name].core is None
        if disk.frames:
            last = disk.frames[-1].header
            if tail_known:
                disk.floor = max(disk.floor, (last.term, last.last_index))
            else:
                term = max(disk.vote[0], last.term) + 1
                disk.vote, disk.floor = (term, NOBODY), (term, 1)
            disk.truncate_after(disk.snapshot.point.index)

    # Inputs.

    def tick(self, name: str) -> None:
        self._input(name, lambda core: core.tick())

    def propose(self, name: str, count: int = 1, size: int = 8) -> Frame:
        """A frame of `count` entries that no other frame has."""
        entries = []
        for _ in range(count):
            self.serial += 1
            entries.append(self.serial.to_bytes(size, "big"))
        return self.propose_frame(name, Kind.DATA, entries)

    def propose_special(self, name: str, entry: special.Special) -> Frame:
        kind, body = special.encode(entry)
        return self.propose_frame(name, kind, [body])

    def propose_frame(self, name: str, kind: Kind, entries: list[bytes]) -> Frame:
        core = self[name]
        last = core.last
        self.serial += 1
        frame = frame_format.encode(kind, last.index + 1, core.term, self.serial, last.chain, entries)
        self._input(name, lambda core: core.propose(frame))
        return frame

    def read(self, name: str) -> int:
        """Ask for a read point; the checker holds it against what is committed now."""
        self.serial += 1
        token = self.serial
        self.checker.read_asked(token)
        self._input(name, lambda core: self.checker.read_accepted(token, core.read_index(token)))
        return token

    def apply(self, name: str, index: int | None = None) -> None:
        self._input(name, lambda core: core.applied(core.commit_index if index is None else index))

    def change(self, name: str, act: Callable[[Raft], None]) -> None:
        """Any other input."""
        self._input(name, act)

    def step(self, name: str, sender: str, message: Message) -> None:
        """A message made by hand."""
        self._input(name, lambda core: core.step(sender, message, Incarnation(storage_of(sender), 1)))

    def deliver(self, position: int = 0, keep: bool = False) -> None:
        """One packet arrives (and arrives again later if `keep`), unless the link is cut."""
        packet = self.packets[position]
        if not keep:
            del self.packets[position]
        if (packet.sender, packet.receiver) in self.cut:
            return
        if packet.receiver in self.nodes and self.nodes[packet.receiver].core is not None:
            self._input(
                packet.receiver,
                lambda core: core.step(packet.sender, packet.message, packet.incarnation),
            )

    def sync(self, name: str, count: int | None = None) -> None:
        """The oldest `count` pending Readys (None: all) become durable."""
        node = self.nodes[name]
        while node.core is not None and node.pending and count != 0:
            ready = node.pending.popleft()
            self._make_durable(node, ready)
            if count is not None:
                count -= 1
            self._input(name, lambda core, ready=ready: _tell_durable(core, ready))  # type: ignore[misc]
            self._send(node, ready.messages_after_sync)

    # Snapshots.

    def snapshot(self, name: str, compact: bool = True) -> None:
        """A manifest at what is applied and durable; then drop the log before it."""
        node = self.nodes[name]
        core = node.up
        limit = min(core.applied_index, core.durable_index)  # beyond, the disk may hold what was cut
        durable = [f.header.end for f in node.disk.frames if f.header.last_index <= limit]
        if not durable or durable[-1] <= node.disk.snapshot.point:
            return
        point = durable[-1]
        index = point.index
        assert core.log.end_at(index) == point, "what is applied is never cut"
        node.disk.snapshot = Snapshot(point, core.configuration_at(index))
        self._input(name, lambda core: core.snapshot_published(point))
        if compact:
            node.disk.base = point
            node.disk.frames = [f for f in node.disk.frames if f.header.first_index > index]
            node.frames = {i: f for i, f in node.frames.items() if i > index}
            self._input(name, lambda core: core.compact_to(point))

    def fetch(self, name: str) -> bool:
        """Install the leader's snapshot, if one was offered and is there."""
        node = self.nodes[name]
        if node.core is None or node.wanted is None:
            return False
        offer, node.wanted = node.wanted, None
        source = self.nodes.get(node.core.leader)
        if source is None or source.disk.snapshot.point.index < offer.index:
            return False
        self.sync(name)
        snapshot = source.disk.snapshot
        if snapshot.point.index <= node.core.commit_index:
            return False
        keeps = node.core.log.end_at(snapshot.point.index) == snapshot.point
        node.disk.snapshot = snapshot
        node.disk.base = snapshot.point
        kept = [f for f in node.disk.frames if keeps and f.header.first_index > snapshot.point.index]
        node.disk.frames = kept
        node.frames = {f.header.first_index: f for f in kept}
        self._input(name, lambda core: core.installed(snapshot.point, snapshot.configuration))
        return True

    # Gentle running.

    def settle(self, only: Iterable[str] | None = None) -> None:
        """Sync and deliver, in order, until nothing is under way (`only`: among these nodes)."""
        names = set(self.nodes) if only is None else set(only)
        self.packets = [p for p in self.packets if (p.sender, p.receiver) not in self.cut]
        for _ in range(10_000):
            for name in sorted(names):
                self.sync(name)
                self.fetch(name)
            mine = [i for i, p in enumerate(self.packets) if p.sender in names and p.receiver in names]
            if not mine:
                return
            self.deliver(mine[0])
        raise AssertionError("the cluster does not come to rest")

    def run(self, ticks: int, only: Iterable[str] | None = None) -> None:
        """Time passes, and everything arrives in it."""
        for _ in range(ticks):
            for node in self.running:
                if only is None or node.name in only:
                    self.tick(node.name)
            self.settle(only)

    def elect(self, name: str, only: Iterable[str] | None = None) -> None:
        """Let this node campaign, and its NOOP be committed if a majority is in `only`."""
        self.let_leases_end(name)
        for _ in range(20 * ELECTION_TICKS):
            if self[name].role == "leader":
                break
            self.tick(name)
            self.settle(only)
        assert self[name].role == "leader", f"{name} was not elected"
        self.settle(only)

    def elect_quietly(self, name: str) -> None:
        """Only the votes arrive: this node leads, and nobody knows it yet."""
        self.let_leases_end(name)
        while self[name].role != "leader":
            self.tick(name)
            for node in self.running:
                if node.up.role != "leader":
                    self.sync(node.name)
            for packet in list(self.packets):
                if isinstance(packet.message, VoteRequest | VoteReply):
                    self.deliver(self.packets.index(packet))
        self.packets.clear()

    def let_leases_end(self, candidate: str) -> None:
        """The others forget their leader, and what they say about it is lost."""
        under_way = len(self.packets)
        for node in self.running:
            for _ in range(ELECTION_TICKS):
                if node.name != candidate and node.up.role != "leader":
                    self.tick(node.name)
        del self.packets[under_way:]

    def isolate(self, *names: str) -> None:
        """Cut these nodes off from all others, in both directions."""
        for inside in names:
            for outside in self.nodes:
                if outside not in names:
                    self.cut |= {(inside, outside), (outside, inside)}

    def heal(self) -> None:
        self.cut.clear()

    # What an embedder does.

    def _input(self, name: str, act: Callable[[Raft], object]) -> None:
        node = self.nodes[name]
        with self.checker.watching(node.up):
            act(node.up)
        self._pump(node)
        self.checker.durable(node)

    def _pump(self, node: Node) -> None:
        core = node.up
        while (ready := core.ready()) is not None:
            self.checker.after_ready(self, core, ready)
            if ready.truncate_after is not None:
                cut = ready.truncate_after
                node.frames = {i: f for i, f in node.frames.items() if f.header.last_index <= cut}
            for frame in ready.frames:
                node.frames[frame.header.first_index] = frame
            node.reads += ready.reads
            node.lost_reads += ready.lost_reads
            node.wanted = ready.need_snapshot or node.wanted
            self._send(node, ready.messages)
            writes = ready.vote or ready.frames or ready.truncate_after is not None
            if writes or node.pending:
                node.pending.append(ready)
            else:
                self._send(node, ready.messages_after_sync)
            if ready.role_changed and core.role == "leader" and core.last.term < core.term:
                self.propose_special(node.name, special.Noop())

    def _send(self, node: Node, messages: tuple[tuple[str, Message], ...]) -> None:
        for receiver, message in messages:
            whole = self._attach_frames(node, message) if isinstance(message, Append) else message
            if whole is not None:
                self.checker.sent(node, whole)
                self.packets.append(Packet(node.name, node.incarnation, receiver, whole))

    def _attach_frames(self, node: Node, message: Append) -> Append | None:
        frames = []
        index = message.prev_index + 1
        while index <= message.last_index:
            if index not in node.frames:
                return None
            frames.append(node.frames[index])
            index = frames[-1].header.last_index + 1
        assert index == message.last_index + 1, "an Append ends at a frame end"
        return message._replace(frames=tuple(frames))

    def _make_durable(self, node: Node, ready: Ready) -> None:
        disk = node.disk
        if ready.vote is not None:
            disk.vote, disk.has_vote = ready.vote, True
        if ready.truncate_after is not None:
            disk.truncate_after(ready.truncate_after)
        disk.frames += ready.frames
        disk.floor = node.up.floor


def _tell_durable(core: Raft, ready: Ready) -> None:
    if ready.vote is not None:
        core.vote_persisted(*ready.vote)
    if ready.frames:
        end = ready.frames[-1].header.end
        core.persisted(end.index, end.term, ready.truncations)
