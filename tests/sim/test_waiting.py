"""What it costs to wait for a leader."""

from __future__ import annotations

import asyncio

from neumann.errors import NeumannError, Unavailable
from neumann.format.command import encode_put, pack_value
from tests.sim.keeping import form
from tests.sim.world import World

LIMIT_S = 20.0
WRITES = 300


def test_writes_that_wait_for_a_leader_cost_nothing_meanwhile() -> None:
    """Bug: each of them looked for itself, fifty times a second, and a busy cluster elected the slower."""
    world = World("waiting")

    async def script() -> None:
        leading = await form(world)
        alone = next(machine for machine in world.machines if machine is not leading)
        process, node, member = alone.process, alone.node, world.member(alone)
        assert process is not None and node is not None and member is not None
        ways = world.network.isolate(alone.name, (machine.name for machine in world.machines))
        await world.until(lambda: not member.raft.leader, LIMIT_S, "it knows of no leader")

        began = world.loop.steps
        await asyncio.sleep(1.0)
        quiet = world.loop.steps - began
        writes = [
            process.spawn(node.write(encode_put("t", f"k{number}", pack_value(number))))
            for number in range(WRITES)
        ]
        await asyncio.sleep(0.1)
        began = world.loop.steps
        await asyncio.sleep(1.0)
        assert world.loop.steps - began < quiet + WRITES

        for way in ways:
            world.network.mend(*way)
        ended = await asyncio.gather(*(process.call(_end(write)) for write in writes))
        assert not any(isinstance(end, NeumannError) for end in ended), ended[:3]

    with world:
        world.loop.run(script())


def test_a_wait_for_a_leader_ends() -> None:
    world = World("in vain")

    async def script() -> None:
        await form(world)
        alone = world.machines[0]
        process, node = alone.running
        world.network.isolate(alone.name, (machine.name for machine in world.machines))
        await asyncio.sleep(2.0)
        began_s = world.loop.time()
        end = await process.call(_end(process.spawn(node.write(encode_put("t", "k", pack_value(1))))))
        assert isinstance(end, Unavailable), end
        assert 4.9 < world.loop.time() - began_s < 5.2

    with world:
        world.loop.run(script())


async def _end(write: asyncio.Task[tuple[int, int]]) -> tuple[int, int] | NeumannError:
    try:
        return await write
    except NeumannError as error:
        return error
