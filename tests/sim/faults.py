"""What goes wrong in a run: each kind is a coroutine that breaks the world until it is calm, then mends it.

A kind leaves nothing of its own broken behind: wires whole, disks quick and roomy. The kinds know nothing
of each other and run at once, as `trouble` mixes them. Machines that are down are brought up again by the
world (keeping.py), as a service manager and the person who runs the place do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import permutations
from random import Random
from typing import Any

from tests.sim.machine import Machine
from tests.sim.net import Weather
from tests.sim.rot import rot as flip_a_bit
from tests.sim.world import World

CLOCK_STEP, CLOCK_DRIFT = "clock step", "clock drift"
CLOCK_FAULTS = (CLOCK_STEP, CLOCK_DRIFT)

Fault = Callable[[World, Random], Coroutine[Any, Any, None]]

_ALL_AT_ONCE_SHARE = 0.25
_POWER_LOSS_SHARE = 0.8
_IN_THE_MIDDLE_SHARE = 0.5
_OPERATIONS_AHEAD_MAX = 40
_REST_FACTORS = {1: 0.4, 2: 0.6, 3: 0.8}
"""The more kinds there are at once, the slower each goes on: a cluster that never leads proves little."""
_RARE_SHARE = 0.2
_FILES_TO_FAIL = ("", "/raft/wal", "/raft/vote", "/raft/sync", "/store", "/snapshots")


async def crash(world: World, random: Random) -> None:
    """Machines lose power, alone or all at once, at any change of their disks, or their process is killed."""
    while not world.is_calm:
        await world.rest(random.uniform(0.05, 0.8))
        everybody = random.random() < _ALL_AT_ONCE_SHARE
        loses_power = everybody or random.random() < _POWER_LOSS_SHARE
        in_the_middle = loses_power and random.random() < _IN_THE_MIDDLE_SHARE
        for machine in list(world.machines) if everybody else [random.choice(world.machines)]:
            if not machine.is_up:
                continue
            if in_the_middle:
                world.fault("crash ahead", machine.name)
                machine.crash_at_operation(random.randrange(_OPERATIONS_AHEAD_MAX))
            else:
                world.crash(machine, loses_power)


async def partition(world: World, random: Random) -> None:
    """Groups of machines that can't reach each other."""

    def ways() -> list[tuple[str, str]]:
        side = {machine.name: random.randrange(3) for machine in world.machines}
        return [(a, b) for a, b in permutations(sorted(side), 2) if side[a] != side[b]]

    await _cut_again_and_again(world, random, "partition", ways)


async def one_way(world: World, random: Random) -> None:
    """Wires that carry in one direction only."""
    all_ways = list(permutations(_names(world), 2))
    await _cut_again_and_again(
        world, random, "one-way", lambda: random.sample(all_ways, random.randrange(1, len(all_ways)))
    )


async def partial(world: World, random: Random) -> None:
    """Any graph: two machines that don't reach each other while a third reaches both."""
    pairs = [(a, b) for a, b in permutations(_names(world), 2) if a < b]

    def ways() -> list[tuple[str, str]]:
        return [
            way for a, b in random.sample(pairs, random.randrange(1, len(pairs))) for way in ((a, b), (b, a))
        ]

    await _cut_again_and_again(world, random, "partial", ways)


async def _cut_again_and_again(
    world: World, random: Random, kind: str, ways: Callable[[], list[tuple[str, str]]]
) -> None:
    while not world.is_calm:
        await world.rest(random.uniform(0.1, 1.5))
        cuts = ways()
        if not cuts:
            continue
        world.fault(kind, *cuts)
        for way in cuts:
            world.network.cut(*way)
        await world.rest(random.uniform(0.1, 2.5))
        for way in cuts:
            world.network.mend(*way)
        world.note("mended", kind)


async def weather(world: World, random: Random) -> None:
    """Messages get lost, doubled, late and overtaken."""
    while not world.is_calm:
        world.network.weather = Weather(
            delay_max_s=random.choice((0.001, 0.01, 0.05)),
            loss=random.choice((0.0, 0.02, 0.1, 0.3)),
            duplication=random.choice((0.0, 0.02, 0.2)),
            reorder=True,
        )
        world.fault("weather", world.network.weather)
        await world.rest(random.uniform(0.2, 3.0))
        if random.random() < 0.3:
            world.network.weather = Weather()
            await world.rest(random.uniform(0.1, 0.5))
    world.network.weather = Weather()


async def slow_disk(world: World, random: Random) -> None:
    """Disks and helpers that take their time, some of them longer than an election timeout."""
    while not world.is_calm:
        for machine in world.machines:
            slowness = random.choice((1, 1, 10, 50, 300))
            if slowness > 1:
                world.fault("slow disk", machine.name, slowness)
            machine.pace.slowness = slowness
        await world.rest(random.uniform(0.3, 3.0))
    for machine in world.machines:
        machine.pace.slowness = 1


