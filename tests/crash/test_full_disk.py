"""No room at one point after the other: nothing is lost, the node stays up, and goes on by itself.

A bounded slice here, and each bug that it found; all points in the slow tests and `scripts/crashes --full`.
"""

from __future__ import annotations

import errno

import pytest

from tests.crash.full import Point, points, run_into
from tests.crash.runs import RUNS
from tests.sim.checkers.violation import Violation

EVERY = {"alone": 83, "member": 61}


@pytest.mark.parametrize("name", RUNS)
def test_a_slice_of_the_points(name: str) -> None:
    chosen = list(points(name))[7 :: EVERY[name]]
    assert len(chosen) >= 5
    for point in chosen:
        run_into(name, point)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", RUNS)
def test_every_point(name: str) -> None:
    for point in points(name):
        run_into(name, point)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", RUNS)
def test_every_write_in_place(name: str) -> None:
    """Only file systems that copy on write need room for it; the node may stop, with an error of ours."""
    for point in points(name, in_place=True):
        run_into(name, point)


def test_a_run_that_does_not_come_to_its_point_is_no_proof() -> None:
    """Without this, a run in which nothing went wrong would pass for one that bore it."""
    first = next(points("alone"))
    for missed in (first._replace(number=10**6), first._replace(change=first.change._replace(path="/x"))):
        with pytest.raises(Violation, match="not there"):
            run_into("alone", missed)


def point(name: str, what: str, path: str, *, lasts: bool, last: bool = False) -> Point:
    """The first, or the last, of such a kind."""
    found = [p for p in points(name) if p.lasts is lasts and p.change.what == what and path in p.change.path]
    return found[-1 if last else 0]


def test_forming_waits_for_room() -> None:
    """A node that found no room while it formed its cluster ended with a bare OSError."""
    for what, path in (
        ("write", "/store/0-0.manifest"),
        ("rename", "/raft/identity"),
        ("create", "/raft/vote"),
    ):
        world = run_into("alone", point("alone", what, path, lasts=True))
        assert not world.outcomes["refused to start"]


def test_a_start_without_room_for_its_lock_says_so() -> None:
    """The node refused with a bare OSError; now with disk_full, and a service manager tries again."""
    world = run_into("alone", point("alone", "create", "/lock", lasts=True))
    assert world.outcomes["refused to start"]


@pytest.mark.parametrize("source", ["/raft/wal", "/store/0-0.manifest", "/raft/sync-mark"])
def test_a_join_that_was_begun_is_finished_when_there_is_room(source: str) -> None:
    """A join whose swap found no room was decided anew over the half of it, which ended the node."""
    run_into("member", point("member", "rename", source, lasts=True))


@pytest.mark.parametrize("what", ["link", "rename"])
def test_an_install_that_closed_the_member_opens_it_again(what: str) -> None:
    """The member was closed for the install, and that found no room: the node ended."""
    path = "/store/" if what == "link" else "/scratch/old/wal"
    run_into("member", point("member", what, path, lasts=True))


def test_a_segment_that_found_no_room_is_made_without_another_write() -> None:
    """Behind the last seal the next segment was made with the next write only: until then the sealed one was
    not archived, and archive-flush waited for ever."""
    run_into("alone", point("alone", "allocate", "/raft/wal/", lasts=True, last=True))


def test_a_full_quota_is_a_full_disk() -> None:
    """EDQUOT ended the node where ENOSPC was waited for: in a flush, a manifest and a publication."""
    for what, path in (("write", "/store/flush"), ("rename", ".manifest"), ("mkdir", "/raft/snapshots/")):
        run_into("alone", point("alone", what, path, lasts=False, last=True), no_room_errno=errno.EDQUOT)
