"""A simulated cluster with one node under observation: what its disk did, and what it had promised by then.

A promise is what others may rely on: terms, votes and acknowledged frames that it answered on the wire, what
its own core counts as durable, the snapshots that it reports as made and as published, and the writes that
clients were told are done. Each is noted with the number of changes of the disk that were done at that
moment, so a crash behind that change must keep it (R1, R16).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from random import Random
from typing import Any, NamedTuple

from neumann.config import (
    Config,
    NodeConfig,
    RaftConfig,
    SecurityConfig,
    SnapshotConfig,
    StoreConfig,
    WalConfig,
)
from neumann.errors import NeumannError
from neumann.format import message
from neumann.format.command import encode_put, pack_value
from neumann.format.ids import LogPoint
from neumann.format.message import AppendReply, VoteReply
from neumann.runtime.member import Member
from tests.sim.checkers.clients import Operation
from tests.sim.checkers.committed import BEGINNING
from tests.sim.checkers.violation import require
from tests.sim.machine import Machine
from tests.sim.record import Change
from tests.sim.settings import ARCHIVE
from tests.sim.world import World

LIMIT_S = 20.0


class Promise(NamedTuple):
    """What must be there from `changes` changes of the disk on.

    `vote`: (node id, storage id) in `term`, or ("", b""). `durable`: the log has that frame end, or a
    snapshot behind it. `snapshot`, `published`: the newest index of each. `acknowledged`: the highest index
    of a write that a client was told is done. `committed`: how far peers could tell that the log is.
    """

    changes: int = 0
    is_member: bool = False
    term: int = 0
    vote: tuple[str, bytes] = ("", b"")
    durable: LogPoint = BEGINNING
    snapshot: int = 0
    published: int = 0
    acknowledged: int = 0
    committed: int = 0


class Witness(World):
    """A world whose machine `watched` is recorded from its empty disk on."""

    must_lead = True
    """Whether who was asked to lead leads: nothing goes wrong here that the run does not do itself."""

    def __init__(self, seed: str, node_count: int, watched: str) -> None:
        super().__init__(seed, node_count, configure=_configure)
        self.watched = next(machine for machine in self.machines if machine.name == watched)
        self.begin = self.watched.disk.fork()
        self.changes: list[Change] = []
        self.watched.disk.record = self.changes
        self.promises_made: list[Promise] = [Promise()]
        self.ends: set[LogPoint] = {BEGINNING}
        self.acknowledged = 0
        self._last = BEGINNING
        self.network.sniffers.append(self._hear_promise)

    # --- what is noted ---------------------------------------------------------------------------

    def _observe(self, machine: Machine) -> None:
        super()._observe(machine)
        if machine is self.watched and machine.node is not None and machine.node.member is not None:
            self._note_claims(machine.node.member)

    def _note_claims(self, member: Member) -> None:
        raft = member.raft
        term, candidate = raft._state.durable_vote
        if raft.last != self._last:
            begin = min(raft.last.index, self._last.index, raft.log.base.index)
            ends = map(raft.log.end_at, range(max(begin, raft.log.base.index), raft.last.index + 1))
            self.ends.update(end for end in ends if end is not None)
            self._last = raft.last
        claimed = raft.log.end_at(raft.durable_index)
        assert claimed is not None
        known = self.promises_made[-1].durable
        is_still_there = known.index > claimed.index and raft.log.end_at(known.index) == known
        self._promise(
            is_member=True,
            term=term,
            vote=(candidate.node_id, candidate.storage_id),
            durable=known if is_still_there else claimed,
            snapshot=member.snapshots.newest[0],
            published=member.snapshots.published_index,
        )

    def _hear_promise(self, source: str, target: str, answer: bytes) -> None:
        member = self.member(self.watched)
        if source != self.watched.name or member is None:
            return
        said = message.decode(answer).message
        if isinstance(said, VoteReply) and not said.pre:
            vote = (target, said.candidate) if said.granted else ("", b"")
            self._promise(term=said.term, vote=vote)
        elif isinstance(said, AppendReply):
            end = member.raft.log.end_at(said.match_index) if said.ok else None
            if end is not None and end.index > self.promises_made[-1].durable.index:
                self._promise(term=said.term, durable=end)
            else:
                self._promise(term=said.term)

    def _promise(self, term: int = 0, vote: tuple[str, bytes] = ("", b""), **fields: Any) -> None:
        """A term is never taken back, nor a vote in it; the rest is what it was told last."""
        known = self.promises_made[-1]
        if term < known.term or (term == known.term and known.vote[0]):
            term, vote = known.term, known.vote
        fields |= {"acknowledged": self.acknowledged, "committed": self.committed.last.index}
        promise = known._replace(changes=len(self.changes), term=term, vote=vote, **fields)
        if promise != known:
            if promise.changes == known.changes:
                self.promises_made.pop()
            self.promises_made.append(promise)

    def kinds(self) -> dict[str, int]:
        """How many changes of each kind there were."""
        return dict(Counter(change.what for change in self.changes))

    # --- what the runs do ------------------------------------------------------------------------

    async def formed(self) -> None:
        """Start everybody and wait until all vote."""
        for machine in self.machines:
            await self.start(machine)
        await self.until(self.is_formed, LIMIT_S, "all vote")

    async def write(self, machine: Machine, count: int, value_bytes: int = 20) -> None:
        """That many acknowledged rows, one after the other, through that machine."""
        for _ in range(count):
            operation, command = self._begin_write(value_bytes)
            index, outcome = await self.on(machine, lambda node, command=command: node.write(command))
            self.clients.end_write(operation, index, outcome)
            self.acknowledged = max(self.acknowledged, index)

    async def write_in_vain(self, machine: Machine, value_bytes: int = 400) -> None:
        """A write that nobody may acknowledge, if this machine leads."""
        operation, command = self._begin_write(value_bytes)
        try:
            index, outcome = await self.once(machine, lambda node: node.write(command))
        except NeumannError:
            self.clients.end_unknown(operation)
        else:
            require(not self.must_lead, "acknowledged by a minority")
            self.clients.end_write(operation, index, outcome)

    def _begin_write(self, value_bytes: int) -> tuple[Operation, bytes]:
        self.counts["written"] += 1
        number = self.counts["written"]
        command = encode_put("rows", f"{number * 7 % 23:03d}", pack_value([number, "x" * value_bytes]))
        return self.clients.begin_write(f"write {number}", command), command

    async def on(self, machine: Machine, call: Any) -> Any:
        """A call of that machine's node, for an operator."""
        return await self.once(machine, call)

    async def once(self, machine: Machine, call: Any) -> Any:
        """A call of that machine's node, in its process."""
        assert machine.process is not None and machine.node is not None
        coroutine: Coroutine[Any, Any, Any] = machine.process.run(call, machine.node)
        return await machine.process.call(coroutine)

    async def settled(self) -> None:
        """Everything committed is applied everywhere, and no snapshot or merge is under way."""
        await self.until(self.is_converged, LIMIT_S, "all replicas equal")

        def is_idle() -> bool:
            members = [self.member(machine) for machine in self.machines]
            return all(m and not (m.checkpointer.is_busy or m.snapshots.in_progress) for m in members)

        await self.until(is_idle, LIMIT_S, "snapshots made")

    def node(self, name: str) -> Machine:
        """The machine of that name."""
        return next(machine for machine in self.machines if machine.name == name)

    def isolate(self, name: str, *, cut: bool) -> None:
        """Cut one machine off from the others, or mend that."""
        change = self.network.cut if cut else self.network.mend
        for other in self.machines:
            if other.name != name:
                change(name, other.name)
                change(other.name, name)


def _configure(node_id: str, peers: dict[str, str], random: Random, is_archived: bool) -> Config:
    """Few entries make a segment and a snapshot, so that a short run has everything; the node that is alone
    has an archive."""
    alone = len(peers) == 1
    return Config(
        node=NodeConfig(
            id=node_id,
            data_dir="/data",
            listen=peers[node_id],
            admin_listen=f"{node_id}:9090",
            peers={} if alone else peers,
        ),
        raft=RaftConfig(heartbeat_ms=50, election_timeout_ms=300),
        wal=WalConfig(
            segment_bytes_max=1024,
            retain_entries=0,
            archive_command=f"cp %p {ARCHIVE}/%f" if alone else "",
            archive_timeout=0.0,
        ),
        snapshot=SnapshotConfig(
            interval_entries=6, publish_interval_s=0.3, keep_newest=2, keep_age_min_s=0.0
        ),
        store=StoreConfig(cache_bytes_max=4096, block_bytes=1024, disk_free_bytes_min=0),
        security=SecurityConfig(insecure=True),
    )