async def stall(world: World, random: Random) -> None:
    """Processes that stand still for a while and go on as if nothing had happened, a leader first.

    Half of them come back to their clients earlier than to their peers: then only a confirmed read
    tells them that somebody else leads.
    """
    while not world.is_calm:
        await world.rest(random.uniform(0.05, 0.8))
        victim = _victim(world, random, leader_share=0.6)
        process = victim.process
        if process is None or not process.is_alive:
            continue
        world.fault("stall", victim.name)
        process.stall()
        is_cut = random.random() < 0.5
        ways = [
            way
            for name in (_names(world) if is_cut else ())
            for way in ((victim.name, name), (name, victim.name))
        ]
        for way in ways:
            world.network.cut(*way)
        await world.rest(random.uniform(0.1, 2.0))
        process.resume()
        world.note("resume", victim.name)
        await world.rest(random.uniform(0.0, 0.5))
        for way in ways:
            world.network.mend(*way)


async def failed_sync(world: World, random: Random) -> None:
    """An fsync fails, and what it was to write is lost: the node must stop (R9)."""
    while not world.is_calm:
        await world.rest(random.uniform(0.2, 1.5))
        victim = _victim(world, random, leader_share=0.4)
        if victim.is_up:
            part = random.choice(_FILES_TO_FAIL)
            world.fault("failed sync", victim.name, part)
            victim.disk.fail_sync(part)
    for machine in world.machines:
        machine.disk.heal()
    world.reboot_read_only()


async def full_disk(world: World, random: Random) -> None:
    """A disk has little or no room left for a while, of one machine or of several."""
    while not world.is_calm:
        await world.rest(random.uniform(0.2, 1.5))
        victims = random.sample(world.machines, random.choice((1, 1, 2, len(world.machines))))
        for machine in victims:
            left = random.choice((0, 100, 4 * 1024, 30 * 1024, 200 * 1024))
            world.fault("full disk", machine.name, left)
            machine.is_full = True
            machine.disk.capacity_bytes = machine.disk.used_bytes() + left
        await world.rest(random.uniform(0.2, 2.0))
        for machine in victims:
            machine.disk.heal()
            machine.is_full = False
            world.note("room again", machine.name)


async def clock(world: World, random: Random) -> None:
    """Wall clocks step, and run too fast or too slow."""
    while not world.is_calm:
        await world.rest(random.uniform(0.1, 1.5))
        machine = random.choice(world.machines)
        if random.random() < 0.5:
            step_ns = round(random.choice((-1, 1)) * 10 ** random.uniform(6, 10.5))
            world.fault(CLOCK_STEP, machine.name, step_ns)
            machine.clock.skew_ns += step_ns
        else:
            rate = random.choice((0.5, 0.9, 1.0, 1.1, 2.0))
            world.fault(CLOCK_DRIFT, machine.name, rate)
            machine.clock.drift(rate)
    for machine in world.machines:
        machine.clock.set_right()


async def wipe(world: World, random: Random) -> None:
    """A disk is replaced by an empty one. R1: never a second one before the first has everything again."""
    while not world.is_calm:
        await world.rest(random.uniform(0.5, 1.5))
        if not world.has_spare():
            continue
        victim = _victim(world, random, leader_share=0.4)
        world.fault("wipe", victim.name)
        world.wipe(victim)


async def rot(world: World, random: Random) -> None:
    """Bits rot, of one machine only, from when all the others have what is committed (R8)."""
    victim = random.choice(world.machines)
    while not world.is_calm:
        await world.rest(random.uniform(0.2, 1.5))
        if not (victim.has_rotted or world.has_spare()):
            continue
        path = flip_a_bit(victim, random, leads=world.leader() in (None, world.member(victim)))
        if path:
            world.fault("rot", victim.name, path)


KINDS: dict[str, Fault] = {
    "crash": crash,
    "partition": partition,
    "one-way": one_way,
    "partial": partial,
    "weather": weather,
    "slow-disk": slow_disk,
    "stall": stall,
    "failed-sync": failed_sync,
    "full-disk": full_disk,
    "clock": clock,
    "wipe": wipe,
    "rot": rot,
}
"""By name, as `scripts/sim --kinds` takes them."""
RARE = ("wipe",)
"""What takes a cluster so long to bear that other kinds must fill the time."""


def draw(random: Random) -> tuple[str, ...]:
    """The kinds of one seed: mostly a few, sometimes one alone or all together."""
    often = [kind for kind in KINDS if kind not in RARE]
    count = random.choice((1, 2, 2, 3, 3, 4, 5, len(often)))
    chosen = set(random.sample(often, count))
    chosen.update(kind for kind in RARE if random.random() < _RARE_SHARE)
    return tuple(kind for kind in KINDS if kind in chosen)


async def trouble(world: World, kinds: tuple[str, ...]) -> None:
    """All of these kinds at once, until the world is calm."""
    world.rest_factor = _REST_FACTORS.get(len(kinds), len(kinds) / 3)
    async with asyncio.TaskGroup() as group:
        for kind in kinds:
            group.create_task(KINDS[kind](world, world.random(f"faults/{kind}")))


def _names(world: World) -> list[str]:
    return sorted(machine.name for machine in world.machines)


def _victim(world: World, random: Random, leader_share: float) -> Machine:
    """Any machine, the leader's with preference."""
    leader = world.leader()
    leading = leader.identity.node_id if leader is not None else ""
    victim = random.choice(world.machines)
    if random.random() < leader_share:
        victim = next((m for m in world.machines if m.name == leading), victim)
    return victim
