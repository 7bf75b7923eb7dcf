"""An operator at work while things go wrong: snapshots, restore points, pauses that end early or expire,
leadership transfers, scrubs, members that are removed and taken in again, nodes that are made to rejoin.

What he is told must be so: a snapshot that was answered is published, complete, where the answer says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from neumann.errors import DiskFull, NeumannError, RefusedByState, StorageFailed
from neumann.format import names
from neumann.runtime.node import Node
from neumann.snapshot import publish
from tests.sim.checkers.layout import Layout
from tests.sim.checkers.violation import require
from tests.sim.loop import Process, ProcessDied
from tests.sim.machine import Machine

TIMEOUT_S = 5.0
PAUSE_MAX_S = 0.5
SETTLE_S = 0.5
_TWO_SHARE = 0.4


class Operator:
    """One person, one command after the other, on any machine that is up.

    `removed` is no member now, or may not be one. Nobody is removed where `has_spare` says that a disk is
    missing: two losses at once are more than a majority bears.
    """

    def __init__(
        self,
        machines: list[Machine],
        random: Random,
        layout: Layout,
        note: Callable[..., None],
        has_spare: Callable[[], bool],
    ) -> None:
        self._machines = machines
        self._random = random
        self._layout = layout
        self._note = note
        self._has_spare = has_spare
        self._points = 0
        self.removed = ""
        self._was_refused = False

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Go on until then; whoever was removed is a member again at the end."""
        while not is_over():
            await asyncio.sleep(self._random.uniform(0.1, 0.8))
            machine = self._random.choice(self._machines)
            if machine.is_up and machine.node is not None:
                await self._act(machine)
        while self.removed:
            await asyncio.sleep(SETTLE_S)
            machine = self._random.choice(self._machines)
            if machine.is_up and machine.node is not None:
                await self._run("add", machine)

    async def _act(self, machine: Machine) -> None:
        verbs = ["snapshot", "snapshot", "pause", "restore_point", "transfer", "scrub"]
        if self.removed:
            verbs.append("add")
        elif self._has_spare():
            verbs.append("remove")
        if not machine.is_stale and all(machine is m or not m.has_rotted for m in self._machines):
            verbs.append("rejoin")
        verb = self._random.choice(verbs)
        if verb == "rejoin" and self._random.random() < _TWO_SHARE:
            await self._rejoin_two(machine)
        else:
            await self._run(verb, machine)

    async def _rejoin_two(self, machine: Machine) -> None:
        """Typed on two machines at once: the product has to know that one of them, at most, can be spared."""
        able = [m for m in self._machines if m.is_up and m.node is not None and not m.is_stale]
        others = [m for m in able if m is not machine and not machine.has_rotted]
        two = [machine, self._random.choice(others)] if others else [machine]
        await asyncio.gather(*(self._run("rejoin", one) for one in two))

    async def _run(self, verb: str, machine: Machine) -> None:
        process, node = machine.running
        try:
            if verb == "rejoin":
                said = await self._rejoin(machine, process, node)
            else:
                said = await self._do(verb, process, node)
        except (NeumannError, ProcessDied) as error:
            self._note("operator failed", verb, machine.name, type(error).__name__, error)
        else:
            self._note("operated", verb, machine.name, said)
            self._note(f"operator's {verb}")

    async def _do(self, verb: str, process: Process, node: Node) -> dict[str, Any]:
        said: dict[str, Any]
        match verb:
            case "snapshot":
                majority = self._majority()
                disks = {machine.name: machine.disks for machine in self._machines}
                said = await process.call(node.snapshot(TIMEOUT_S))
                self._check_snapshot(said, majority, disks)
            case "restore_point":
                self._points += 1
                said = await process.call(node.restore_point(f"point-{self._points}", TIMEOUT_S))
            case "pause":
                said = await process.call(node.pause_writes(PAUSE_MAX_S, "sim", timeout_s=TIMEOUT_S))
                await asyncio.sleep(self._random.uniform(0.0, 2 * PAUSE_MAX_S))
                said = await process.call(node.resume_writes(TIMEOUT_S))
            case "scrub":
                said = process.run(lambda: node.scrub(begin=True))
            case "transfer":
                to = self._random.choice(self._machines).name
                said = await process.call(node.leader_transfer(to, TIMEOUT_S))
            case "remove":
                # Told or not, it may have been done.
                self.removed = self._random.choice(self._machines).name
                said = await process.call(node.member_remove(self.removed))
            case "add":
                said = await self._take_in(process, node)
        return said

    async def _rejoin(self, machine: Machine, process: Process, node: Node) -> dict[str, Any]:
        """Whether this node's state can be spared, the product has to know; so it is asked at any time, but
        for damage on another machine, which nobody may have seen yet. Where the disk failed on the way, it
        may be done, or will be."""
        asked_before, machine.asked_to_rejoin = machine.asked_to_rejoin, process
        try:
            said: dict[str, Any] = await process.call(node.rejoin())
        except NeumannError as error:
            if isinstance(error, DiskFull | StorageFailed):
                machine.asked_to_rejoin = process
            elif machine.may_be_new:
                machine.asked_to_rejoin = asked_before
            raise
        except ProcessDied:
            machine.asked_to_rejoin = process
            raise
        machine.asked_to_rejoin = (
            process  # it may have become a member since it was asked, and this is behind it
        )
        return said

    async def _take_in(self, process: Process, node: Node) -> dict[str, Any]:
        """A request to remove it may still be under way: only who is a member twice is one again."""
        again = next(machine for machine in self._machines if machine.name == self.removed)
        try:
            said = await process.call(node.member_add(again.name, again.address))
        except RefusedByState as error:
            said = {"refused": str(error)}
            if self._was_refused:
                self.removed = ""
            self._was_refused = not self._was_refused
        return said

    def _majority(self) -> int:
        """Of the voters, as they surely were before the request: one while the cluster is formed."""
        members = [machine.node.member for machine in self._machines if machine.node is not None]
        voters = [len(m.raft.configuration.voters) for m in members if m is not None]
        return min(voters, default=1) // 2 + 1

    def _check_snapshot(self, said: dict[str, Any], majority: int, disks: dict[str, int]) -> None:
        snapshot_id, holders = said["id"], said["durable_on"]
        require(len(holders) >= majority, f"snapshot {snapshot_id} is only on {holders}")
        for machine in self._machines:
            is_whole = machine.is_up and not (machine.has_rotted or machine.may_be_new)
            if machine.name in holders and is_whole and machine.disks == disks[machine.name]:
                published = publish.list_published(machine.disk, machine.paths.snapshots)
                found = next((p for p in published if p.id == snapshot_id), None)
                require(
                    found is not None and found.complete,
                    f"snapshot {snapshot_id} was answered, and {machine.name} has {found}",
                )
        name = f"{names.manifest_name(*map(int, snapshot_id.split('-')))}"
        for key, (digest, where) in self._layout.digests.items():
            if key.endswith(f"/{name}"):
                require(digest.hex() == said["digest"], f"snapshot {snapshot_id} is another on {where}")
