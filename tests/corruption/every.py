"""Damages one file at every place, or at a sample of them, and tallies what becomes of each."""

from __future__ import annotations

from typing import NamedTuple

from neumann.config import Config
from neumann.env.files import read_file
from tests.corruption import judge
from tests.corruption.directory import ARCHIVE, kinds
from tests.corruption.judge import Tally, Truth
from tests.sim.disk import SimDisk

KINDS = (
    "sealed segment",
    "sealed segment above the manifest",
    "open segment",
    "table",
    "manifest",
    "older manifest",
    "vote",
    "sync mark",
    "identity",
    "restored",
    "published manifest",
    "published table",
    "archived segment",
    "history",
    "own history",
)
OPENS_MAX = 500
"""So many of a file's damages are also opened; all are verified. Most of a two-slot file is zeros."""


class Case(NamedTuple):
    """A directory, with hard links and without, and what a node serves from it."""

    disk: SimDisk
    unlinked: SimDisk
    config: Config
    truth: Truth

    @classmethod
    def of(cls, disk: SimDisk, unlinked: SimDisk, config: Config) -> Case:
        """Read the truth first."""
        return cls(disk, unlinked, config, judge.read_truth(disk, config))

    def disk_of(self, kind: str) -> SimDisk:
        """A published table is a file of its own only where links were not kept."""
        return self.unlinked if kind == "published table" else self.disk

    def path_of(self, kind: str) -> str:
        """Where the file of that kind lies."""
        return kinds(self.disk)[kind]


def places(size: int, places_max: int | None) -> list[int]:
    """Offsets below `size`: all, or a sample that has both ends."""
    if places_max is None or size <= places_max:
        return list(range(size))
    ends = min(8, places_max // 4)
    middle = places_max - 2 * ends
    step = (size - 2 * ends) / middle
    return sorted({*range(ends), *range(size - ends, size), *(ends + int(step * n) for n in range(middle))})


def every_flip(
    case: Case, kind: str, tally: Tally, places_max: int | None = None, opens_max: int | None = None
) -> None:
    """Flip one bit of each byte. AssertionError if one is not named, or a wrong byte is served."""
    disk, path = case.disk_of(kind).fork(), case.path_of(kind)
    offsets = places(len(read_file(disk, path)), places_max)
    opened = set(places(len(offsets), opens_max))
    for number, offset in enumerate(offsets):
        disk.flip(path, offset, offset % 8)
        tally.add(kind, "flipped")
        assert judge.named(disk, path), f"{path}: a flip at {offset} is not named"
        tally.add(kind, "named")
        if number in opened and not path.startswith(ARCHIVE):
            tally.add(kind, judge.serve(disk, case.config, case.truth).value)
        disk.flip(path, offset, offset % 8)


def every_length(
    case: Case, kind: str, tally: Tally, places_max: int | None = None, opens_max: int | None = None
) -> None:
    """Cut the file to each length. What is cut off of an open segment's unused room need not be named."""
    disk, path = case.disk_of(kind).fork(), case.path_of(kind)
    room, data = judge.room_behind_the_mark(disk, path), read_file(disk, path)
    sizes = places(len(data), places_max)
    opened = set(places(len(sizes), opens_max))
    for number, size in enumerate(sizes):
        _overwrite(disk, path, data[:size])
        tally.add(kind, "cut")
        if room is not None and size >= room:
            tally.add(kind, "room")
            assert not judge.named(disk, path)
        else:
            assert judge.named(disk, path), f"{path}: cut to {size} bytes, and not named"
            tally.add(kind, "named")
        if number in opened and not path.startswith(ARCHIVE):
            served = judge.serve(disk, case.config, case.truth)
            tally.add(kind, served.value)
            assert room is None or size < room or served is judge.Served.REPAIRED
        _overwrite(disk, path, data)


def _overwrite(disk: SimDisk, path: str, data: bytes) -> None:
    file = disk.open(path, write=True)
    file.truncate(0)
    file.pwrite(data, 0)
    file.sync()
    file.close()
