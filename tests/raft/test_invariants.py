"""The invariants bite: each one is broken once, by hand or by a planted bug."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from neumann.format.ids import Incarnation, LogPoint
from neumann.format.message import AppendReply
from neumann.raft import Role, invariants
from neumann.raft.invariants import Moment
from tests.mutations.plant import planted
from tests.mutations.table import MUTATIONS
from tests.raft.build import append, core_with, frames
from tests.raft.disk import BASE, candidate, storage_of
from tests.raft.harness import World

LOG = frames((1, 1), (2, 2), (2, 1))
ENDS = tuple(frame.header.end for frame in reversed(LOG))
FIRST, SECOND, THIRD = reversed(ENDS)
OTHER = LogPoint(3, 3, 77)
STORAGE = Incarnation(storage_of("a"), 1)


def _moment(**changes: Any) -> Moment:
    core = core_with(LOG, term=3, voted_for="a", commit_index=1)
    return invariants.observe(core)._replace(**changes)


LEADING = {"role": Role.LEADER, "voted_for": candidate("b")}


@pytest.mark.parametrize(
    ("why", "before", "after"),
    [
        ("the term fell", {}, {"term": 2}),
        ("the commit index fell", {}, {"commit_index": 0}),
        ("a committed entry was cut", {"commit_index": 4}, {"commit_index": 4, "ends": (OTHER, FIRST)}),
        ("nothing stands in the place", {}, {"ends": (SECOND, FIRST)}),
        ("two votes in one term", {}, {"voted_for": candidate("c")}),
        ("a leader cut its own log", LEADING, {**LEADING, "ends": (OTHER, FIRST)}),
        ("of an earlier term was counted", LEADING, {**LEADING, "commit_index": 4, "commit_term": 2}),
        (
            "a match fell without a restart",
            {**LEADING, "matches": {"a": (STORAGE, 3)}},
            {**LEADING, "matches": {"a": (STORAGE, 1)}},
        ),
    ],
)
def test_a_step_that_may_not_be(why: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=why):
        invariants.check_step(_moment(**before), _moment(**after))
    invariants.check_step(_moment(**before), _moment(**before))


def test_a_step_that_may_be() -> None:
    invariants.check_step(_moment(), _moment(ends=(OTHER, FIRST)))
    restarted = {"a": (Incarnation(storage_of("a"), 2), 0)}
    invariants.check_step(_moment(matches={"a": (STORAGE, 3)}), _moment(matches=restarted))
    assert _moment().ends[:3] == ENDS


def _late_append(world: World) -> None:
    first, *_ = [world.propose("a") for _ in range(3)]
    world.settle()
    world.step("b", "a", append(1, BASE, [world.nodes["a"].frames[1], first]))


def _late_answer(world: World) -> None:
    world.propose("a")
    world.settle()
    world.step("a", "b", AppendReply(1, True, 1, 1, 1))


@pytest.mark.parametrize(
    ("bug", "act"),
    [
        ("a late, shorter Append cuts the log", _late_append),
        ("an old answer lowers the match", _late_answer),
    ],
)
def test_a_planted_bug_breaks_an_invariant(bug: str, act: Callable[[World], None]) -> None:
    mutation = next(mutation for mutation in MUTATIONS if mutation.name == bug)
    for plant in (False, True):
        world = World()
        world.elect("a")
        if not plant:
            act(world)
            continue
        with planted(mutation), pytest.raises(AssertionError):
            act(world)
