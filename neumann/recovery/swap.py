"""Changing a whole data directory: what was there goes to `aside/<utc>/`, what is ready takes its place.

Inside the data directory, which may be a mount point, under a journal (snapshot/journal.py): a crash at
any step is finished by the next start or the next tool. `scratch/restore/` is where the new raft/ and
store/ are made; without a journal it is debris.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from neumann.env.doors import Disk
from neumann.errors import NotFound
from neumann.format import names
from neumann.format.journal import Journal, Move
from neumann.format.names import Paths
from neumann.snapshot import journal


def new_state(paths: Paths) -> Paths:
    """Where a new raft/ and store/ are made before they are swapped in."""
    return Paths(f"{paths.scratch}/restore")


def finish_or_undo(disk: Disk, root: str) -> str:
    """Finish a swap that has begun, or remove what was prepared for one that has not; a line on a swap.

    The first thing that every start, and every tool that changes the directory, does with it.
    """
    paths = Paths(root)
    said = journal.finish(disk, paths)
    disk.remove_tree(new_state(paths).root)
    return said


def swap_in(disk: Disk, paths: Paths, purpose: str, now_ns: int) -> str:
    """Put the finished state in scratch/restore in place; the aside id of what was there, "" if nothing."""
    fresh = new_state(paths)
    inside = fresh.root.removeprefix(f"{paths.root}/")
    old_id, moves = aside_moves(disk, paths, now_ns)
    place = tuple((f"{inside}/{part}", part) for part in (names.RAFT, names.STORE))
    assert all(disk.exists(f"{paths.root}/{source}") for source, _ in place)
    journal.run(disk, paths, Journal(purpose, moves, place, (inside,)))
    return old_id


def set_aside(disk: Disk, paths: Paths, purpose: str, now_ns: int) -> str:
    """Move raft/ and store/ aside, so that the node begins as one without state; the aside id."""
    old_id, moves = aside_moves(disk, paths, now_ns)
    if moves:
        journal.run(disk, paths, Journal(purpose, moves, ()))
    return old_id


def rejoin(disk: Disk, root: str, now_ns: int, may_go: Callable[[], None] = lambda: None) -> str:
    """`neumann-admin rejoin` on a stopped server: its state goes aside, and it joins as new.

    InUse while the server runs; NotFound where there is no state. `may_go` raises where it has to stay, asked
    while no server can be started on it.
    """
    paths = Paths(root)
    release = disk.lock(paths.lock)
    try:
        finish_or_undo(disk, root)
        may_go()
        aside_id = set_aside(disk, paths, "rejoin", now_ns)
    finally:
        release()
    if not aside_id:
        raise NotFound(f"{root} holds no state", remedy="start the node: it joins the cluster by itself")
    return aside_id


def aside_moves(disk: Disk, paths: Paths, now_ns: int) -> tuple[str, tuple[Move, ...]]:
    """(aside id, the renames that set raft/ and store/ aside); ("", ()) where there is neither."""
    present = [part for part in (names.RAFT, names.STORE) if disk.exists(f"{paths.root}/{part}")]
    if not present:
        return "", ()
    aside_id = new_aside_id(disk, paths, now_ns)
    return aside_id, tuple((part, f"{names.ASIDE}/{aside_id}/{part}") for part in present)


def new_aside_id(disk: Disk, paths: Paths, now_ns: int) -> str:
    """`<utc>`, a name in aside/ that is not taken."""
    stem = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H%M%SZ")
    aside_id, number = stem, 1
    while disk.exists(f"{paths.aside}/{aside_id}"):
        number += 1
        aside_id = f"{stem}-{number}"
    return aside_id


def tree_bytes(disk: Disk, path: str, seen: set[int] | None = None) -> int:
    """Files below `path`, each counted once however many names it has."""
    seen = set() if seen is None else seen
    total = 0
    for name in disk.list(path):
        try:
            disk.read_link(f"{path}/{name}")
            continue
        except OSError:
            stat = disk.stat(f"{path}/{name}")
        if stat.is_directory:
            total += tree_bytes(disk, f"{path}/{name}", seen)
        elif stat.inode not in seen:
            seen.add(stat.inode)
            total += stat.size_bytes
    return total
