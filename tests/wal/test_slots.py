"""The two-slot file: one slot always holds a value that was written whole."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest

from neumann.errors import Corrupt, StorageFailed
from neumann.format.record import SLOT_BYTES
from neumann.format.state import Vote, decode_vote, encode_vote_slot
from neumann.wal import TwoSlotFile
from tests.sim.disk import SimCrash, SimDisk

PATH = "/raft/vote"


def slots_on(disk: SimDisk) -> TwoSlotFile[Vote]:
    return TwoSlotFile(disk, PATH, encode_vote_slot, decode_vote)


def created() -> SimDisk:
    disk = SimDisk()
    disk.sector_bytes = 8
    disk.make_dirs("/raft")
    slots_on(disk).create(Vote(1, "a"))
    return disk


def test_round_trip() -> None:
    disk = created()
    slots = slots_on(disk)
    assert slots.exists() and slots.read() == (1, Vote(1, "a"))
    slots.write(Vote(2, "b"))
    slots.write(Vote(3, "c"))
    slots.close()
    assert slots_on(disk).read() == (3, Vote(3, "c"))
    assert slots_on(disk).repair() == Vote(3, "c")
    assert slots_on(disk).read() == (4, Vote(3, "c"))


@pytest.mark.parametrize("is_repaired", [False, True])
def test_a_crash_at_every_change(is_repaired: bool) -> None:
    """Bugs 12 and 13: term and vote were two writes, and a crash came between them. A vote that was answered
    and then forgotten elects two leaders."""
    for crash_at in range(16):
        for seed in range(20):
            disk = created()
            disk.crash_at = disk.operations + crash_at
            slots, written, begun = slots_on(disk), 1, 1
            try:
                if is_repaired:
                    slots.repair()
                else:
                    slots.read()
                for term in (2, 3):
                    begun = term
                    slots.write(Vote(term, "b"))
                    written = term
            except SimCrash:
                pass
            disk = disk.crash(Random(seed))
            value = slots_on(disk).repair()
            assert written <= value.term <= begun
            disk.flip(PATH, 20 + SLOT_BYTES * (seed % 2), 3)
            assert slots_on(disk).read()[1] == value, "repaired: both slots hold it"


@pytest.mark.parametrize("is_repaired", [False, True])
@pytest.mark.parametrize("damaged", [0, 1])
def test_the_first_write_beside_a_damaged_slot_survives_a_crash(damaged: int, is_repaired: bool) -> None:
    """Two crashes in a row lost the vote: the start wrote over the good slot first, the other being torn."""
    for crash_at in range(5):
        for seed in range(40):
            disk = created()
            disk.flip(PATH, damaged * SLOT_BYTES + 20, 1)
            disk.crash_at = disk.operations + crash_at
            slots = slots_on(disk)
            with suppress(SimCrash):
                if is_repaired:
                    slots.repair()
                else:
                    slots.read()
                    slots.write(Vote(1, "a"))
            assert slots_on(disk.crash(Random(seed))).read()[1] == Vote(1, "a")


def test_nothing_readable_is_corruption() -> None:
    disk = created()
    for slot in (0, 1):
        disk.flip(PATH, slot * SLOT_BYTES + 20, 1)
    with pytest.raises(Corrupt, match=PATH):
        slots_on(disk).read()
    disk.unlink(PATH)
    assert not slots_on(disk).exists()
    with pytest.raises(Corrupt, match="missing"):
        slots_on(disk).read()


def test_a_failed_sync_is_final() -> None:
    disk = created()
    slots = slots_on(disk)
    slots.read()
    disk.fail_sync(PATH)
    for _ in range(2):
        with pytest.raises(StorageFailed):
            slots.write(Vote(9, "z"))
    assert slots_on(disk.crash(Random(0))).read()[1] == Vote(1, "a")
