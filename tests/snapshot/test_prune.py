"""The retention of published snapshots: the rules of the design, and that the newest always stays."""

from __future__ import annotations

import random

from neumann.format.names import Paths
from neumann.snapshot.prune import Policy, choose, prune
from neumann.snapshot.publish import Published, list_published, publish
from tests.sim.disk import SimDisk
from tests.snapshot.test_publish import snapshot

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
NOW = 1000 * DAY
DEFAULT = Policy()


def published(index: int, age_ns: int, complete: bool = True, asked: bool = False) -> Published:
    return Published(f"{index}-1", index, 1, NOW - age_ns, "/x", 0, complete, asked, None)


def gone(
    snapshots: list[Published], policy: Policy = DEFAULT, asked: frozenset[str] = frozenset()
) -> list[str]:
    return choose(snapshots, policy, NOW, asked)


def test_the_young_the_newest_and_one_an_hour_stay() -> None:
    minutes = [published(10_000 - n, n * 60 * SECOND) for n in range(180)]
    kept = {p.id for p in minutes} - set(gone(minutes))
    assert {p.id for p in minutes[:15]} <= kept
    assert len(kept) == 15 + 2, "the two full hours before the current one have one each"


def test_old_ones_go_but_three() -> None:
    old = [published(n, 30 * DAY - n) for n in range(10)]
    assert gone(old) == [f"{n}-1" for n in range(7)]
    assert gone(old, Policy(keep_newest=0)) == [f"{n}-1" for n in range(9)]


def test_an_asked_one_stays_a_day() -> None:
    others = [published(100 + n, n) for n in range(3)]
    for age, stays in ((DAY - 1, True), (DAY, False)):
        policy = Policy(keep_hourly_days=0)
        assert ("1-1" not in gone([published(1, age, asked=True), *others], policy)) is stays
        assert ("1-1" not in gone([published(1, age), *others], policy, frozenset({"1-1"}))) is stays


def test_an_incomplete_one_never_takes_the_place_of_a_complete_one() -> None:
    snapshots = [published(9, 10 * DAY, complete=False), published(8, 10 * DAY + 1)]
    assert "8-1" not in gone(snapshots, Policy(keep_newest=1, keep_hourly_days=365))
    assert gone([published(9, 10 * DAY, complete=False)]) == []


def test_random_policies_always_leave_the_newest_complete_one() -> None:
    """wal-g#230, #1152: keeping the last N deleted everything, or failed where there were fewer."""
    rng = random.Random(1)
    for _ in range(300):
        snapshots = [
            published(n, rng.randrange(20 * DAY), rng.random() < 0.7) for n in range(rng.randrange(1, 30))
        ]
        policy = Policy(rng.randrange(4), rng.randrange(9), rng.randrange(2000))
        left = [p for p in snapshots if p.id not in gone(snapshots, policy)]
        complete = [p for p in snapshots if p.complete]
        if complete:
            assert max(complete, key=lambda p: p.index) in left
        left_over = gone(left, policy)
        assert left_over == [], "pruning twice takes no more than pruning once"


def test_prune_removes_them_and_leaves_what_a_person_put_there() -> None:
    disk, paths = SimDisk(), Paths("/n1")
    for index in (10, 20, 30):
        publish(disk, paths, snapshot(disk, paths, index))
    for name in disk.list(f"{paths.snapshots}/10-1"):
        disk.link(f"{paths.snapshots}/10-1/{name}", f"{paths.snapshots}/{name}")
    assert prune(disk, paths, Policy(1, 0, 0), NOW) == ["10-1", "20-1"]
    assert {p.id: p.path for p in list_published(disk, paths.snapshots)} == {
        "10-1": paths.snapshots,
        "30-1": f"{paths.snapshots}/30-1",
    }
