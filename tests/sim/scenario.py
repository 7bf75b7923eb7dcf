"""One run: form a cluster, break it for a while under load, mend it, and demand that it recovers.

Safety is checked all the time; liveness at the end: once everything is mended, clients are served again
and all replicas become equal within a bounded time. Each run has at least OPERATIONS_MIN client operations
and FAULTS_MIN faults. Called by test_sim.py and by campaign.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from neumann.errors import OutcomeUnknown, RefusedByState, Unavailable
from neumann.runtime.node import Node
from tests.sim.clients import THINK_S, Client
from tests.sim.disaster import rejoin, strike
from tests.sim.faults import CLOCK_FAULTS, RARE, draw, trouble
from tests.sim.keeping import keep_all_up, watch
from tests.sim.loop import ProcessDied
from tests.sim.mending import REMEDY_S, mend, move_damaged_away
from tests.sim.operator import PAUSE_MAX_S
from tests.sim.world import World

CLIENT_COUNT = 7
READER_COUNT = 3
OPERATIONS_MIN = 2000
OPERATIONS_IN_TROUBLE = 1200
FAULTS_MIN = 20
THINK_AHEAD_S = 20 * THINK_S
"""What clients think who are further on than the faults: a seed has enough of both, and little more."""
CALM_S = 0.5
EARLY_SHARE = 0.25
"""Of the seeds, those where trouble begins before the cluster is formed."""
DISASTER_SHARE = 0.3
"""Of the seeds with an archive, those that end in a restore from it."""
UNARCHIVED_S = 0.4
TROUBLE_MIN_S, TROUBLE_MAX_S = 3.0, 30.0
"""The end comes after the maximum even where clients got little done."""
RECOVERY_LIMIT_S = 20.0
AGAIN_S = 0.1
RUN_LIMIT_S = 300.0

EVENTS = (
    "leader changes",
    "truncated",
    "installed",
    "repaired",
    "let go",
    "floors",
    "crash",
    "power losses",
    "stopped by itself",
    "snapshots",
    "segments",
    "archived",
    "operated",
    "operator's remove",
    "operator's add",
    "operator's transfer",
    "operator's pause",
    "operator's rejoin",
    "restores",
)
"""What a report counts beside the clients' operations and each kind of fault."""
EXCUSED = ("refused for rot", "stopped for rot")
"""What is told where it happens: a node may do that, and need not."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run was: the same for the same seed, everywhere. `digest` is over the whole trace.

    `steps` are callbacks of the event loop, the simulated events; `counts` says what happened how often.
    """

    seed: int
    kinds: tuple[str, ...]
    digest: str
    steps: int
    virtual_s: float
    operations: int
    counts: Mapping[str, int]

    def __str__(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        return (
            f"seed {self.seed} {'+'.join(self.kinds)}: {self.operations} operations"
            f" in {self.virtual_s:.3f} s, {self.steps} steps, {told}, {self.digest}"
        )


def run(seed: int, kinds: tuple[str, ...] = (), *, keep_trace: bool = False) -> Report:
    """One seed, with the fault kinds that it draws or with these.

    Raises what broke, with the way to repeat it as a note.
    """
    world = World(f"{seed}/{'+'.join(kinds)}", keep_trace=keep_trace)
    drawn = kinds or draw(world.random("kinds"))
    began_s = world.loop.time()
    with world:
        try:
            world.loop.run(_script(world, drawn), RUN_LIMIT_S)
        except BaseException as caught:
            error = _innermost(caught)
            only = f" --kinds {','.join(kinds)}" if kinds else ""
            error.add_note(f"repeat it with: scripts/sim --seeds {seed}{only}")
            error.add_note(f"at {world.loop.time() - began_s:.6f} s, {'+'.join(drawn)}; {world.describe()}")
            raise error from None
        finally:
            if keep_trace:
                print("\n".join(world.trace.lines))
    return Report(
        seed,
        drawn,
        world.trace.digest(),
        world.loop.steps,
        round(world.loop.time() - began_s, 6),
        world.clients.operations,
        _counts(world),
    )


def _counts(world: World) -> dict[str, int]:
    clients, counted = world.clients, world.counts
    known = {
        "acknowledged": clients.acknowledged,
        "unknown": clients.unknown,
        "refused": clients.refused,
        "reads": clients.reads,
        **{name: counted[name] for name in EVENTS},
        "repeats": counted["repeats"] + world.sessions.repeats,
        "leader changes": counted["leader changes"] + max(0, len(world.election.leaders) - 1),
        "snapshots": len(world.layout.digests),
        "segments": len(world.segments.digests),
        "archived": sum(archive.segments for archive in world.archives),
        "faults": counted["faults"],
    }
    excused = {name: counted[name] for name in EXCUSED if counted[name]}
    return known | excused | {name: counted[name] for name in sorted(world.fault_kinds)}


def _innermost(error: BaseException) -> BaseException:
    """What broke, out of the groups that it travelled in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _script(world: World, kinds: tuple[str, ...]) -> None:
    for machine in world.machines:
        await world.start(machine)
    watching = keep_all_up(world)
    if world.random("early").random() >= EARLY_SHARE:
        await world.until(world.is_formed, RECOVERY_LIMIT_S, "three voters and a leader")
        world.note("formed")
    watching += watch(world.watch_files())
    await _live_through(world, kinds, _enough_trouble)
    await _recover(world, OPERATIONS_MIN)
    if world.is_archived and world.random("disaster").random() < DISASTER_SHARE:
        await _live_through(world, (), lambda world: asyncio.sleep(UNARCHIVED_S))
        stale = await strike(world, world.random("disaster/what"))
        lasting = tuple(kind for kind in kinds if kind not in RARE)
        await _live_through(world, lasting, lambda world: asyncio.sleep(TROUBLE_MIN_S))
        await rejoin(world, stale)
        await _recover(world, OPERATIONS_MIN)
    for task in watching:
        task.cancel()
    for machine in world.machines:
        await world.stop(machine)
    for machine in world.machines:
        await world.start(machine)
    await world.until(world.is_converged, RECOVERY_LIMIT_S, "all replicas equal after an orderly stop")
    world.finish_checks()


def _clients(world: World) -> list[Client]:
    return [world.client(number, number <= READER_COUNT) for number in range(1, CLIENT_COUNT + 1)]


async def _live_through(
    world: World, kinds: tuple[str, ...], enough: Callable[[World], Awaitable[None]]
) -> None:
    """Clients and an operator at work, and these kinds of trouble, until it is enough."""
    world.is_calm = False
    async with asyncio.TaskGroup() as group:
        for client in _clients(world):
            group.create_task(client.run(lambda: world.is_calm, lambda: _think_s(world)))
        group.create_task(world.operator().run(lambda: world.is_calm))
        await asyncio.sleep(CALM_S if world.is_formed() else 0.0)
        group.create_task(trouble(world, kinds))
        await enough(world)
        world.calm()
    await world.until(lambda: all(m.is_up for m in world.machines), RECOVERY_LIMIT_S, "all machines up")


def _think_s(world: World) -> float:
    worked = world.clients.operations / OPERATIONS_IN_TROUBLE
    return THINK_AHEAD_S if worked > world.counts["faults"] / FAULTS_MIN else THINK_S


async def _recover(world: World, operations: int) -> None:
    """Clients are served, everybody takes part, all that is committed is archived and the same everywhere."""
    before = world.clients.acknowledged
    async with asyncio.TaskGroup() as group:
        served = group.create_task(
            world.until(
                lambda: world.clients.acknowledged > before + 50 and world.clients.operations >= operations,
                RECOVERY_LIMIT_S,
                "clients are served again",
            )
        )
        for client in _clients(world):
            group.create_task(client.run(served.done))
        group.create_task(_end_pause(world))
    await _follow_remedies(world)
    await world.until(world.is_formed, RECOVERY_LIMIT_S, "three voters and a leader")
    await mend(world)
    if world.is_archived:
        await _flush_archive(world)
    await world.until(world.is_converged, RECOVERY_LIMIT_S, "all replicas equal")
    world.finish_checks()


async def _end_pause(world: World) -> None:
    """A pause ends at a time on the leader's clock. Where that was wrong, it may be far, and who is refused
    a write is told to resume."""
    if not world.fault_kinds.isdisjoint(CLOCK_FAULTS):
        await asyncio.sleep(PAUSE_MAX_S)
        with contextlib.suppress(RefusedByState):  # no pause holds
            await _ask(world, lambda node: node.resume_writes(RECOVERY_LIMIT_S))


async def _flush_archive(world: World) -> None:
    try:
        await _ask(world, lambda node: node.archive_flush(RECOVERY_LIMIT_S))
    except OutcomeUnknown as error:
        if not move_damaged_away(world, error.message):
            raise
        await _ask(world, lambda node: node.archive_flush(RECOVERY_LIMIT_S))


async def _ask(world: World, ask: Callable[[Node], Coroutine[Any, Any, object]]) -> None:
    """An operator's request, to any node. One that installs a snapshot, begins anew, or has damage that no
    peer can mend does not serve: he asks the next one, and again."""
    deadline_s = world.loop.time() + RECOVERY_LIMIT_S
    while True:
        for machine in world.machines:
            if machine.process is not None and machine.node is not None:
                try:
                    await machine.process.call(ask(machine.node))
                    return
                except (Unavailable, ProcessDied) as error:
                    if world.loop.time() >= deadline_s:
                        raise
                    world.note("asks again", machine.name, type(error).__name__)
        await asyncio.sleep(AGAIN_S)


async def _follow_remedies(world: World) -> None:
    """A damaged table that no peer has any more can't be mended: such a node says that it is to join anew."""
    for machine in world.machines:
        if machine.has_rotted and not world.is_formed():
            await asyncio.sleep(REMEDY_S)
            if machine.is_up and world.member(machine) is None:
                await rejoin(world, machine)


async def _enough_trouble(world: World) -> None:
    """Wait until there was enough of everything."""
    began_s = world.loop.time()

    def is_enough() -> bool:
        elapsed_s = world.loop.time() - began_s
        worked = world.clients.operations >= OPERATIONS_IN_TROUBLE or elapsed_s > TROUBLE_MAX_S
        return elapsed_s > TROUBLE_MIN_S and worked and world.counts["faults"] >= FAULTS_MIN

    while not is_enough():
        await asyncio.sleep(0.05)
