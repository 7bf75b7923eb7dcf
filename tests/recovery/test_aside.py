"""What was set aside is listed, deleted by its id only, and taken back whole or not at all."""

from __future__ import annotations

import random

import pytest

from neumann.errors import BadInput, InUse, NotFound, RefusedByState
from neumann.format.names import Paths
from neumann.recovery import aside, swap
from tests.recovery.test_swap import NEW, NOW, OLD, ROOT, prepared, put, state_of, tree
from tests.sim.disk import SimCrash, SimDisk


def with_old_aside() -> tuple[SimDisk, str]:
    """NEW is in place, OLD lies aside."""
    disk = prepared()
    return disk, swap.swap_in(disk, Paths(ROOT), "restore", NOW)


def test_ids_of_one_second_differ_and_deleting_needs_the_right_one() -> None:
    disk = prepared()
    first = swap.set_aside(disk, Paths(ROOT), "rejoin", NOW)
    put(disk, ROOT, NEW)
    second = swap.set_aside(disk, Paths(ROOT), "rejoin", NOW)
    assert first != second and len(aside.list_aside(disk, ROOT)) == 2
    with pytest.raises(NotFound):
        aside.delete_aside(disk, ROOT, "2001-01-01T000000Z")
    with pytest.raises(BadInput):
        aside.delete_aside(disk, ROOT, "../store")
    assert aside.delete_aside(disk, ROOT, first) == sum(map(len, OLD.values()))
    assert [kept.id for kept in aside.list_aside(disk, ROOT)] == [second]


def test_a_return_undoes_a_restore_and_can_itself_be_undone() -> None:
    disk, old_id = with_old_aside()
    replaced = aside.return_aside(disk, ROOT, old_id, NOW)
    assert state_of(disk, ROOT) == OLD
    assert [kept.id for kept in aside.list_aside(disk, ROOT)] == [replaced]
    assert aside.return_aside(disk, ROOT, replaced, NOW)
    assert state_of(disk, ROOT) == NEW


def test_a_return_to_an_empty_place_sets_nothing_aside() -> None:
    disk = prepared()
    old_id = swap.set_aside(disk, Paths(ROOT), "rejoin", NOW)
    assert aside.return_aside(disk, ROOT, old_id, NOW) == ""
    assert state_of(disk, ROOT) == OLD and aside.list_aside(disk, ROOT) == []


def test_a_running_server_and_what_is_no_state_are_refused() -> None:
    disk, old_id = with_old_aside()
    release = disk.lock(Paths(ROOT).lock)
    with pytest.raises(InUse):
        aside.return_aside(disk, ROOT, old_id, NOW)
    release()
    put(disk, f"{Paths(ROOT).aside}/segments", {"1.wal.torn": b"torn"})
    with pytest.raises(RefusedByState, match="no state"):
        aside.return_aside(disk, ROOT, "segments", NOW)
    assert state_of(disk, ROOT) == NEW


def test_every_crash_point_of_a_return() -> None:
    disk, old_id = with_old_aside()
    begin = disk.operations
    aside.return_aside(disk.fork(), ROOT, old_id, NOW)
    outcomes = set()
    for step in range(40):
        for seed in range(4):
            disk, old_id = with_old_aside()
            disk.crash_at = begin + step
            try:
                aside.return_aside(disk, ROOT, old_id, NOW)
            except SimCrash:
                disk = disk.crash(random.Random(seed))
            disk.crash_at = None
            swap.finish_or_undo(disk, ROOT)
            state = state_of(disk, ROOT)
            assert state in (OLD, NEW)
            (kept,) = aside.list_aside(disk, ROOT)
            assert tree(disk, kept.path) == (NEW if state == OLD else OLD)
            outcomes.add(state == OLD)
    assert outcomes == {True, False}
