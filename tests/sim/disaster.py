"""A disaster, and the way back: everything stops, one machine is restored from the archive as a new timeline.

The others come back as they were, with data of the timeline that was left: they are told so, and neither
vote nor lead, serve or archive (checkers/timelines.py). One after the other is made to join anew; who gave
its state up just before has nothing of that timeline, and joins by itself. Called by scenario.py, with a
whole network; faults go on while the last one is still as it was.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

from neumann.env.doors import Env
from neumann.errors import NotFound, Unavailable
from neumann.recovery import swap
from neumann.recovery.prepare import Request, plan_restore
from neumann.recovery.restore import Report, restore
from neumann.recovery.targets import Target, parse_target
from neumann.store.manifests import load_newest
from tests.sim.checkers.violation import require
from tests.sim.disk import SimCrash
from tests.sim.machine import Machine
from tests.sim.settings import ARCHIVE
from tests.sim.world import World

STARTED_LIMIT_S = 20.0
WATCHED_S = 2.0
AGAIN = "run it again"
"""The remedy that a person follows without a thought."""
_LATEST_SHARE = 0.6
_CRASH_SHARE = 0.5
_OPERATIONS_AHEAD_MAX = 120
_TYPED_AGAIN_S = 0.05


async def strike(world: World, random: Random) -> Machine:
    """Stop everything, restore one machine, bring back the others; the one that is still as it was."""
    for machine in world.machines:
        machine.is_held = True
        if machine.is_up:
            world.crash(machine, random.random() < 0.5)
    world.check_files()
    order = random.sample(world.machines, len(world.machines))
    first, *others = order
    report = await _restore(world, random, first)
    base = load_newest(first.disk, first.paths.store)
    assert base is not None
    world.restored(report.restored.reached_index, base.history.base)
    world.note("restored", first.name, report.restored.timeline, report.restored.reached_index)
    stale = [machine for machine in others if _has_vote(machine)]
    require(bool(stale), "a majority gave its state up")
    for machine in stale:
        machine.is_stale = True
    await world.start(first)
    first.is_held = False
    await world.until(lambda: world.leader() is not None, STARTED_LIMIT_S, "the restored node leads")
    for machine in others:
        machine.is_held = False
    await asyncio.sleep(random.uniform(0.0, WATCHED_S))
    for machine in stale[:-1]:
        await rejoin(world, machine)
    return stale[-1]


def _has_vote(machine: Machine) -> bool:
    """Whether its next start finds a vote; a rejoin that had begun, answered or not, is finished by then."""
    disk = machine.disk.fork()
    swap.finish_or_undo(disk, machine.paths.root)
    return disk.exists(machine.paths.vote)


async def rejoin(world: World, machine: Machine) -> None:
    """`neumann-admin rejoin` on a stopped node, and a start: it joins without state."""
    machine.is_held = True
    if machine.is_up:
        world.crash(machine, loses_power=False)
    while not world.set_aside(machine):
        await asyncio.sleep(_TYPED_AGAIN_S)
    machine.is_held = False


async def _restore(world: World, random: Random, machine: Machine) -> Report:
    """wal-replay there, again after each crash on the way, and where it says so: what a crash had left of a
    swap was finished first, and that was not what had been asked for."""
    target = _target(world, random)
    world.note("restore", machine.name, target.text)
    config = machine.config
    request = Request(
        target,
        config.node.data_dir,
        config.node.id,
        machine.address,
        peers={peer: at for peer, at in config.node.peers.items() if peer != machine.name},
        wal_dir=ARCHIVE,
        block_bytes=config.store.block_bytes,
        segment_bytes=config.wal.segment_bytes_max,
    )
    while True:
        process = machine.power_on()
        env = machine.env(process)
        if random.random() < _CRASH_SHARE:
            world.fault("crash ahead", machine.name)
            machine.crash_at_operation(random.randrange(_OPERATIONS_AHEAD_MAX))

        try:
            report = await process.call(_replay(env, request))
        except SimCrash:
            process.kill()
            continue
        except Unavailable as error:
            if error.remedy != AGAIN:
                raise
            world.note("restore again", machine.name, error)
            machine.exit()
            continue
        except NotFound as error:  # of latest, where nothing was archived yet
            require(not world.archive.last.index, f"the archive has a log, and the restore says {error}")
            world.note("restore the snapshot alone", machine.name, error)
            request = replace(request, target=parse_target(until_index=_snapshot_index(error)))
            machine.exit()
            continue
        machine.exit()
        machine.disk.heal()
        _check(world, request.target, report)
        return report


def _snapshot_index(error: NotFound) -> int:
    """The state that its remedy names."""
    index = error.detail["snapshot_index"]
    assert isinstance(index, int)
    return index


async def _replay(env: Env, request: Request) -> Report:
    return await restore(env, plan_restore(env, request))


def _target(world: World, random: Random) -> Target:
    """The end of the archive, or some entry in it."""
    last = world.archive.last.index
    if random.random() < _LATEST_SHARE or not last:
        return parse_target(until="latest")
    return parse_target(until_index=random.randrange(last // 2, last + 1))


def _check(world: World, target: Target, report: Report) -> None:
    """Latest is no less than the archive has; an index is that index."""
    index = report.restored.reached_index
    if target.index:
        require(index == target.index, f"asked for {target.text}, restored to {index}")
    else:
        last = world.archive.last.index
        require(index >= last, f"restored to {index}, and the archive ends at {last}")
