"""A node whose log was cut catches up: single situations that random runs rarely meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from neumann.config import Config
from neumann.errors import OutcomeUnknown
from neumann.format.command import encode_put, pack_value
from neumann.runtime.node import Node
from neumann.runtime.sinks import FutureSink
from tests.sim.doors import Pace
from tests.sim.keeping import form
from tests.sim.machine import Machine
from tests.sim.settings import make_config
from tests.sim.world import World

LIMIT_S = 20.0


class _QuickHelper(Pace):
    """The slower the disk, the quicker the helper process."""

    def job_s(self, random: Random) -> float:
        return Pace.job_s(self, random) / self.slowness**2


def _put(key: int) -> bytes:
    return encode_put("t", f"{key:05d}", pack_value(key))


async def write(machine: Machine, keys: range) -> None:
    process, node = machine.running
    for key in keys:
        await process.call(node.write(_put(key)))


async def formed(world: World) -> Machine:
    """Start everything; the leader's machine."""
    for machine in world.machines:
        machine.pace = _QuickHelper()
    return await form(world)


def _snapshots(world: World) -> int:
    """How many different ones are the newest of a machine; 0 unless all have one."""
    members = [world.member(machine) for machine in world.machines]
    newest = {m.snapshots.newest for m in members if m is not None}
    return len(newest) if min(index for index, _ in newest) else 0


async def _run(machine: Machine, ask: Callable[[Node], Coroutine[Any, Any, object]]) -> None:
    """An operator's command, typed on that machine."""
    process, node = machine.running
    await process.call(ask(node))


def test_a_flush_waits_for_the_log_that_replaced_another() -> None:
    """How far the log was durable was remembered across a truncation, so the flush of a marker among the
    new frames began before they were written, found the log damaged, and the node stopped (R16)."""
    world = World("flush")

    async def script() -> None:
        old = await formed(world)
        world.network.isolate(old.name, (machine.name for machine in world.machines))
        assert old.process is not None and old.node is not None
        never_committed = [_put(key) for key in range(1000)]
        sink = FutureSink()
        old.process.run(old.node.submit_writes, sink, range(1000), never_committed)
        await world.until(
            lambda: (m := world.member(old)) is not None and m.raft.role != "leader", LIMIT_S, "it steps down"
        )
        await world.until(lambda: world.leader() is not None, LIMIT_S, "another leads")
        new = world.leading()
        await write(new, range(20))
        assert new.process is not None and new.node is not None
        await new.process.call(new.node.snapshot())
        assert isinstance(sink.future.exception(), OutcomeUnknown)
        old.pace.slowness = 50
        world.network.heal()
        await world.until(lambda: _snapshots(world) == 1, LIMIT_S, "the same snapshot everywhere")
        world.check_files()

    with world:
        world.loop.run(script())


def test_a_follower_whose_configuration_does_not_name_its_leader() -> None:
    """Bug: one that was away since before its leader became a member asked that leader for no snapshot, so it
    stood still for as long as that one led, and sent it no client's write."""
    world = World("unnamed", configure=_cut_at_once)

    async def script() -> None:
        await form(world)
        first, later, away = world.machines
        # Voters come in pairs: `away`, alone, comes back as a learner.
        await _run(first, lambda node: node.member_remove(later.name))
        await _run(first, lambda node: node.member_remove(away.name))
        await _run(first, lambda node: node.member_add(away.name, away.address))
        await world.until(lambda: _has_joined(world, away), LIMIT_S, "it is a learner")
        world.crash(away)
        await _run(first, lambda node: node.member_add(later.name, later.address))
        await world.until(lambda: _has_joined(world, later), LIMIT_S, "another, unread of")
        # `away` follows it as a voter at once: this promotion, done before, was told as of unknown outcome.
        await _run(first, lambda node: node.member_promote(later.name))
        await _run(first, lambda node: node.leader_transfer(later.name))
        await write(later, range(100))
        await _run(later, lambda node: node.snapshot())
        await write(later, range(100))
        await _run(later, lambda node: node.snapshot())

        await world.start(away)
        away.pace.slowness = 20
        await world.until(lambda: _follows(world, away) == later.name, LIMIT_S, "it hears the leader")
        assert not _is_named(world, away, later)
        await write(away, range(1))
        assert not _is_named(world, away, later)
        await world.until(lambda: _is_named(world, away, later), LIMIT_S, "it has read of the leader")
        await world.until(world.is_formed, LIMIT_S, "it is a voter")

    with world:
        world.loop.run(script())


def _cut_at_once(name: str, peers: dict[str, str], random: Random, is_archived: bool) -> Config:
    config = make_config(name, peers, random, is_archived)
    wal = dataclasses.replace(config.wal, retain_entries=0, archive_command="")
    return dataclasses.replace(config, wal=wal)


def _follows(world: World, machine: Machine) -> str:
    member = world.member(machine)
    return member.raft.leader if member is not None else ""


def _has_joined(world: World, machine: Machine) -> bool:
    """Whether it follows, and knows that it is a member with the storage that it has."""
    member = world.member(machine)
    known = member.raft.configuration.member(machine.name) if member is not None else None
    return member is not None and known is not None and known.storage_id == member.identity.storage_id


def _is_named(world: World, by: Machine, machine: Machine) -> bool:
    """Whether the configuration that `by` has names that machine."""
    member = world.member(by)
    return member is not None and member.raft.configuration.member(machine.name) is not None
