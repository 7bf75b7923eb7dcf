"""Whole data directories of a cluster beside one another: what must be the same, to the last byte (R4, R5).

Compare while writes are paused: then every member has applied the same log, and nothing works behind it.

* The log: every sealed segment that two members have is the same file, each member has a gap-free end of
  the same list, and the open segment has the same frames; only the room reserved behind them may differ.
* The store: the newest manifest is the same file, and so is every table that it names.
* Published snapshots: one that two members have has the same files in it, save for `asked`, which tells this
  member how long to keep it. Which ones a member has depends on when it joined and what was pruned.

The rest of raft/ (identity, vote, sync mark, what a restore left) is a member's own.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.procedures.cluster import Cluster, Member

Digests = Mapping[str, str]
"""File name -> SHA-256 of its bytes."""


class Disk(NamedTuple):
    """A member's data directory, as far as it is not its own."""

    sealed: Digests
    open_segment: tuple[str, str]
    manifest: tuple[str, str]
    tables: Digests
    snapshots: Mapping[str, Digests]
    """By id."""


class Compared(NamedTuple):
    """How much was found to be the same on all members."""

    segments: int
    tables: int
    snapshots: int
    manifest: str


def read_disk(member: Member) -> Disk:
    """Every file that replicas share."""
    *sealed, last = sorted((member.data / "raft/wal").glob("*.wal"))
    store = member.data / "store"
    newest = max(store.glob("*.manifest"), key=lambda path: int(path.name.partition("-")[0]))
    named = {path.name for path in store.glob("*.table") if bytes.fromhex(path.stem) in newest.read_bytes()}
    published = [path for path in (member.data / "raft/snapshots").iterdir() if not path.is_symlink()]
    frames = last.read_bytes().rstrip(b"\0")
    return Disk(
        _digests(sealed),
        (last.name, hashlib.sha256(frames).hexdigest()),
        (newest.name, _digest(newest)),
        _digests(store / name for name in named),
        {path.name: _digests(file for file in path.iterdir() if file.name != "asked") for path in published},
    )


def compare_disks(cluster: Cluster) -> Compared:
    """Bring all members to the same snapshot, pause writes, and compare; writes go on afterwards."""
    cluster.wait_voters(len(cluster.members))
    leader = cluster.leader()
    assert leader.request("POST", "/admin/snapshot").status == 200
    leader.must_admin("pause-writes", "--max", "5m")
    found = assert_same_disks(cluster.members)
    leader.must_admin("resume-writes")
    return found


def assert_same_disks(members: Sequence[Member]) -> Compared:
    """Compare members that are paused or stopped; how much there was to compare."""
    disks = {member.id: read_disk(member) for member in members}
    first = next(iter(disks.values()))
    for node_id, disk in disks.items():
        assert disk.open_segment == first.open_segment, f"{node_id}: another open segment"
        assert disk.manifest == first.manifest, f"{node_id}: another layout at the same marker"
        assert disk.tables == first.tables, f"{node_id}: other tables"
    _assert_one_list({node_id: disk.sealed for node_id, disk in disks.items()})
    snapshots: defaultdict[str, list[Digests]] = defaultdict(list)
    for disk in disks.values():
        for snapshot_id, files in disk.snapshots.items():
            snapshots[snapshot_id].append(files)
    for snapshot_id, found in snapshots.items():
        for files in found:
            differing = sorted(set(files.items()) ^ set(found[0].items()))
            assert not differing, f"snapshot {snapshot_id} differs: {differing}"
    on_all = sum(len(found) == len(disks) for found in snapshots.values())
    shared = set.intersection(*(set(disk.sealed) for disk in disks.values()))
    return Compared(len(shared), len(first.tables), on_all, first.manifest[0])


def _assert_one_list(sealed: Mapping[str, Digests]) -> None:
    """Each has the end of the longest list, with the same bytes."""
    longest = max(sealed.values(), key=len)
    for node_id, files in sealed.items():
        expected = dict(sorted(longest.items())[len(longest) - len(files) :])
        assert dict(files) == expected, f"{node_id}: other sealed segments"


def _digests(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: _digest(path) for path in paths}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
