"""Bits that rot on the disk of one machine, where what follows is defined (docs/runbook.md, on damage).

Only of one machine at a time, so that a majority keeps everything in one piece, and never in the log above
the sync mark, where damage can't be told from a torn batch. Of a file with two slots one stays good. Both
hold also for what a power failure would leave, where a sync of the mark or of a slot failed. Nor does a
segment rot that a `cp` of a leader of yesterday is about to put over the archive's good one, which is there
or which the leader of today puts there first: nobody is left who copies it again, which wal-push is for.
Called by faults.py; mending.py says when all is whole again, excuses.py what a node may do until then.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from random import Random

from neumann.env.files import read_file
from neumann.errors import Corrupt
from neumann.format import names, state
from neumann.format.record import SLOT_BYTES, SLOT_COUNT
from tests.sim.machine import Machine

_SHARES = {"table": 40, "segment": 40, "snapshot": 6, "manifest": 4, "slot": 10}
Spot = tuple[str, int, int]
"""(path, first offset, end) of what may rot."""


def rot(machine: Machine, random: Random, *, leads: bool = True) -> str:
    """Flip a bit; of which file, or "" where nothing of the drawn kind is there. `leads`: no other machine
    leads a newer term."""
    if machine.disk.is_dead:
        return ""
    kind = random.choices(list(_SHARES), list(_SHARES.values()))[0]
    spots = [spot for spot in _FINDERS[kind](machine) if spot[1] < spot[2]]
    if not leads and machine.commands is not None:
        spots = [spot for spot in spots if not machine.commands.targets(spot[0])]
    if not spots:
        return ""
    path, first, end = random.choice(spots)
    known_as = "table" if kind == "snapshot" and _is_the_stores(machine, path) else kind
    machine.rots(path, known_as, random.randrange(first, end), random.randrange(8))
    return path


def _is_the_stores(machine: Machine, path: str) -> bool:
    """Whether the store has that very file: publishing links a table, so that what rots in a snapshot's may
    rot in the one that a merge reads. Another file of the same name is another matter."""
    disk, own = machine.disk, f"{machine.paths.store}/{posixpath.basename(path)}"
    return disk.exists(own) and disk.stat(own).inode == disk.stat(path).inode


def _whole(machine: Machine, path: str) -> Spot:
    return path, 0, machine.disk.stat(path).size_bytes


def _tables(machine: Machine) -> list[Spot]:
    store = machine.paths.store
    return [_whole(machine, f"{store}/{n}") for n in machine.disk.list(store) if names.parse_table(n)]


def _manifests(machine: Machine) -> list[Spot]:
    store = machine.paths.store
    return [_whole(machine, f"{store}/{n}") for n in machine.disk.list(store) if names.parse_manifest(n)]


def _snapshots(machine: Machine) -> list[Spot]:
    """What is in published snapshots; their tables are those of the store, or were."""
    directory = machine.paths.snapshots
    ids = filter(names.parse_snapshot, machine.disk.list(directory))
    paths = [f"{directory}/{snapshot}/{name}" for snapshot in ids for name in _files(machine, snapshot)]
    return [_whole(machine, path) for path in paths]


def _files(machine: Machine, snapshot: str) -> list[str]:
    found = machine.disk.list(f"{machine.paths.snapshots}/{snapshot}")
    return [name for name in found if name == names.MANIFEST or names.parse_table(name)]


def _as_left(machine: Machine, path: str) -> tuple[bytes, bytes]:
    """A file as it is read, and as a power failure would leave it."""
    return read_file(machine.disk, path), machine.disk.durable_bytes(path)


def log_spots(machine: Machine) -> list[Spot]:
    """The log up to the sync mark on the disk: the lower one, where the one that is read is not durable."""
    disk, wal, mark_path = machine.disk, machine.paths.wal, machine.paths.sync_mark
    try:
        marks = [state.decode_mark(data, mark_path)[1] for data in _as_left(machine, mark_path)]
    except (FileNotFoundError, Corrupt):
        return []
    mark = min(marks, key=lambda told: (told.segment_first, told.offset))
    spots = []
    for name in disk.list(wal):
        parsed, path = names.parse_segment(name), f"{wal}/{name}"
        if machine.commands is not None and machine.commands.replaces(path):
            continue
        if parsed is not None and parsed[1] < mark.segment_first:
            spots.append(_whole(machine, path))
        elif parsed is not None and parsed[1] == mark.segment_first:
            spots.append((path, 0, min(mark.offset, disk.stat(path).size_bytes)))
    return spots


def _slots(machine: Machine) -> list[Spot]:
    """A slot of the vote or of the sync mark, where the other one says the same."""
    paths, spots = machine.paths, list[Spot]()
    for path, decode in ((paths.vote, state.decode_vote), (paths.sync_mark, state.decode_mark)):
        slots = [(at, at + SLOT_BYTES) for at in range(0, SLOT_COUNT * SLOT_BYTES, SLOT_BYTES)]
        try:
            told = {decode(data[slice(*slot)], path) for data in _as_left(machine, path) for slot in slots}
        except (FileNotFoundError, Corrupt):
            continue
        if len(told) == 1:
            spots += [(path, *slot) for slot in slots]
    return spots


_FINDERS: dict[str, Callable[[Machine], list[Spot]]] = {
    "table": _tables,
    "segment": log_spots,
    "snapshot": _snapshots,
    "manifest": _manifests,
    "slot": _slots,
}
