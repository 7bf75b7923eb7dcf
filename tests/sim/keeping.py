"""Who starts machines, at first and when they are down: a service manager, and the person who runs the place.

Started by scenario.py beside all trouble; what a watcher meets fails the run. `form` is for tests of
single situations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tests.sim.machine import Machine
from tests.sim.world import World

FORMED_S = 20.0
_REBOOTED_SHARE = 0.5
_CRASH_WHILE_STARTING_SHARE = 0.15
_OPERATIONS_AHEAD_MAX = 60


async def form(world: World) -> Machine:
    """Start every machine, and wait for the cluster of all; the leader's."""
    for machine in world.machines:
        await world.start(machine)
    await world.until(world.is_formed, FORMED_S, "three voters and a leader")
    return world.leading()


def keep_all_up(world: World) -> list[asyncio.Task[None]]:
    """Keep each machine up, until these are cancelled."""
    return watch(*(_keep_up(world, machine) for machine in world.machines))


def watch(*watchers: Coroutine[Any, Any, None]) -> list[asyncio.Task[None]]:
    """Run these until they are cancelled; what one of them raises fails the run."""
    tasks = [asyncio.create_task(watcher) for watcher in watchers]
    for task in tasks:
        task.add_done_callback(lambda ended: None if ended.cancelled() else ended.result())
    return tasks


async def _keep_up(world: World, machine: Machine) -> None:
    """Start it whenever it is down. While there is trouble that takes a while, and some starts end in the
    next crash. In calm times the remedy of a node that refuses is followed."""
    random = world.random(f"{machine.name}/starts")
    while True:
        await asyncio.sleep(0.05)
        if not machine.is_down():
            continue
        if not world.is_calm:
            await asyncio.sleep(random.choice((0.0, 0.02, random.uniform(0.0, 2.0))))
        if not machine.is_down():
            continue
        if world.is_calm and machine.was_refused and not world.set_aside(machine):
            continue
        must_reboot = machine.disk.is_read_only
        if not machine.disk.is_dead and (must_reboot or random.random() < _REBOOTED_SHARE):
            machine.disk = machine.disk.crash(random)
        is_next = not world.is_calm and random.random() < _CRASH_WHILE_STARTING_SHARE
        await world.start(machine, random.randrange(_OPERATIONS_AHEAD_MAX) if is_next else None)
