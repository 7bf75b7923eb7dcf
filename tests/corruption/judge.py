"""What becomes of one damage: which tool names it, and what a node that opens the directory would serve.

A damage is in order if verify-checksums names the file, and if whoever opens the directory either refuses
in words of ours or serves exactly what was written. Anything else is the bug this package looks for.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import NamedTuple

from neumann.cli.checksums import verify_directory
from neumann.config import Config
from neumann.env.files import read_file
from neumann.errors import NeumannError
from neumann.format import state
from neumann.format.names import Paths
from neumann.recovery.catalog import Catalog
from neumann.runtime.opening import Opened, open_member
from neumann.snapshot.segment_file import End
from neumann.store.view import View
from tests.corruption.directory import ARCHIVE, ROOT
from tests.sim.disk import SimDisk

Rows = list[tuple[str, bytes | None, int, int]]


class Served(Enum):
    """What came of opening. REFUSED: at once; UNREADABLE: some reads are, or the log before some entry;
    REPAIRED: all is served, and
    what was damaged is whole again; UNUSED: all is served, what is damaged is not needed for it."""

    REFUSED = "refused"
    UNREADABLE = "unreadable"
    REPAIRED = "repaired"
    UNUSED = "unused"


class Truth(NamedTuple):
    """What was written: all rows at the newest manifest, all frames of the log, and the vote."""

    rows: Rows
    frames: bytes
    vote: state.Vote


class Wrong(AssertionError):
    """Something else was served than what was written."""


def named(disk: SimDisk, path: str) -> bool:
    """Whether the tools that read everything name this file, or another name of it."""
    if path.startswith(ARCHIVE):
        return path in _archive_damage(disk)
    inode = disk.stat(path).inode
    damaged = [one for one in verify_directory(disk, ROOT).damage if disk.exists(one.path)]
    assert all(one.remedy and one.path in one.message for one in damaged)
    return any(disk.stat(one.path).inode == inode for one in damaged)


def anything_named(disk: SimDisk) -> bool:
    """Whether verify-checksums finds anything wrong."""
    return bool(verify_directory(disk, ROOT).damage)


def _archive_damage(disk: SimDisk) -> set[str]:
    catalog = Catalog(disk, ARCHIVE)
    bad = {problem.path for problem in catalog.problems}
    return bad | {h.path for h in catalog.heads if catalog.scan(h, bodies=True).end is not End.SEALED}


def read_truth(disk: SimDisk, config: Config) -> Truth:
    """All that a node serves from this directory."""
    opened = _open(disk.fork(), config)
    return Truth(_rows(opened.store.view()), _frames(opened), opened.vote)


def serve(disk: SimDisk, config: Config, truth: Truth) -> Served:
    """Open a copy of the directory as a start does, and read everything. Wrong if anything is."""
    copy = disk.fork()
    try:
        opened = _open(copy, config)
    except NeumannError as error:
        assert error.message
        return Served.REFUSED
    if opened.vote != truth.vote:
        raise Wrong(f"the vote {truth.vote} became {opened.vote}")
    unreadable = 0
    try:
        if _rows(opened.store.view()) != truth.rows:
            raise Wrong("other rows are served")
    except NeumannError:
        unreadable += 1
    try:
        frames = _frames(opened)
        if not truth.frames.endswith(frames):
            raise Wrong("other frames are served")
        unreadable += len(frames) < len(truth.frames)
    except NeumannError:
        unreadable += 1
    if unreadable:
        return Served.UNREADABLE
    return Served.UNUSED if verify_directory(copy, ROOT).damage else Served.REPAIRED


def _open(disk: SimDisk, config: Config) -> Opened:
    return open_member(disk, Paths(ROOT), config, 0)


def _rows(view: View) -> Rows:
    return [row for run in view.runs() for row in zip(*run, strict=True)]


def _frames(opened: Opened) -> bytes:
    frames = opened.wal.read_frames(opened.wal.base.index, opened.wal.last.index)
    return b"".join(frame.data for frame in frames)


class Tally:
    """Damages by kind of file and by what came of them."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, kind: str, what: str) -> None:
        """One more."""
        self.counts[kind, what] += 1

    def total(self, what: str) -> int:
        """Over all kinds."""
        return sum(count for (_, one), count in self.counts.items() if one == what)

    def lines(self) -> list[str]:
        """A line for each kind."""
        kinds = dict.fromkeys(kind for kind, _ in self.counts)
        return [
            f"{kind:36} "
            + "  ".join(f"{what} {count}" for (one, what), count in self.counts.items() if one == kind)
            for kind in kinds
        ]


def room_behind_the_mark(disk: SimDisk, path: str) -> int | None:
    """For the open segment: where the log ends in it, and unused room begins; None for another file."""
    mark = state.decode_mark(read_file(disk, Paths(ROOT).sync_mark), "")[1]
    is_open = path.endswith(f"-{mark.segment_first:020d}.wal") and path.startswith(ROOT)
    return mark.offset if is_open else None
