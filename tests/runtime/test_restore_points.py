"""Restore points are found in the log without keeping anybody else from it, and without reading it again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neumann.env import File, real_env
from neumann.env.disk import RealDisk
from neumann.errors import Unavailable
from neumann.runtime.node import Node
from tests.runtime.nodes import config_of, one_node, put, until


class _Watched(RealDisk):
    """`read`: which segments were opened to be read. While `held`, that takes for ever."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.goes_on = threading.Event()
        self.goes_on.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        self.goes_on.clear()
        try:
            yield
        finally:
            self.goes_on.set()

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        if path.endswith(".wal") and not write:
            self.read.append(path)
            self.goes_on.wait()
        return super().open(path, write=write, create=create)


async def _name_points(node: Node, *names: str) -> None:
    """One in each of as many sealed segments, and one in the open one."""
    for name in names:
        await node.restore_point(name)
        await node.snapshot()
    await node.restore_point("last")


def _names(listed: dict[str, list[dict[str, str]]]) -> list[str]:
    return [point["name"] for point in listed["restore_points"]]


async def test_a_sealed_segment_is_read_once(tmp_path: Path) -> None:
    """Each listing read the whole log again, which an archive that is out of reach lets grow to many GiB."""
    env = real_env()
    env.disk = disk = _Watched()
    async with one_node(config_of(tmp_path), env) as node:
        await _name_points(node, "a", "b")
        member = node.member
        assert member is not None
        await until(lambda: all(s.sealed for s in member.wal.segments()[:-1]), "the last one's seal")
        sealed = {segment.path for segment in member.wal.segments() if segment.sealed}
        disk.read.clear()
        assert _names(await node.restore_points()) == ["a", "b", "last"]
        assert len(sealed) >= 2 and sealed < set(disk.read)
        disk.read.clear()
        await node.restore_point("later")
        assert _names(await node.restore_points()) == ["a", "b", "last", "later"]
        assert disk.read and not sealed & set(disk.read)


async def test_who_follows_the_log_does_not_wait_for_a_listing(tmp_path: Path) -> None:
    """wal-receive's reads queued behind a listing, for as long as that took to read the whole log."""
    env = real_env()
    env.disk = disk = _Watched()
    async with one_node(config_of(tmp_path), env) as node:
        member = node.member
        assert member is not None
        await _name_points(node, "a")
        disk.read.clear()
        with disk.held():
            listing = asyncio.create_task(node.restore_points())
            await until(lambda: bool(disk.read), "it reads")
            before = member.raft.last
            await node.write(put("x"))
            identity = member.identity
            params = [identity.cluster_id, str(identity.timeline), before.index, before.chain, 1 << 20, 0.0]
            async with asyncio.timeout(5):
                reached, _, data = await node.call("log.read", params)
            assert reached > before.index and data
        assert _names(await listing) == ["a", "last"]


async def test_a_node_ends_in_the_middle_of_a_listing(tmp_path: Path) -> None:
    """It would wait until all of the log was read, or the listing for a lane that is closed."""
    env = real_env()
    env.disk = disk = _Watched()
    async with one_node(config_of(tmp_path), env) as node:
        await _name_points(node, "a", "b")
        disk.read.clear()
        with disk.held():
            listing = asyncio.create_task(node.restore_points())
            await until(lambda: bool(disk.read), "it reads")
            ending = asyncio.create_task(asyncio.to_thread(node._restore_points.close))
            await until(lambda: node._restore_points._closed, "it ends")
        with pytest.raises(Unavailable, match="stopping"):
            await listing
        await ending
        assert len(disk.read) == 1
