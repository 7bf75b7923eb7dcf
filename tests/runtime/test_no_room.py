"""No room on the disk while a member is being opened, or given up: the node waits, and goes on by itself."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from pathlib import Path

import pytest

from neumann.env import real_env
from neumann.env.disk import RealDisk
from neumann.env.doors import File
from neumann.env.files import read_file, write_new
from neumann.errors import Corrupt, DiskFull, StorageFailed
from neumann.format import names, state
from neumann.format.names import Paths
from neumann.runtime.opening import open_member
from tests.crash.runs import make
from tests.crash.witness import LIMIT_S, Witness
from tests.runtime.nodes import config_of, configs_of, is_formed, leads, one_node, start, until, write_rows
from tests.sim.machine import Machine
from tests.sim.record import Change


class _Full(RealDisk):
    """There is no room for what `no_room` is part of the path of."""

    no_room = "nothing"

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        if create:
            self._check(path)
        return super().open(path, write=write, create=create)

    def rename(self, source: str, target: str) -> None:
        self._check(target)
        super().rename(source, target)

    def _check(self, path: str) -> None:
        if self.no_room in path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_rejoin_without_room_is_finished_or_undone(tmp_path: Path, *, begun: bool) -> None:
    """The member was closed, and then there was no room to set its state aside: nobody opened it again, and
    it was down until a restart. Where the swap had begun, the next rejoin met an assertion."""
    env = real_env()
    env.disk = disk = _Full()
    configs = configs_of(tmp_path, 3)
    running = [await start(config, env if config.node.id == "n3" else None) for config in configs]
    try:
        await until(lambda: is_formed(running), "3 voters")
        node = running[2].node
        await write_rows(node, range(5))
        leading = next(one.node for one in running if leads(one.node))
        if leading is node:
            await node.leader_transfer("n1")
            await until(lambda: leads(running[0].node), "n1 leads")
            leading = running[0].node
        leader, before = leading.member, node.member
        assert leader is not None and before is not None
        await until(lambda: "n3" in leader.membership.spares(), "it can be spared")
        disk.no_room = "/aside/" if begun else names.RESTORE_JOURNAL
        with pytest.raises(DiskFull, match="no room") as told:
            await node.rejoin()
        assert "rejoin again" in told.value.remedy
        if begun:
            with pytest.raises(DiskFull, match="no room"):
                await node.rejoin()
            assert node.member is None and not node.serving()[0]
            disk.no_room = "nothing"
        await until(lambda: node.member is not None, "it runs again")
        again = node.member
        assert again is not None
        assert (again.identity.storage_id != before.identity.storage_id) == begun
        await until(lambda: is_formed(running), "all vote")
        await write_rows(node, range(5, 8))
    finally:
        await asyncio.gather(*(one.stop() for one in running))


def _start_number(machine: Machine) -> int:
    data = read_file(machine.disk, machine.paths.vote)
    return state.decode_vote(data, machine.paths.vote)[1].start_number


def test_a_member_that_found_no_room_as_it_began_is_opened_again() -> None:
    """A full disk, or quota, while an opened member began left it there without its clock: it never voted,
    led or followed until a restart. And it is not tried four times a second: each start is counted."""
    world = make(Witness, "alone", 3)

    async def script() -> None:
        (machine,) = world.machines
        await world.formed()
        await world.write(machine, 9)
        await world.settled()
        await world.stop(machine)
        debris = f"{machine.paths.store}/{names.table_name(bytes(32))}"
        write_new(machine.disk, debris, b"of an interrupted flush")
        before = _start_number(machine)

        def is_of_debris(change: Change) -> bool:
            return change.path == debris

        machine.disk.has_no_room = is_of_debris
        await world.start(machine)
        assert world.member(machine) is None and machine.node is not None
        assert "no room" in machine.node.serving()[1]
        await asyncio.sleep(10.0)
        assert 3 < _start_number(machine) - before < 10
        machine.disk.has_no_room = None
        await world.until(world.is_formed, LIMIT_S, "it leads")
        await world.write(machine, 2)
        await world.settled()

    with world:
        world.loop.run(script(), 300.0)
        world.finish_checks()


def test_a_stop_that_can_not_write_its_mark_lets_go_of_the_directory() -> None:
    """The error left the lock held, the log open and the lanes running: who embeds a node could not open the
    directory again before the process ended."""
    world = make(Witness, "alone", 3)

    async def script() -> None:
        (machine,) = world.machines
        await world.formed()
        await world.write(machine, 3)
        machine.disk.has_no_room = lambda change: change.path == machine.paths.sync_mark
        assert machine.process is not None and machine.node is not None
        with pytest.raises(StorageFailed, match="sync-mark"):
            await machine.process.call(machine.node.stop())
        machine.disk.has_no_room = None
        machine.disk.lock(machine.paths.lock)()
        machine.exit()
        await world.start(machine)
        await world.write(machine, 2)
        await world.settled()

    with world:
        world.loop.run(script(), 300.0)
        world.finish_checks()


async def test_a_member_that_can_not_be_opened_holds_no_file_open(tmp_path: Path) -> None:
    """Two files stayed open for each attempt, and a node without a peer to mend from tries for ever."""
    config = config_of(tmp_path)
    paths = Paths(config.node.data_dir)
    async with one_node(config) as node:
        await write_rows(node, range(50))
        await node.snapshot()
    for table in Path(paths.store).glob("*.table"):
        table.write_bytes(b"rot")

    def attempt() -> None:
        with pytest.raises(Corrupt):
            open_member(RealDisk(), paths, config, 0)
        gc.collect()

    attempt()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        attempt()
    assert len(os.listdir("/proc/self/fd")) == before
