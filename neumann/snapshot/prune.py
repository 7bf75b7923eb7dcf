"""Which published snapshots go (design section 5), and their removal.

Kept are: every one younger than `keep_age_min_s`, an asked one in its first day, the newest
`keep_newest`, and the newest of each hour for `keep_hourly_days`. The newest complete one is kept
whatever the settings say. Ages count from the snapshot's own log time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from neumann.env.doors import Disk
from neumann.format import names
from neumann.format.names import Paths
from neumann.snapshot.publish import Published, list_published

_SECOND_NS = 1_000_000_000
_HOUR_NS = 3600 * _SECOND_NS
_DAY_NS = 24 * _HOUR_NS


class Policy(NamedTuple):
    """The keys of [snapshot] that rule here."""

    keep_newest: int = 3
    keep_hourly_days: int = 7
    keep_age_min_s: float = 900.0


def choose(published: Sequence[Published], policy: Policy, now_ns: int, asked: Collection[str]) -> list[str]:
    """Ids that go, oldest first. PURE. `asked`: ids known to be asked for, beside those that say so."""
    newest_first = sorted(published, key=lambda p: (p.index, p.term), reverse=True)
    complete = [p for p in newest_first if p.complete]
    if not complete:
        return []
    kept = {p.id for p in complete[: max(1, policy.keep_newest)]}
    hours: set[int] = set()
    for snapshot in newest_first:
        age_ns = now_ns - snapshot.time_ns
        if age_ns < policy.keep_age_min_s * _SECOND_NS:
            kept.add(snapshot.id)
        if age_ns < _DAY_NS and (snapshot.asked or snapshot.id in asked):
            kept.add(snapshot.id)
        hour = snapshot.time_ns // _HOUR_NS
        if snapshot.complete and hour not in hours:
            hours.add(hour)
            if age_ns < policy.keep_hourly_days * _DAY_NS:
                kept.add(snapshot.id)
    return [p.id for p in reversed(newest_first) if p.id not in kept]


def prune(
    disk: Disk, paths: Paths, policy: Policy, now_ns: int, asked: Collection[str] = frozenset()
) -> list[str]:
    """Remove what the policy lets go; the ids. A flat copy that a person made is left alone."""
    own = [p for p in list_published(disk, paths.snapshots) if p.path == f"{paths.snapshots}/{p.id}"]
    gone = choose(own, policy, now_ns, asked)
    for snapshot_id in gone:
        _remove(disk, paths, snapshot_id)
    return gone


def _remove(disk: Disk, paths: Paths, snapshot_id: str) -> None:
    """By way of a temporary name: one that is half removed is never listed."""
    path = f"{paths.snapshots}/{snapshot_id}"
    going = path + names.TEMPORARY
    disk.remove_tree(going)
    disk.rename(path, going)
    disk.sync_dir(paths.snapshots)
    disk.remove_tree(going)
