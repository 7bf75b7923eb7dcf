"""A running follower takes a snapshot in place of its log, and when it must not."""

from __future__ import annotations

import asyncio
import errno
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neumann.env import real_env
from neumann.env.disk import RealDisk
from neumann.format.message import SnapshotOffer
from neumann.runtime import transfer
from neumann.runtime.node import Node
from neumann.snapshot.publish import list_published
from tests.runtime.nodes import config_of, configs_of, keys_of, leads, one_node, start, until, write_rows


async def test_a_snapshot_that_the_log_has_passed_replaces_nothing(tmp_path: Path) -> None:
    """Bug 30: while a snapshot was fetched, another leader could replicate beyond it; putting it in place
    then threw away acknowledged entries."""
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(50))
        made = await node.snapshot()
        await write_rows(node, range(50, 100))
        member = node.member
        assert member is not None
        point = member.manifest.point
        assert point.index == made["index"]
        node.host._on_need_snapshot("n1", SnapshotOffer(member.raft.term, *point, 1))
        await until(lambda: not node.host._installing, "the install has ended")
        await until(lambda: node.member is not None and node.member.leads, "it leads again")
        assert len(await keys_of(node)) == 100


async def test_a_joiner_waits_where_there_is_no_snapshot_to_fetch(tmp_path: Path) -> None:
    """A snapshot that was pruned, or deleted by a user, while a joiner fetched it ended the joiner."""
    first, second = configs_of(tmp_path, 2)
    running = await start(second)
    try:
        leading = await start(first)
        try:
            await until(lambda: leads(leading.node), "n1 leads")
            shutil.rmtree(tmp_path / "n1/raft/snapshots")
            await until(lambda: "could not be fetched" in running.node.serving()[1], "n2 has asked for one")
            assert not running.node.failed.done()
            await leading.node.snapshot()
            await until(lambda: running.node.member is not None, "n2 has joined")
        finally:
            await leading.stop()
    finally:
        await running.stop()


async def test_a_joiner_is_never_given_a_snapshot_that_a_user_put_there(tmp_path: Path) -> None:
    """The newest snapshot in the leader's directory was handed out, whoever's it was: a copy of another
    cluster's made a joiner a member of that cluster."""
    other = config_of(tmp_path / "other")
    async with one_node(other) as node:
        await write_rows(node, range(200))
        foreign = await node.snapshot()
    first, second = configs_of(tmp_path, 2)
    joining, leading = await start(second), await start(first)
    try:
        await until(lambda: joining.node.member is not None, "n2 has joined")
        await joining.stop()
        shutil.rmtree(tmp_path / "n2")
        copied = tmp_path / "n1/raft/snapshots/copied"
        shutil.copytree(tmp_path / f"other/n1/raft/snapshots/{foreign['id']}", copied)
        joining = await start(second)
        await until(lambda: joining.node.member is not None, "n2 has joined anew")
        assert leading.node.member is not None and joining.node.member is not None
        assert joining.node.member.manifest.history == leading.node.member.manifest.history
    finally:
        await joining.stop()
        await leading.stop()


async def test_a_snapshot_that_was_asked_for_stays_where_it_was_installed(tmp_path: Path) -> None:
    """A member that was installed from a snapshot pruned it as one that nobody had asked for, though the
    answer to who asked named that member among those that keep it."""
    configs = [
        replace(config, snapshot=replace(config.snapshot, keep_newest=1, keep_age_min_s=0.0))
        for config in configs_of(tmp_path, 3)
    ]
    running = [await start(config) for config in configs]
    try:
        await until(lambda: all(r.node.member is not None for r in running), "all are members")
        await write_rows(running[0].node, range(50))
        asked = await running[0].node.snapshot()
        await running[2].stop()
        shutil.rmtree(tmp_path / "n3")
        running[2] = await start(configs[2])
        joining = running[2].node
        await until(lambda: joining.member is not None, "n3 has joined anew")
        later = await running[0].node.snapshot()
        await until(lambda: _newest(joining) >= later["index"], "n3 has published it and pruned")
        kept = [published.id for published in list_published(joining.env.disk, joining.paths.snapshots)]
        assert kept == [later["id"], asked["id"]]
    finally:
        for one in running:
            await one.stop()


def _newest(node: Node) -> int:
    return node.member.snapshots.newest[0] if node.member is not None else 0


class _NoScratch(RealDisk):
    """Nothing can be put together in scratch/."""

    refused = 0

    def make_dirs(self, path: str) -> None:
        if "/scratch/" in path:
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().make_dirs(path)


async def test_a_member_without_room_for_a_snapshot_goes_on(tmp_path: Path) -> None:
    """A full disk while a snapshot was fetched ended the follower that ran beside (R9)."""
    env = real_env()
    env.disk = disk = _NoScratch()
    async with one_node(config_of(tmp_path), env) as node:
        await write_rows(node, range(10))
        await node.snapshot()
        member = node.member
        assert member is not None
        offer = SnapshotOffer(member.raft.term, *member.manifest.point, 1)
        node.host._on_need_snapshot("n1", offer)
        await until(lambda: disk.refused > 0, "there was no room")
        node.host._on_need_snapshot("n1", offer)
        await asyncio.sleep(0.1)
        assert disk.refused == 1, "it does not try again at once"
        assert not node.failed.done() and len(await keys_of(node)) == 10


def _bad_sector(*_: object) -> dict[str, Any]:
    raise OSError(errno.EIO, "it can't be read now")


async def test_a_member_goes_on_when_the_leader_can_not_read_its_own_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector on the leader's disk, met while it was read for a follower, ended the follower."""
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(10))
        await node.snapshot()
        member = node.member
        assert member is not None
        monkeypatch.setattr(transfer, "describe", _bad_sector)
        offer = SnapshotOffer(member.raft.term, *member.manifest.point, 1)
        node.host._on_need_snapshot("n1", offer)
        await until(lambda: not node.host._installing, "the install has ended")
        assert len(await keys_of(node)) == 10 and not node.failed.done()


async def test_a_joiner_waits_while_the_leader_can_not_read_its_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ended a joiner."""
    first, second = configs_of(tmp_path, 2)
    leading = await start(first)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(transfer, "describe", _bad_sector)
            joining = await start(second)
            try:
                await until(lambda: "can't be read now" in joining.node.serving()[1], "it was told")
                assert not joining.node.failed.done()
                patched.undo()
                await until(lambda: joining.node.member is not None, "n2 has joined")
            finally:
                await joining.stop()
    finally:
        await leading.stop()


async def test_a_member_that_can_not_be_opened_behind_an_install_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The install began to ask the peers beside whoever else does: two loops then opened the member."""
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(10))
        await node.snapshot()
        host, member = node.host, node.member
        assert member is not None
        run = host._run

        async def not_yet() -> bool:
            monkeypatch.setattr(host, "_run", run)
            return True

        monkeypatch.setattr(host, "_run", not_yet)
        monkeypatch.setattr(member, "holds", lambda _: False)
        host._on_need_snapshot("n1", SnapshotOffer(member.raft.term, *member.manifest.point, 1))
        await until(lambda: not host._installing, "the install has ended")
        host._begin_asking()
        asking = [task for task in asyncio.all_tasks() if "_ask_until_member" in repr(task.get_coro())]
        assert len(asking) == 1
        await until(lambda: leads(node), "it leads again")
        assert len(await keys_of(node)) == 10
