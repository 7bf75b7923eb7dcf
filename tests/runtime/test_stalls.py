"""A leader whose disk, apply or flushes stand still lets another lead, and writes go on there.

Three whole nodes on real disks in this process; what stands still is a door of the leader.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neumann.config import SnapshotConfig
from neumann.env import Env, File, Lane, real_env
from neumann.env.disk import RealDisk, RealFile
from neumann.env.jobs import RealJobs
from neumann.env.lane import RealLane
from neumann.errors import NeumannError
from neumann.format.command import ABSENT, encode_put, pack_value, row_key
from neumann.runtime.node import Node
from neumann.store.store import COLD
from tests.runtime.nodes import Running, configs_of, is_formed, leads, put, start, until


class Held:
    """The doors of one node, with gates that can be shut."""

    def __init__(self) -> None:
        self.syncs, self.flushes, self.reads = threading.Event(), asyncio.Event(), threading.Event()
        self.full = False
        self.open_all()

    def open_all(self) -> None:
        self.full = False
        for gate in (self.syncs, self.flushes, self.reads):
            gate.set()

    def env(self) -> Env:
        env = real_env()
        env.disk, env.jobs = _HeldDisk(self), _HeldJobs(self)
        env.lane = lambda name: _held_lane(name, self)
        return env


class _HeldFile(RealFile):
    """Its sync waits for the gate."""

    __slots__ = ("_held",)

    def __init__(self, file: File, held: Held) -> None:
        assert isinstance(file, RealFile)
        super().__init__(file._fd)
        self._held = held

    def sync(self) -> None:
        self._held.syncs.wait(30)
        super().sync()


class _HeldDisk(RealDisk):
    def __init__(self, held: Held) -> None:
        self._held = held

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        file = super().open(path, write=write, create=create)
        return _HeldFile(file, self._held) if path.endswith(".wal") and write else file

    def free_bytes(self, path: str) -> int:
        return 0 if self._held.full else super().free_bytes(path)


class _HeldJobs(RealJobs):
    def __init__(self, held: Held) -> None:
        super().__init__()
        self._held = held

    async def run(self, function: str, params: Mapping[str, object]) -> dict[str, Any]:
        await self._held.flushes.wait()
        return await super().run(function, params)


def _held_lane(name: str, held: Held) -> Lane:
    lane = RealLane(name)
    if name == "read":
        submit = lane.submit

        def submit_held(work: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
            def wait_and_work() -> Any:
                held.reads.wait(30)
                return work()

            submit(wait_and_work, done)

        lane.submit = submit_held  # type: ignore[method-assign]
    return lane


@asynccontextmanager
async def three_nodes(root: Path) -> AsyncIterator[tuple[list[Running], dict[str, Held]]]:
    """A formed cluster; every twenty entries are a snapshot, and nothing is cached."""
    doors: dict[str, Held] = {}
    running = []
    for config in configs_of(root, 3):
        held = doors[config.node.id] = Held()
        settings = replace(
            config,
            snapshot=replace(SnapshotConfig(publish_interval_s=0.0), interval_entries=20),
            store=replace(config.store, cache_bytes_max=0, disk_free_bytes_min=4096),
        )
        running.append(await start(settings, held.env()))
    try:
        await until(lambda: is_formed(running), "three voters")
        yield running, doors
    finally:
        for held in doors.values():
            held.open_all()
        await asyncio.gather(*(one.stop() for one in running))


def _leader(running: list[Running]) -> Node:
    return next(one.node for one in running if leads(one.node))


async def _written(node: Node, command: bytes) -> bool:
    try:
        await node.write(command, timeout_s=1.0)
    except NeumannError:
        return False
    return True


async def _another_leads(running: list[Running], stalled: Node, caplog: pytest.LogCaptureFixture) -> None:
    """It does, it takes writes, and what stalled was left because of that. (It may have led again in between:
    its log is as good as the others'.)"""
    others = [one for one in running if one.node is not stalled]
    await until(lambda: any(leads(one.node) for one in others), "another leads")
    assert "election timeouts: another shall lead" in caplog.text
    assert await _written(_leader(others), put("after"))


async def test_a_disk_that_takes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with three_nodes(tmp_path) as (running, doors):
        leader = _leader(running)
        doors[leader.config.node.id].syncs.clear()
        assert await _written(leader, put("during")), "the others are a majority"
        await _another_leads(running, leader, caplog)


async def test_an_apply_that_stands_still(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The row of a condition lay in no memory, and its read never ended: the leader kept leading."""
    async with three_nodes(tmp_path) as (running, doors):
        leader = _leader(running)
        for number in range(40):
            assert await _written(leader, put(f"{number}"))
        member = leader.member
        assert member is not None
        store = member.store
        await until(lambda: store.peek(row_key("t", "0")) is COLD, "it is in a table")
        doors[leader.config.node.id].reads.clear()
        assert not await _written(leader, encode_put("t", "0", pack_value(1), (ABSENT,)))
        await _another_leads(running, leader, caplog)


async def test_flushes_that_stand_still(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Writes were held back until flushes got on, which they never did: the leader kept leading."""
    async with three_nodes(tmp_path) as (running, doors):
        leader = _leader(running)
        doors[leader.config.node.id].flushes.clear()
        for number in range(1000):
            if not await _written(leader, put(f"{number}")):
                break
        await _another_leads(running, leader, caplog)


async def test_a_disk_that_is_full_here_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The leader refused every write although the others had room for them."""
    async with three_nodes(tmp_path) as (running, doors):
        leader = _leader(running)
        doors[leader.config.node.id].full = True
        member = leader.member
        assert member is not None
        await until(lambda: member.space.refusal is not None, "it is full")
        await _another_leads(running, leader, caplog)


async def test_a_leader_that_gets_on_stays(tmp_path: Path) -> None:
    """Each write waits for the disk, but never for the same batch as long as that."""
    async with three_nodes(tmp_path) as (running, doors):
        leader = _leader(running)
        held = doors[leader.config.node.id]
        held.syncs.clear()
        for number in range(8):
            await _written(leader, put(f"{number}"))
            await asyncio.sleep(0.4)
            held.syncs.set()
            await asyncio.sleep(0.05)
            held.syncs.clear()
        assert leads(leader)
