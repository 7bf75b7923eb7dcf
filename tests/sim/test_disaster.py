"""The way back from a disaster in the simulated world, and that its rule bites."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from neumann.env.doors import Env
from neumann.errors import Unavailable
from neumann.format.command import encode_put, pack_value
from neumann.format.message import AppendReply, VoteReply
from neumann.recovery.prepare import Planned
from neumann.recovery.restore import Report, restore
from neumann.runtime import host, startup
from neumann.runtime.startup import Action, Decision
from tests.sim import disaster
from tests.sim.checkers.timelines import check_stale_answer
from tests.sim.checkers.violation import Violation
from tests.sim.disaster import rejoin, strike
from tests.sim.keeping import keep_all_up
from tests.sim.world import World

LIMIT_S = 20.0
ARCHIVED_SEEDS = ("disaster/0", "disaster/8")


def _live_through(seed: str, rejoins: int | None = None) -> World:
    """`rejoins`: this one of the followers gives its state up, as asked, just before."""
    world = World(seed)
    assert world.is_archived, "choose another seed"

    async def script() -> None:
        for machine in world.machines:
            await world.start(machine)
        keeping = keep_all_up(world)
        await world.until(world.is_formed, LIMIT_S, "three voters and a leader")
        leading = world.leading()
        process, node = leading.running
        for key in range(60):
            raw = encode_put("registers", f"k{key % 7}", pack_value(key))
            world.clients.end_write(
                world.clients.begin_write(f"write {key}", raw), *await process.call(node.write(raw))
            )
        await process.call(node.archive_flush(LIMIT_S))
        world.is_calm = True
        if rejoins is not None:
            follower = [m for m in world.machines if m is not leading][rejoins]
            process, node = follower.running
            await process.call(node.rejoin())
        stale = await strike(world, world.random("what"))
        await asyncio.sleep(3.0)
        assert not world.is_formed() and stale.is_stale
        await rejoin(world, stale)
        await world.until(world.is_formed, LIMIT_S, "three voters and a leader")
        await world.until(world.is_converged, LIMIT_S, "all replicas equal")
        world.finish_checks()
        for task in keeping:
            task.cancel()

    with world:
        world.loop.run(script())
    return world


@pytest.mark.parametrize("seed", ARCHIVED_SEEDS)
def test_a_cluster_comes_back_as_another_timeline(seed: str) -> None:
    world = _live_through(seed)
    assert world.counts["restores"] == 1 and world.clients.acknowledged == 60
    assert world.committed.base.index > 10**9


@pytest.mark.parametrize("follower", [0, 1])  # one of them at least is not the one that is restored
def test_who_gave_its_state_up_just_before_joins_by_itself(follower: int) -> None:
    """The world took it for one with data of the timeline that was left, and its rejoining for a fault (seed
    100018 at the time)."""
    world = _live_through(ARCHIVED_SEEDS[0], follower)
    assert world.counts["restores"] == 1 and world.clients.acknowledged == 60


def test_a_restore_that_says_to_run_it_again_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world took for a failure what wal-replay says once behind a crash in its swap (seed 100006 at the
    time): there was one more restore to do."""
    asked = list[str]()

    async def first_finish(env: Env, planned: Planned) -> Report:
        asked.append(planned.request.data_dir)
        if len(asked) == 1:
            raise Unavailable("a swap that had been interrupted was finished first", remedy="run it again")
        return await restore(env, planned)

    monkeypatch.setattr(disaster, "restore", first_finish)
    world = _live_through(ARCHIVED_SEEDS[0])
    assert world.counts["restore again"] == 1 and len(asked) >= 2


def test_old_nodes_that_go_on_with_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a node with a vote runs, whatever its peers say of a restore."""
    decide = startup.decide

    def run_anyway(found: Any, *arguments: Any, **flags: Any) -> Decision:
        return Decision(Action.RUN, "planted") if found.vote else decide(found, *arguments, **flags)

    monkeypatch.setattr(host, "decide", run_anyway)
    with pytest.raises(Violation, match="timeline that was left"):
        for seed in ARCHIVED_SEEDS:
            _live_through(seed)


@pytest.mark.parametrize("said", [VoteReply(3, True, False, b""), AppendReply(3, True, 7, 2, 1)])
def test_an_answer_that_a_node_of_a_left_timeline_may_not_give(said: Any) -> None:
    with pytest.raises(Violation, match="timeline that was left"):
        check_stale_answer("n2", said)
    check_stale_answer(
        "n2", said._replace(granted=False) if isinstance(said, VoteReply) else said._replace(ok=False)
    )
