"""A node whose log was cut catches up: single situations that random runs rarely meet."""

from __future__ import annotations

from random import Random

from neumann.errors import OutcomeUnknown
from neumann.format.command import encode_put, pack_value
from neumann.runtime.sinks import FutureSink
from tests.sim.doors import Pace
from tests.sim.keeping import form
from tests.sim.machine import Machine
from tests.sim.world import World

LIMIT_S = 20.0


class _QuickHelper(Pace):
    """The slower the disk, the quicker the helper process."""

    def job_s(self, random: Random) -> float:
        return Pace.job_s(self, random) / self.slowness**2


def _put(key: int) -> bytes:
    return encode_put("t", f"{key:05d}", pack_value(key))


async def write(machine: Machine, keys: range) -> None:
    process, node = machine.process, machine.node
    assert process is not None and node is not None
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
