"""What goes wrong in a run: each kind is a coroutine that breaks the world until a time, then mends it.

A kind leaves nothing broken behind: machines are up, wires whole, disks quick. In this release a seed
has one kind; the kinds know nothing of each other, so that several can run at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import permutations
from random import Random
from typing import Any

from tests.sim.net import Weather
from tests.sim.world import World

Fault = Callable[[World, Random, float], Coroutine[Any, Any, None]]

_ALL_AT_ONCE_SHARE = 0.25
_POWER_LOSS_SHARE = 0.8
_IN_THE_MIDDLE_SHARE = 0.5
_WHILE_STARTING_SHARE = 0.3
_OPERATIONS_AHEAD_MAX = 40


async def crash_restart(world: World, random: Random, until_s: float) -> None:
    """Machines lose power, alone or all at once, at any change of their disks, also while starting."""
    while world.loop.time() < until_s:
        await asyncio.sleep(random.uniform(0.05, 0.8))
        everybody = random.random() < _ALL_AT_ONCE_SHARE
        victims = list(world.machines) if everybody else [random.choice(world.machines)]
        loses_power = everybody or random.random() < _POWER_LOSS_SHARE
        if loses_power and random.random() < _IN_THE_MIDDLE_SHARE:
            for machine in victims:
                machine.crash_at_operation(random.randrange(_OPERATIONS_AHEAD_MAX))
            await asyncio.sleep(0.05)
        for machine in victims:
            if machine.is_up:
                world.crash(machine, loses_power)
        random.shuffle(victims)
        for machine in victims:
            await asyncio.sleep(random.choice((0.0, 0.02, random.uniform(0.0, 2.0))))
            is_next = random.random() < _WHILE_STARTING_SHARE
            await world.start(machine, random.randrange(_OPERATIONS_AHEAD_MAX) if is_next else None)
    for machine in world.machines:
        machine.disk.crash_at = None
        await world.start_until_up(machine)


async def partition_two_way(world: World, random: Random, until_s: float) -> None:
    """Groups of machines that can't reach each other."""
    while world.loop.time() < until_s:
        await asyncio.sleep(random.uniform(0.1, 1.5))
        side = {machine.name: random.randrange(3) for machine in world.machines}
        for one, other in permutations(sorted(side), 2):
            if side[one] != side[other]:
                world.network.cut(one, other)
        world.note("partition", *sorted(side.items()))
        await asyncio.sleep(random.uniform(0.1, 2.5))
        world.network.heal()
        world.note("heal")


async def partition_one_way(world: World, random: Random, until_s: float) -> None:
    """Wires that carry in one direction only."""
    ways = list(permutations(sorted(machine.name for machine in world.machines), 2))
    while world.loop.time() < until_s:
        await asyncio.sleep(random.uniform(0.1, 1.5))
        cuts = random.sample(ways, random.randrange(1, len(ways)))
        for way in cuts:
            world.network.cut(*way)
        world.note("cuts", *cuts)
        await asyncio.sleep(random.uniform(0.1, 2.5))
        world.network.heal()
        world.note("heal")


async def bad_weather(world: World, random: Random, until_s: float) -> None:
    """Messages get lost, doubled, late and overtaken."""
    while world.loop.time() < until_s:
        weather = Weather(
            delay_max_s=random.choice((0.001, 0.01, 0.05)),
            loss=random.choice((0.0, 0.02, 0.1, 0.3)),
            duplication=random.choice((0.0, 0.02, 0.2)),
            reorder=True,
        )
        world.network.weather = weather
        world.note("weather", weather)
        await asyncio.sleep(random.uniform(0.2, 3.0))
        if random.random() < 0.3:
            world.network.heal()
            await asyncio.sleep(random.uniform(0.1, 0.5))
    world.network.heal()


async def slow_disk(world: World, random: Random, until_s: float) -> None:
    """Disks and helpers that take their time, some of them longer than an election timeout."""
    while world.loop.time() < until_s:
        for machine in world.machines:
            slowness = random.choice((1, 1, 10, 50, 300))
            machine.pace.slowness = slowness
            world.note("pace", machine.name, slowness)
        await asyncio.sleep(random.uniform(0.3, 3.0))
    for machine in world.machines:
        machine.pace.slowness = 1


async def stalled_process(world: World, random: Random, until_s: float) -> None:
    """Processes that stand still for a while and go on as if nothing had happened, a leader first.

    Half of them come back to their clients earlier than to their peers: then only a confirmed read
    tells them that somebody else leads.
    """
    while world.loop.time() < until_s:
        await asyncio.sleep(random.uniform(0.05, 0.8))
        leader = world.leader()
        leading = leader.identity.node_id if leader is not None else ""
        victim = random.choice(world.machines)
        if random.random() < 0.6:
            victim = next((m for m in world.machines if m.name == leading), victim)
        process = victim.process
        assert process is not None
        world.note("stall", victim.name)
        process.stall()
        is_cut = random.random() < 0.5
        for machine in world.machines if is_cut else ():
            world.network.cut(victim.name, machine.name)
            world.network.cut(machine.name, victim.name)
        await asyncio.sleep(random.uniform(0.1, 2.0))
        process.resume()
        world.note("resume", victim.name)
        await asyncio.sleep(random.uniform(0.0, 0.5))
        world.network.heal()


KINDS: dict[str, Fault] = {
    "crash": crash_restart,
    "partition": partition_two_way,
    "one-way": partition_one_way,
    "weather": bad_weather,
    "slow-disk": slow_disk,
    "stall": stalled_process,
}


async def mixed(world: World, random: Random, until_s: float) -> None:
    """All kinds at once. Not drawn by any seed: it is asked for."""
    async with asyncio.TaskGroup() as group:
        for fault in KINDS.values():
            group.create_task(fault(world, Random(random.getrandbits(64)), until_s))


MIXED = "mixed"
