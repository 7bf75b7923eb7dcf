"""What goes wrong in a run: each kind breaks something for a while, then mends it, again and again.

The kinds run beside each other and know nothing of each other, so that a leader is killed while it is cut
off and another machine's disk is full. A kind leaves nothing broken behind.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import permutations
from random import Random

from tests.faults.hosts import NODES, SMALL_DISK, Hosts
from tests.faults.world import CLIENTS
from tests.history.record import Recorder

KILL, PARTITION, PAUSE = "kill", "partition", "pause"
FULL_DISK, FROZEN_DISK, WIPE = "full-disk", "frozen-disk", "wipe"
KINDS = (KILL, PARTITION, PAUSE, FULL_DISK, FROZEN_DISK, WIPE)
_AT_LEAST_ONCE = (KILL, PARTITION, PAUSE, FULL_DISK)
"""In each run, however slow the machine. The others need loop devices, or a cluster that is complete."""

_FIRST_S = (0.3, 2.0)
_LOOK_S = 0.1
_VOTES_LOOK_S = 0.5
_LET_SERVE_SHARE = 0.9
_SERVE_LIMIT_S = 20.0
_ACKNOWLEDGED_BETWEEN = 10
_LEADER_SHARE = 0.4

_Wires = list[tuple[str, str]]
"""(source, target): what is cut."""


class Nemesis:
    """Breaks `hosts` until `is_over`; `counts` is how often each kind did. A kill counts each server.
    `acknowledged` is how many writes were, so far."""

    def __init__(
        self,
        hosts: Hosts,
        random: Random,
        recorder: Recorder,
        is_over: Callable[[Counter[str]], bool],
        acknowledged: Callable[[], int],
        kinds: Collection[str] = KINDS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._hosts = hosts
        self._random = random
        self._recorder = recorder
        self._is_over = is_over
        self._acknowledged = acknowledged
        self._kinds = kinds

    async def run(self) -> None:
        """All those kinds at once; each waits that long between two faults."""
        kinds = {
            KILL: (self._kill, (0.3, 2.5)),
            PARTITION: (self._partition, (1.0, 6.0)),
            PAUSE: (self._pause, (5.0, 15.0)),
            FULL_DISK: (self._full_disk, (15.0, 40.0)),
            FROZEN_DISK: (self._frozen_disk, (15.0, 40.0)),
            WIPE: (self._wipe, (5.0, 20.0)),
        }
        async with asyncio.TaskGroup() as group:
            for kind in self._kinds:
                group.create_task(self._again(kind, *kinds[kind]))

    async def _again(
        self, kind: str, fault: Callable[[], Awaitable[None]], wait_s: tuple[float, float]
    ) -> None:
        next_s = _FIRST_S
        while not self._is_done(kind):
            deadline_s = time.monotonic() + self._random.uniform(*next_s)
            while time.monotonic() < deadline_s and not self._is_over(self.counts):
                await asyncio.sleep(_LOOK_S)
            if self._random.random() < _LET_SERVE_SHARE:
                await self._until_served()
            if not self._is_done(kind):
                await fault()
            next_s = wait_s

    def _is_done(self, kind: str) -> bool:
        owed = kind in _AT_LEAST_ONCE and not self.counts[kind]
        return self._is_over(self.counts) and not owed

    async def _until_served(self) -> None:
        """Clients are served: a fault meets a cluster that works, not only one that starts. On a slow machine
        there would be nothing else."""
        wanted = self._acknowledged() + _ACKNOWLEDGED_BETWEEN
        deadline_s = time.monotonic() + _SERVE_LIMIT_S
        while self._acknowledged() < wanted and time.monotonic() < deadline_s:
            await asyncio.sleep(_LOOK_S)

    def _note(self, fault: str, **what: object) -> None:
        self._recorder.fault(time.monotonic_ns(), fault, **what)

    async def _one(self) -> str:
        """A machine, often the leader."""
        if self._random.random() < _LEADER_SHARE:
            leader = await asyncio.to_thread(self._hosts.leader)
            if leader:
                return leader
        return self._random.choice(NODES)

    async def _kill(self) -> None:
        """One, two or all; each comes back after a while."""
        count = self._random.choices((1, 2, 3), (75, 15, 10))[0]
        victims = [await self._one()]
        others = [node for node in NODES if node not in victims]
        victims += self._random.sample(others, count - 1)
        ended = await asyncio.gather(*(self._hosts.kill(node) for node in victims))
        killed = [node for node, was_running in zip(victims, ended, strict=True) if was_running]
        self.counts[KILL] += len(killed)
        self._note(KILL, nodes=killed)
        self._random.shuffle(killed)
        for node in killed:
            await asyncio.sleep(self._random.choice((0.0, self._random.uniform(0.0, 1.5))))
            self._hosts.start(node)
        self._note("started", nodes=killed)

    async def _pause(self) -> None:
        """A machine stands still, for shorter or longer than an election."""
        node = await self._one()
        if not self._hosts.pause(node):
            return
        self.counts[PAUSE] += 1
        self._note(PAUSE, nodes=[node])
        await asyncio.sleep(self._random.uniform(0.1, self._random.choice((0.6, 4.0))))
        self._hosts.resume(node)
        self._note("resumed", nodes=[node])

    async def _partition(self) -> None:
        """Wires are cut one way or both ways."""
        what, wires = self._shape(await self._one())
        self.counts[PARTITION] += 1
        self._note(PARTITION, shape=what, wires=wires)
        await asyncio.to_thread(self._cut, wires)
        await asyncio.sleep(self._random.uniform(0.3, 4.0))
        await asyncio.to_thread(self._hosts.network.mend_all)
        self._note("mended")

    def _shape(self, node: str) -> tuple[str, _Wires]:
        """(its name, the wires to cut) around that machine."""
        others = [other for other in NODES if other != node]
        out = [(node, other) for other in others]
        back = [(other, node) for other in others]
        shapes: Sequence[tuple[str, _Wires]] = (
            ("two-way, one from two", out + back),
            ("two-way, one from all", [*out, *back, (node, CLIENTS), (CLIENTS, node)]),
            ("two-way, all from all", list(permutations(NODES, 2))),
            ("two-way, between two", [out[0], back[0]]),
            ("one-way, hears nobody", back),
            ("one-way, heard by nobody", out),
            ("one-way, heard by one", out[:1]),
            ("one-way, hears one less", back[:1]),
            ("one-way, answers no client", [(node, CLIENTS)]),
        )
        return self._random.choice(shapes)

    def _cut(self, wires: _Wires) -> None:
        for source, target in wires:
            self._hosts.network.cut(source, target)

    async def _full_disk(self) -> None:
        """The small disk fills up to the last byte or nearly, and is freed."""
        self.counts[FULL_DISK] += 1
        leave_bytes = self._random.choice((0, 0, 100_000, 6_000_000))
        self._note(FULL_DISK, nodes=[SMALL_DISK], leave_bytes=leave_bytes)
        self._hosts.fill_disk(leave_bytes)
        await asyncio.sleep(self._random.uniform(1.0, 5.0))
        self._hosts.free_disk()
        self._note("disk freed", nodes=[SMALL_DISK])

    async def _frozen_disk(self) -> None:
        """A disk hangs, for shorter or longer than a leader bears. Nothing without loop devices."""
        if not self._hosts.freezable:
            return
        node = self._random.choice(self._hosts.freezable)
        self.counts[FROZEN_DISK] += 1
        self._note(FROZEN_DISK, nodes=[node])
        await self._hosts.freeze(node)
        await asyncio.sleep(self._random.choice((1.0, 7.0)))
        self._hosts.thaw_all()
        self._note("disk thawed", nodes=[node])

    async def _wipe(self) -> None:
        """A machine comes back with an empty disk, and has to be a voter again before another one does: with
        two disks gone nothing that they alone hold could be there."""
        node = self._random.choice(NODES)
        for _ in range(2):  # what a node says of the configuration may not be committed yet
            if not await asyncio.to_thread(self._hosts.all_vote):
                return
            await asyncio.sleep(1.0)
        if self._hosts.is_frozen(node) or not await self._hosts.kill(node):
            return
        self._hosts.wipe(node)
        self.counts[WIPE] += 1
        self._note(WIPE, nodes=[node])
        await asyncio.sleep(self._random.uniform(0.0, 2.0))
        self._hosts.start(node)
        while not await asyncio.to_thread(self._hosts.all_vote) and not self._is_over(self.counts):
            await asyncio.sleep(_VOTES_LOOK_S)
        self._note("wiped one looked after", nodes=[node])
