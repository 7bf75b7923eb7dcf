"""What an operator hears when machines are not equally quick."""

from __future__ import annotations

import asyncio

from neumann.format.times import time_text
from neumann.snapshot.publish import open_published
from tests.sim.world import World

LIMIT_S = 20.0


def test_a_snapshot_tells_its_own_time() -> None:
    """While a majority was waited for, the leader made the next snapshot, and its time was told."""
    world = World("time")

    async def script() -> None:
        for machine in world.machines:
            await world.start(machine)
        await world.until(world.is_formed, LIMIT_S, "three voters and a leader")
        leader = world.leader()
        assert leader is not None
        leading = next(m for m in world.machines if m.name == leader.identity.node_id)
        process, node = leading.process, leading.node
        assert process is not None and node is not None
        for machine in world.machines:
            machine.pace.slowness = 1 if machine is leading else 100
        first = process.spawn(node.snapshot())
        await asyncio.sleep(0.05)
        for one in (await process.call(node.snapshot()), await first):
            manifest = open_published(leading.disk, f"{leading.paths.snapshots}/{one['id']}")
            assert one["time"] == time_text(manifest.time_ns)

    with world:
        world.loop.run(script())
