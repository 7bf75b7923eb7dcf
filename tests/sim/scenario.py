"""One run: form a cluster, break it for a while under load, mend it, and demand that it recovers.

Safety is checked all the time; liveness at the end: once everything is mended, clients are served again
and all replicas become equal within a bounded time. Called by test_sim.py and by scripts/sim.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from dataclasses import dataclass, fields

from tests.sim.faults import KINDS, MIXED, mixed
from tests.sim.world import World

CLIENT_COUNT = 7
READER_COUNT = 3
CALM_S = 1.0
EARLY_SHARE = 0.25
"""Of the seeds, those where trouble begins before the cluster is formed."""
TROUBLE_S = 8.0
RECOVERY_LIMIT_S = 20.0
RUN_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a run was. Times in virtual seconds; the digest is over the whole trace."""

    seed: int
    kind: str
    digest: str
    steps: int
    virtual_s: float
    acknowledged: int
    unknown: int
    refused: int
    reads: int
    snapshots: int
    segments: int
    archived: int
    operations: int
    leaders: int
    crashes: int
    installs: int
    truncations: int

    def __str__(self) -> str:
        numbers = {field.name: getattr(self, field.name) for field in fields(self)[3:]}
        told = ", ".join(f"{value:g} {name}" for name, value in numbers.items())
        return f"seed {self.seed} {self.kind}: {told}, {self.digest}"


def kind_of(seed: int) -> str:
    """The fault kind of a seed, where none is asked for."""
    kinds = list(KINDS)
    return kinds[seed % len(kinds)]


def run(
    seed: int, kind: str | None = None, *, trouble_s: float = TROUBLE_S, keep_trace: bool = False
) -> Report:
    """One seed. Raises what broke, with the way to repeat it as a note."""
    kind = kind or kind_of(seed)
    world = World(f"{seed}/{kind}", keep_trace=keep_trace)
    began_s = world.loop.time()
    with world:
        try:
            world.loop.run(_script(world, kind, trouble_s), RUN_LIMIT_S)
        except BaseException as caught:
            error = _innermost(caught)
            error.add_note(f"repeat it with: scripts/sim --seeds {seed} --kind {kind}")
            error.add_note(f"at {world.loop.time() - began_s:.6f} s; {world.describe()}")
            raise error from None
        finally:
            if keep_trace:
                print("\n".join(world.trace.lines))
    return Report(
        seed,
        kind,
        world.trace.digest(),
        world.loop.steps,
        world.loop.time() - began_s,
        world.clients.acknowledged,
        world.clients.unknown,
        world.clients.refused,
        world.clients.reads,
        len(world.layout.digests),
        len(world.segments.digests),
        world.archive.segments,
        world.counts["operated"],
        len(world.election.leaders),
        world.counts["crash"] + world.counts["power loss"],
        world.counts["installed"],
        world.counts["truncated"],
    )


def _innermost(error: BaseException) -> BaseException:
    """What broke, out of the groups that it travelled in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _script(world: World, kind: str, trouble_s: float) -> None:
    for machine in world.machines:
        await world.start(machine)
    if world.random("early").random() >= EARLY_SHARE:
        await world.until(world.is_formed, RECOVERY_LIMIT_S, "three voters and a leader")
        world.note("formed")
    watching = asyncio.create_task(world.watch_files())
    mended = asyncio.Event()
    clients = [world.client(number, number <= READER_COUNT) for number in range(1, CLIENT_COUNT + 1)]
    operator = world.operator()
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run(mended.is_set))
        group.create_task(operator.run(mended.is_set))
        await asyncio.sleep(CALM_S if world.is_formed() else 0.0)
        fault = KINDS.get(kind, mixed)
        await fault(world, world.random("faults"), world.loop.time() + trouble_s)
        world.note("mended")
        mended.set()
    before = world.clients.acknowledged
    async with asyncio.TaskGroup() as group:
        served = group.create_task(
            world.until(lambda: world.clients.acknowledged > before + 50, RECOVERY_LIMIT_S, "writes again")
        )
        for client in clients:
            group.create_task(client.run(served.done))
    if world.is_archived:
        process, node = world.machines[0].process, world.machines[0].node
        assert process is not None and node is not None
        await process.call(node.archive_flush(RECOVERY_LIMIT_S))
    await world.until(world.is_formed, RECOVERY_LIMIT_S, "three voters and a leader")
    await world.until(world.is_converged, RECOVERY_LIMIT_S, "all replicas equal")
    watching.cancel()
    world.finish_checks()
    for machine in world.machines:
        await world.stop(machine)
    for machine in world.machines:
        await world.start(machine)
    await world.until(world.is_converged, RECOVERY_LIMIT_S, "all replicas equal after an orderly stop")
    world.finish_checks()


def main() -> int:
    """scripts/sim."""
    parser = argparse.ArgumentParser(prog="scripts/sim", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0..99", help="FROM..TO, or one number (default 0..99)")
    parser.add_argument("--minutes", type=float, help="go on with further seeds for that long")
    parser.add_argument("--kind", choices=[*KINDS, MIXED], help="one fault kind instead of one by seed")
    parser.add_argument("--trouble", type=float, default=TROUBLE_S, help="virtual seconds of faults a seed")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of each seed")
    parser.add_argument("--quiet", action="store_true", help="print failing seeds only")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("..")
    deadline_s = time.monotonic() + arguments.minutes * 60 if arguments.minutes else None
    seeds = itertools.count(int(first)) if deadline_s else range(int(first), int(last or first) + 1)
    failed = runs = steps = 0
    began_s = time.process_time()
    for seed in seeds:
        if deadline_s and time.monotonic() > deadline_s:
            break
        runs += 1
        try:
            report = run(seed, arguments.kind, trouble_s=arguments.trouble, keep_trace=arguments.trace)
        except Exception as error:
            failed += 1
            print(f"FAILED seed {seed}: {type(error).__name__}: {error}")
            print("\n".join(error.__notes__), flush=True)
            continue
        steps += report.steps
        if not arguments.quiet:
            print(report, flush=True)
    elapsed_s = time.process_time() - began_s
    print(f"{runs} seeds, {failed} failed, {steps / max(elapsed_s, 0.001):,.0f} steps a CPU second")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
