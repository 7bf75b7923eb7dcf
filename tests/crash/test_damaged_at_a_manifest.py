"""The log is damaged at the very place of the newest manifest: what design section 4 says is done.

It touches no vote: the node goes back to the manifest before, keeps a floor, and is supplied by the leader.
A node without peers refuses, and changes nothing.
"""

from __future__ import annotations

import logging

import pytest

from neumann.env.files import read_file
from neumann.errors import Corrupt
from neumann.format import frame as frame_format
from neumann.format import names
from neumann.format.segment import SEGMENT_HEADER_BYTES
from tests.crash.runs import make
from tests.crash.witness import LIMIT_S, Witness
from tests.sim.machine import Machine, Rotten


def damage(machine: Machine, how: str) -> int:
    """At the marker of the newest manifest: flip a bit of its header and one of the next frame's, which
    repeats its chain value, or cut the file inside of it. That manifest's index."""
    disk, paths = machine.disk, machine.paths
    index = max(point[0] for name in disk.list(paths.store) if (point := names.parse_manifest(name)))
    segments = [(parsed[1], name) for name in disk.list(paths.wal) if (parsed := names.parse_segment(name))]
    name = max(name for first, name in segments if first <= index)
    path, offset = f"{paths.wal}/{name}", SEGMENT_HEADER_BYTES
    data = read_file(disk, path)
    while (header := frame_format.decode_header(data, offset)).last_index < index:
        offset += header.frame_bytes
    if how == "flipped":
        disk.flip(path, offset + 1, 0)
        disk.flip(path, offset + header.frame_bytes + 9, 0)
    else:
        file = disk.open(path, write=True)
        file.truncate(offset + 10)
        file.sync()
    return index


def log_of(machine: Machine) -> dict[str, bytes]:
    """All of its segments."""
    wal = machine.paths.wal
    return {name: read_file(machine.disk, f"{wal}/{name}") for name in machine.disk.list(wal)}


async def until_the_marker_is_inside(world: Witness, writer: Machine, machine: Machine) -> None:
    """Write until the newest manifest of that machine is of no published snapshot, which ends a segment."""
    member = world.member(machine)
    assert member is not None
    for _ in range(60):
        await world.settled()
        snapshots = member.snapshots
        if snapshots.newest[0] > snapshots.published_index > 0:
            return
        await world.write(writer, 1)
    raise AssertionError("no such snapshot was made")


@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_one_of_three_goes_back_to_the_manifest_before_and_is_supplied(how: str) -> None:
    """It was refused at start, and only a rejoin, with all of its data again, helped."""
    world = make(Witness, "member", 3)

    async def script() -> None:
        first, watched = world.node("n1"), world.watched
        await world.formed()
        await world.write(first, 20)
        await until_the_marker_is_inside(world, first, watched)
        member = world.member(watched)
        assert member is not None
        await world.write(first, 2)
        await world.settled()
        await world.stop(watched)
        index = damage(watched, how)
        await world.write(first, 3)
        watched.rotten["of the log"] = Rotten("segment", 0)
        await world.start(watched)
        back = world.member(watched)
        assert back is not None and back.raft.floor != (0, 0) and back.manifest.point.index < index
        await world.until(lambda: back.raft.floor == (0, 0), LIMIT_S, "the leader has supplied it")
        await world.settled()
        assert back.manifest.point.index >= index, "the snapshot was made again"
        watched.made_whole()
        await world.stop(watched)
        await world.start(watched)
        await world.settled()

    with world:
        world.loop.run(script(), 300.0)
        world.finish_checks()


def test_a_sole_voter_refuses_and_names_wal_replay() -> None:
    world = make(Witness, "alone", 3)

    async def script() -> None:
        (machine,) = world.machines
        await world.formed()
        await world.write(machine, 20)
        await until_the_marker_is_inside(world, machine, machine)
        await world.write(machine, 2)
        await world.settled()
        await world.stop(machine)
        damage(machine, "flipped")
        before = log_of(machine)
        with pytest.raises(Corrupt, match="can't be taken up") as refused:
            await world.start(machine)
        assert "wal-replay" in refused.value.remedy
        assert log_of(machine) == before

    with world:
        logging.getLogger("neumann").setLevel(logging.CRITICAL)
        world.loop.run(script(), 300.0)
