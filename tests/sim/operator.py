"""An operator at work while things go wrong: snapshots, restore points, pauses that end early or expire.

What he is told must be so: a snapshot that was answered is published, complete, where the answer says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from neumann.errors import NeumannError
from neumann.format import names
from neumann.snapshot import publish
from tests.sim.checkers.layout import Layout
from tests.sim.checkers.violation import require
from tests.sim.loop import ProcessDied
from tests.sim.machine import Machine

TIMEOUT_S = 5.0
PAUSE_MAX_S = 0.5


class Operator:
    """One person, one command after the other, on any machine that is up."""

    def __init__(
        self,
        machines: list[Machine],
        random: Random,
        layout: Layout,
        note: Callable[..., None],
    ) -> None:
        self._machines = machines
        self._random = random
        self._layout = layout
        self._note = note
        self._points = 0

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Go on until then."""
        while not is_over():
            await asyncio.sleep(self._random.uniform(0.2, 1.5))
            machine = self._random.choice(self._machines)
            if machine.is_up and machine.node is not None:
                await self._act(machine)

    async def _act(self, machine: Machine) -> None:
        assert machine.node is not None and machine.process is not None
        process, node = machine.process, machine.node
        majority = self._majority()
        verb = self._random.choice(("snapshot", "snapshot", "pause", "restore_point"))
        said: dict[str, Any]
        try:
            match verb:
                case "snapshot":
                    said = await process.call(node.snapshot(TIMEOUT_S))
                    self._check_snapshot(said, majority)
                case "restore_point":
                    self._points += 1
                    said = await process.call(node.restore_point(f"point-{self._points}", TIMEOUT_S))
                case "pause":
                    said = await process.call(node.pause_writes(PAUSE_MAX_S, "sim", timeout_s=TIMEOUT_S))
                    await asyncio.sleep(self._random.uniform(0.0, 2 * PAUSE_MAX_S))
                    said = await process.call(node.resume_writes(TIMEOUT_S))
        except (NeumannError, ProcessDied) as error:
            self._note("operator failed", verb, machine.name, type(error).__name__, error)
        else:
            self._note("operated", verb, machine.name, said)

    def _majority(self) -> int:
        """Of the voters, as they surely were before the request: one while the cluster is formed."""
        members = [machine.node.member for machine in self._machines if machine.node is not None]
        voters = [len(m.raft.configuration.voters) for m in members if m is not None]
        return min(voters, default=1) // 2 + 1

    def _check_snapshot(self, said: dict[str, Any], majority: int) -> None:
        snapshot_id, holders = said["id"], said["durable_on"]
        require(len(holders) >= majority, f"snapshot {snapshot_id} is only on {holders}")
        for machine in self._machines:
            if machine.name in holders and machine.is_up:
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
