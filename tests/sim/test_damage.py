"""A bit rots on a machine that is down: after its restart nothing wrong is served and nothing is lost."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from neumann.env.files import read_file
from neumann.errors import Corrupt
from neumann.format import names
from tests.sim.checkers.replicas import compare_rows
from tests.sim.keeping import keep_all_up, watch
from tests.sim.machine import Machine
from tests.sim.mending import mend
from tests.sim.rot import log_spots
from tests.sim.test_catching_up import LIMIT_S, formed, write
from tests.sim.world import World


def _segments(machine: Machine) -> list[str]:
    paths = machine.paths
    return [f"{paths.wal}/{n}" for n in machine.disk.list(paths.wal) if names.parse_segment(n)]


async def _damaged(world: World, victim: Machine, random: Random) -> None:
    """It crashes, a bit of a segment that holds something rots, and it starts again."""
    world.crash(victim, loses_power=random.random() < 0.5)
    if random.random() < 0.5:
        victim.disk = victim.disk.crash(random)
    path = random.choice(_segments(victim))
    file = victim.disk.open(path)
    used = len(file.pread(file.size(), 0).rstrip(b"\0"))
    at = random.randrange(max(1, used))
    if any(path == spot and at < end for spot, _, end in log_spots(victim)):
        victim.rotten[path] = "segment"
    else:
        world.promises.torn(victim.name)
    victim.disk.flip(path, at, random.randrange(8))
    world.note("rot", victim.name, path)
    await world.start(victim)


async def _scrubbed(world: World, machine: Machine) -> None:
    """It has read all its files, and mended them."""
    node, process = machine.node, machine.process
    assert node is not None and process is not None
    for _ in range(2):
        process.run(lambda: node.scrub(begin=True))
        await world.until(lambda: not node.scrub()["running"], LIMIT_S, "the scrub has ended")
    assert node.scrub()["unrepaired"] == 0, node.scrub()


@pytest.mark.parametrize("seed", range(4))
def test_a_flip_in_a_segment_of_one_machine_loses_nothing(seed: int) -> None:
    world = World(f"damage/{seed}")
    random = world.random("damage")

    async def script() -> None:
        first = await formed(world)
        await write(first, range(120))
        written = 120
        for _ in range(4):
            victim = world.leading() if random.random() < 0.4 else random.choice(world.machines)
            await _damaged(world, victim, random)
            await world.until(lambda: world.leader() is not None, LIMIT_S, "one leads")
            await write(world.leading(), range(written, written + 40))
            written += 40
            await world.until(world.is_converged, LIMIT_S, "all replicas equal")
        for machine in world.machines:
            await _scrubbed(world, machine)
            machine.made_whole()
        world.check_files(full=True)
        for machine in world.machines:
            member = world.member(machine)
            assert member is not None
            compare_rows(machine.name, member.store.view(), world.committed.model)
            assert member.store.view().count() == written

    with world:
        world.loop.run(script())


@pytest.mark.parametrize("kind", ["table", "snapshot", "slot", "segment", "manifest"])
def test_a_refusal_to_start_is_excused_only_by_damage_that_may_be_the_reason(kind: str) -> None:
    """One rotten bit of any kind excused every refusal to start of that machine."""
    world = World("damage/refuses")
    victim = world.machines[0]
    may_refuse = kind in ("segment", "manifest")

    async def script() -> None:
        await formed(world)
        world.crash(victim)
        victim.disk.flip(victim.paths.identity, 20, 3)
        victim.rotten[victim.paths.identity] = kind
        assert not await world.start(victim)

    with world:
        if may_refuse:
            world.loop.run(script(), LIMIT_S)
        else:
            with pytest.raises(Corrupt, match="identity"):
                world.loop.run(script(), LIMIT_S)
        assert world.counts["refused for rot"] == may_refuse


def test_what_rots_in_the_segment_that_is_written_to_is_read_too() -> None:
    """A machine was called whole since nothing that was read was damaged, and what had rotted was not read:
    the segment was not sealed yet (seed 1008358 at the time)."""
    world = World("damage/open")

    async def script() -> None:
        first = await formed(world)
        await write(first, range(40))
        victim = next(machine for machine in world.machines if machine is not first)
        await world.until(world.is_converged, LIMIT_S, "all replicas equal")
        path, _, end = log_spots(victim)[-1]
        victim.rotten[path] = "segment"
        victim.disk.flip(path, end - 1, 3)
        assert path == _segments(victim)[-1] and path == _segments(first)[-1]
        await mend(world)
        assert not victim.has_rotted and path != _segments(victim)[-1]
        assert read_file(victim.disk, path) == read_file(first.disk, path)

    with world:
        world.loop.run(script(), LIMIT_S)


def test_a_node_that_ends_while_it_reads_all_that_it_has_is_asked_again() -> None:
    """The world waited for ever for the scrub of a process that was gone (seed 100010 at the time)."""
    world = World("damage/ends")
    victim = world.machines[0]

    async def script() -> None:
        await write(await formed(world), range(40))
        mending = asyncio.create_task(mend(world))
        await asyncio.sleep(0.01)
        node = victim.node
        assert node is not None and node.scrub()["running"]
        world.crash(victim)
        await asyncio.sleep(0.2)
        await world.start(victim)
        await mending
        assert victim.node is not node and victim.node is not None
        assert victim.node.scrub()["last_success"] is not None

    with world:
        world.loop.run(script(), LIMIT_S)


def test_a_node_that_ends_again_and_again_for_what_nobody_can_mend_is_made_to_rejoin() -> None:
    """It said so each time, it was started again each time, and the world waited for it in vain."""
    world = World("damage/again")
    victim = world.machines[0]

    async def ends(storage_id: bytes) -> None:
        while True:
            await asyncio.sleep(0.01)
            node, process, member = victim.node, victim.process, world.member(victim)
            if node is None or process is None or member is None:
                continue
            if member.identity.storage_id == storage_id:
                process.run(node.host.fail, Corrupt("a table that no peer has is damaged"))

    async def script() -> None:
        await write(await formed(world), range(40))
        world.is_calm = True
        member = world.member(victim)
        assert member is not None
        victim.rotten["a table"] = "table"
        watching = [*keep_all_up(world), *watch(ends(member.identity.storage_id))]
        await mend(world)
        again = world.member(victim)
        assert again is not None and again.identity.storage_id != member.identity.storage_id
        for task in watching:
            task.cancel()

    with world:
        world.loop.run(script(), 60.0)
