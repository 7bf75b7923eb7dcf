"""The runs whose beginnings are tried: short, and with everything in them that a node does to its disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tests.crash.witness import LIMIT_S, Witness


async def alone(world: Witness) -> None:
    """A sole voter: formation, writes, seals, snapshots, a compaction, an archive, the log dropped behind it,
    published snapshots pruned, a restart of the process and an orderly one."""
    (machine,) = world.machines
    await world.formed()
    for _ in range(4):
        await world.write(machine, 7)
    await world.on(machine, lambda node: node.snapshot())
    await world.write(machine, 3, value_bytes=900)
    await world.on(machine, lambda node: node.archive_flush())
    world.crash(machine, loses_power=False)
    await world.start(machine)
    await world.until(world.is_formed, LIMIT_S, "it leads again")
    for _ in range(6):
        await world.write(machine, 7)
    await world.on(machine, lambda node: node.snapshot())
    await world.on(machine, lambda node: node.archive_flush())
    await world.settled()
    await world.write(machine, 7)
    await world.settled()
    await world.stop(machine)
    await world.start(machine)
    await world.until(world.is_formed, LIMIT_S, "it leads again")
    await world.write(machine, 2)
    await world.settled()


async def member(world: Witness) -> None:
    """One of three: it joins, follows, leads, is cut off with a tail that nobody has, has it cut, stays
    behind the log and installs a snapshot, and is stopped and started."""
    first, watched = world.node("n1"), world.watched
    await world.formed()
    await world.write(first, 9)
    await world.on(first, lambda node: node.leader_transfer(watched.name))
    if world.must_lead:
        await world.until(lambda: _leads(world, watched.name), LIMIT_S, "it leads")
    await world.write(watched, 9, value_bytes=200)
    await world.settled()
    world.isolate(watched.name, cut=True)
    lost = [asyncio.create_task(world.write_in_vain(watched)) for _ in range(6)]
    others_lead = lambda: not _leads(world, watched.name) and world.leader() is not None  # noqa: E731
    await world.until(others_lead, LIMIT_S, "another leads")
    leader = world.leading()
    await world.write(leader, 3)
    world.isolate(watched.name, cut=False)
    await world.write(leader, 2)
    await world.settled()
    for task in lost:
        await task
    world.isolate(watched.name, cut=True)
    await world.write(leader, 30)
    await world.on(leader, lambda node: node.snapshot())
    await world.write(leader, 3)
    world.isolate(watched.name, cut=False)
    await world.settled()
    await world.write(leader, 9)
    await world.settled()
    await world.stop(watched)
    await world.start(watched)
    await world.write(leader, 3)
    await world.settled()


RUNS: dict[str, tuple[Callable[[Witness], Coroutine[Any, Any, None]], int, str]] = {
    "alone": (alone, 1, "n1"),
    "member": (member, 3, "n3"),
}
"""Name -> (the run, how many nodes, who is watched)."""


W = TypeVar("W", bound=Witness)


def witness(name: str, seed: int = 1) -> Witness:
    """Run it; what was seen."""
    return live(name, make(Witness, name, seed))


def make(kind: type[W], name: str, seed: int) -> W:
    """A world of that kind for this run."""
    _, node_count, watched = RUNS[name]
    return kind(f"crash/{name}/{seed}", node_count, watched)


def live(name: str, world: W) -> W:
    """Let that world live through a run, and see that nothing was lost."""
    run, _, _ = RUNS[name]
    with world:
        world.loop.run(run(world), 300.0)
        world.finish_checks()
    return world


def _leads(world: Witness, name: str) -> bool:
    member = world.member(world.node(name))
    return member is not None and member.leads
