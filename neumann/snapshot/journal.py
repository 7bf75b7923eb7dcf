"""Journaled renames: old state goes aside and new state takes its place, as one step.

The order: all new state is complete and synced; the journal becomes durable; the old goes aside; the
new takes its place; the journal goes. A crash before the journal leaves everything as it was; after
it, `finish` goes on from wherever it stopped. Should the new state have been deleted meanwhile, the
old is moved back. Nothing is deleted but what the journal lists in `remove`.

Called by an install (snapshot/install.py) and by whatever changes a data directory (recovery/swap.py);
`finish` runs before anything else looks at the directory.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from neumann.env.doors import Disk
from neumann.env.files import read_file, write_durable
from neumann.errors import Corrupt
from neumann.format import journal as journal_format
from neumann.format.journal import Journal, Move
from neumann.format.names import Paths


def run(disk: Disk, paths: Paths, journal: Journal) -> None:
    """Swap. Sources of `place` must be there and synced; an aside source must be there."""
    assert not disk.exists(paths.journal), "finish the swap that has begun first"
    assert all(disk.exists(f"{paths.root}/{source}") for source, _ in (*journal.aside, *journal.place))
    write_durable(disk, paths.journal, journal_format.encode(journal))
    finish(disk, paths)


def finish(disk: Disk, paths: Paths) -> str:
    """Finish, or undo, the swap that a journal tells of; one line says which, "" if there was none."""
    try:
        data = read_file(disk, paths.journal)
    except FileNotFoundError:
        return ""
    journal = journal_format.decode(data, paths.journal)
    for source, target in journal.aside:
        if not disk.exists(f"{paths.root}/{target}") and disk.exists(f"{paths.root}/{source}"):
            _move(disk, paths, source, target)
    _sync_parents(disk, paths, journal.aside)
    if lost := _place(disk, paths, journal):
        _undo(disk, paths, journal, lost)
        return f"undid the {journal.purpose} that had begun: {lost} was gone"
    for tree in journal.remove:
        disk.remove_tree(f"{paths.root}/{tree}")
    _remove_journal(disk, paths)
    return f"finished the {journal.purpose} that had begun"


def _place(disk: Disk, paths: Paths, journal: Journal) -> str:
    """Move the new state to its place; the first source that is lost, or ""."""
    for source, target in journal.place:
        if disk.exists(f"{paths.root}/{source}"):
            _move(disk, paths, source, target)
        elif not disk.exists(f"{paths.root}/{target}"):
            return source
    _sync_parents(disk, paths, journal.place)
    return ""


def _undo(disk: Disk, paths: Paths, journal: Journal, lost: str) -> None:
    """Move the old state back; possible only while none of the new is in place."""
    for source, target in journal.aside:
        if disk.exists(f"{paths.root}/{source}"):
            raise Corrupt(
                f"{paths.journal}: {lost} is gone and {source} is new already",
                remedy=f"move {target} back by hand, or restore again",
            )
    for source, target in journal.aside:
        _move(disk, paths, target, source)
    _sync_parents(disk, paths, journal.aside)
    _remove_journal(disk, paths)


def _move(disk: Disk, paths: Paths, source: str, target: str) -> None:
    target_path = f"{paths.root}/{target}"
    disk.make_dirs(posixpath.dirname(target_path))
    disk.rename(f"{paths.root}/{source}", target_path)


def _sync_parents(disk: Disk, paths: Paths, moves: Iterable[Move]) -> None:
    """Targets first: a name is durable at its new place before it is durably gone from the old one."""
    targets = {posixpath.dirname(f"{paths.root}/{target}") for _, target in moves}
    sources = {posixpath.dirname(f"{paths.root}/{source}") for source, _ in moves}
    for directory in (*sorted(targets), *sorted(sources - targets)):
        if disk.exists(directory):
            disk.sync_dir(directory)


def _remove_journal(disk: Disk, paths: Paths) -> None:
    disk.unlink(paths.journal)
    disk.sync_dir(paths.root)
