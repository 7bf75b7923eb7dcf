"""Starts the watched node again, on what a power failure left of its disk, by its real way in; and judges.

Nobody helps it: Node.start opens what is there. What it knows then is compared with what it promised. Then
it goes on: the sole voter leads again; one of three, whose peers are silent, hears of a leader that
supplies all that was committed. Then its rows must be those of the model, and its files those of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from neumann.errors import NeumannError
from neumann.format import message
from neumann.format.ids import LogPoint
from neumann.format.message import Append, Envelope
from neumann.raft.log import FrameLog
from neumann.runtime.member import Member
from neumann.snapshot import publish
from tests.crash.witness import Promise, Witness
from tests.sim.checkers.layout import Layout
from tests.sim.checkers.replicas import compare_rows
from tests.sim.checkers.segments import SealedSegments
from tests.sim.checkers.violation import Violation, require
from tests.sim.disk import SimCrash, SimDisk
from tests.sim.loop import ProcessDied, SimLoop
from tests.sim.machine import Machine
from tests.sim.net import Network
from tests.sim.record import Change
from tests.sim.settings import ARCHIVE
from tests.sim.trace import Trace

LIMIT_S = 20.0


class _Found(NamedTuple):
    """What the node knew first of all."""

    term: int
    vote: tuple[str, bytes]
    base: LogPoint
    last: LogPoint
    snapshot: int


class _Leader:
    """Says what a leader would say; hears no answers."""

    def on_message(self, payload: bytes, reply: Callable[[bytes], None]) -> None:
        """Nobody sends it requests."""

    def on_reply(self, address: str, payload: bytes) -> None:
        """What the node acknowledges is judged by its rows."""


class Restart:
    """One start of `seen`'s watched node on `image`, with `promise` to keep."""

    def __init__(self, seen: Witness, promise: Promise, image: SimDisk, seed: str) -> None:
        self.loop = SimLoop()
        self._seen = seen
        self._promise = promise
        self._network = Network(self.loop, Random(f"{seed}/network"), Trace(False))
        shared = SimDisk()
        shared.make_dirs(ARCHIVE)
        self._machine = Machine(self.loop, self._network, Random(seed), seen.watched.config, shared)
        self._machine.disk = image
        self._found: _Found | None = None

    def run(self) -> None:
        """Violation, or whatever the node raised, if it is not as it must be."""
        with self.loop:
            self.loop.run(self._script(), 100.0)

    def started(self, record: list[Change]) -> bool:
        """Only start it, and keep the record of that; False if it could not be started: `run` says why."""
        self._machine.disk.record = record
        with self.loop:
            try:
                self.loop.run(self._start(), 100.0)
            except (Violation, NeumannError, OSError):
                return False
        return True

    async def _script(self) -> None:
        await self._start()
        member = self._member()
        if member is None or not self._promise.is_member:
            return
        self._judge_files()
        await (self._lead(member) if len(self._seen.machines) == 1 else self._follow(member))

    async def _start(self) -> None:
        machine, promise = self._machine, self._promise
        process = machine.power_on()
        process.observer = self._observe
        try:
            await machine.start()
        except ProcessDied:
            raise Violation("it died while it started") from None
        except (NeumannError, OSError, SimCrash) as error:
            raise Violation(f"it refuses to start: {error}") from error
        self._observe()
        if promise.is_member:
            assert machine.node is not None
            require(self._member() is not None, f"it is no member any more: {machine.node.serving()}")

    def _member(self) -> Member | None:
        node = self._machine.node
        return node.member if node is not None else None

    def _observe(self) -> None:
        node = self._machine.node
        if node is not None and node.failed.done():
            raise Violation(f"it stops by itself: {node.failed.result()}")
        host = node.host if node is not None else None
        member = host.member if host is not None else None
        if member is not None and self._found is None and self._promise.is_member:
            raft = member.raft
            vote = (raft.voted_for.node_id, raft.voted_for.storage_id)
            self._found = _Found(raft.term, vote, raft.log.base, raft.last, member.manifest.point.index)
            self._judge(self._found, raft.log)

    def _judge(self, found: _Found, log: FrameLog) -> None:
        promise = self._promise
        require(found.term >= promise.term, f"its term is {found.term}, and it answered in {promise.term}")
        if found.term == promise.term and promise.vote[0]:
            require(found.vote == promise.vote, f"it voted for {promise.vote}, and knows {found.vote}")
        durable = promise.durable
        require(
            log.base.index >= durable.index or log.end_at(durable.index) == durable,
            f"it acknowledged {durable} and has {log.end_at(durable.index)} there",
        )
        require(log.last in self._seen.ends, f"its log ends at {log.last}, which it never had")
        require(
            found.snapshot >= promise.snapshot,
            f"it reported snapshot {promise.snapshot} and its newest is {found.snapshot}",
        )

    def _judge_files(self) -> None:
        machine, seen = self._machine, self._seen
        newest = publish.newest_complete(machine.disk, machine.paths.snapshots)
        index = newest.index if newest is not None else 0
        require(
            index >= self._promise.published, f"{self._promise.published} was published, {index} is there"
        )
        layout = Layout()
        layout.digests = dict(seen.layout.digests)
        layout.look(machine.name, machine.disk, machine.paths.store, full=True)

    async def _lead(self, member: Member) -> None:
        """It has everything that a client was told is done, and whatever else it has it once had."""
        found = self._found
        assert found is not None
        last = found.last.index
        require(last >= self._promise.acknowledged, f"{self._promise.acknowledged} was acknowledged: {last}")
        await self._until(lambda: member.leads and member.applier.applied_index > last, "it leads")
        compare_rows(self._machine.name, member.store.view(), self._seen.committed.model.restored(last, last))

    async def _follow(self, member: Member) -> None:
        """A leader of a later term supplies what was committed by then."""
        found, seen = self._found, self._seen
        assert found is not None
        prev = found.base
        target = max(self._promise.committed, found.snapshot)
        frames = [f for f in seen.committed.frames if prev.index < f.header.last_index <= target]
        term = max(found.term, self._promise.term, seen.committed.last.term) + 1
        end = frames[-1].header.last_index if frames else prev.index
        said = Append(term, prev.index, prev.term, prev.chain, end, 1, end)
        leader = next(m for m in seen.machines if m is not seen.watched)
        leading = seen.member(leader)
        assert leading is not None
        own = leading.identity
        payload = message.encode(
            Envelope(own.cluster_id, own.timeline, own.node_id, own.storage_id, said),
            b"".join(frame.data for frame in frames),
        )
        door = self._network.door(self.loop.process("leader"), own.node_id)
        door.bind(_Leader())
        door.send(self._machine.address, payload)
        await self._until(lambda: member.applier.applied_index >= end, f"it applies up to {end}")
        compare_rows(self._machine.name, member.store.view(), seen.committed.model.restored(end, end))
        segments = SealedSegments()
        segments.digests = dict(seen.segments.digests)
        machine = self._machine
        segments.look(machine.name, machine.disk, machine.paths.wal, end, full=True)

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline_s = self.loop.time() + LIMIT_S
        while not holds():
            require(self.loop.time() < deadline_s, f"not within {LIMIT_S:g} s: {what}")
            await asyncio.sleep(0.005)
