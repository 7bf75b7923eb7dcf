"""Published snapshots are for users: what they delete there, the node neither needs nor loses."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neumann.config import Config
from neumann.env import real_env
from neumann.env.disk import RealDisk
from neumann.format import names
from neumann.format.command import encode_put, pack_value
from neumann.runtime import host
from neumann.runtime.applier import BACKLOG_HOLDS_PROPOSALS
from neumann.runtime.node import Node
from neumann.snapshot import publish
from tests.runtime.nodes import config_of, one_node, put, until


def _config(root: Path) -> Config:
    config = Config()
    return replace(
        config,
        node=replace(config.node, id="n1", data_dir=str(root)),
        snapshot=replace(config.snapshot, interval_entries=10, publish_interval_s=1e9),
    )


async def test_the_newest_published_snapshot_is_made_whole_after_its_tables_were_merged(
    tmp_path: Path,
) -> None:
    """Bug: the audit only knew the newest manifest, so a published snapshot older than it, whose tables
    had been merged away meanwhile, was lost when a user deleted files of raft/snapshots."""
    node = await Node.start(_config(tmp_path), real_env(), bootstrap=True)
    try:
        await _fill(node, 0, 20)
        made = await node.snapshot()
        await _fill(node, 20, 300)
        assert node.member is not None
        await node.member.checkpointer.drain()
        published = node.member.snapshots.published
        assert published is not None and published.snapshot_id == made["id"]
        assert node.member.manifest.point.index > made["index"] + 200
        merges = node.host.metrics.compaction_seconds.buckets
        await until(lambda: any(merges), "a merge has ended, and was counted")
        assert node.host.metrics.compaction_written_bytes > 0
        shutil.rmtree(tmp_path / "raft/snapshots")
        missing = publish.audit(node.env.disk, node.paths, published)
        assert missing == 1 + len(published.tables)
        newest = publish.newest_complete(node.env.disk, node.paths.snapshots)
        assert newest is not None and newest.id == made["id"]
    finally:
        await node.stop()


async def test_a_restarted_node_still_knows_what_it_published(tmp_path: Path) -> None:
    """Bug: after a restart a leader offered the base of its log as a snapshot, which nobody published."""
    node = await Node.start(_config(tmp_path), real_env(), bootstrap=True)
    await _fill(node, 0, 20)
    made = await node.snapshot()
    await node.stop()
    node = await Node.start(_config(tmp_path), real_env(), bootstrap=True)
    try:
        assert node.member is not None and node.member.snapshots.published is not None
        assert node.member.snapshots.published.snapshot_id == made["id"]
        assert (tmp_path / "raft/snapshots" / made["id"] / "manifest").exists()
    finally:
        await node.stop()


async def _fill(node: Node, start: int, stop: int) -> None:
    for number in range(start, stop):
        await node.write(encode_put("t", f"k{number:04}", pack_value(number)))


class _SlowLinks(RealDisk):
    """Building a published snapshot takes a while."""

    def link(self, source: str, target: str) -> None:
        threading.Event().wait(0.1 if names.TEMPORARY in target else 0)
        super().link(source, target)


class _FullDisk(RealDisk):
    """While `is_full` nothing can be made among the published snapshots."""

    is_full = False
    refused = 0

    def make_dirs(self, path: str) -> None:
        if self.is_full and path.endswith(names.TEMPORARY):
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().make_dirs(path)


async def test_an_audit_lets_the_snapshot_be_that_is_being_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the audit took what was just being built for debris of a crash and removed it, and the node
    stopped because its links failed."""
    monkeypatch.setattr(host, "_AUDIT_S", 0.01)
    env = real_env()
    env.disk = _SlowLinks()
    async with one_node(config_of(tmp_path), env) as node:
        await node.write(put("a"))
        made = await node.snapshot()
        assert publish.open_published(env.disk, f"{node.paths.snapshots}/{made['id']}").tables


async def test_an_audit_that_fails_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a full disk, or a user who deleted at the same moment, made the audit fail and the node stop."""
    monkeypatch.setattr(host, "_AUDIT_S", 0.01)
    env = real_env()
    env.disk = disk = _FullDisk()
    async with one_node(config_of(tmp_path), env) as node:
        await node.write(put("a"))
        made = await node.snapshot()
        disk.is_full = True
        os.rename(f"{node.paths.snapshots}/{made['id']}", tmp_path / "gone")  # at once: the audit is at work
        await until(lambda: disk.refused > 1, "the audit has failed twice")
        disk.is_full = False
        await until(lambda: disk.exists(f"{node.paths.snapshots}/{made['id']}"), "it is linked again")
        assert not node.failed.done()


async def test_publishing_waits_for_room_on_a_full_disk(tmp_path: Path) -> None:
    """Bug: a disk that was full for a moment while a snapshot was published stopped the node (R9)."""
    env = real_env()
    env.disk = disk = _FullDisk()
    async with one_node(config_of(tmp_path), env) as node:
        await node.write(put("a"))
        disk.is_full = True
        asked = asyncio.create_task(node.snapshot())
        await until(lambda: disk.refused > 0, "publishing found no room")
        await node.write(put("b"))
        assert not asked.done()
        disk.is_full = False
        made = await asked
        assert publish.open_published(disk, f"{node.paths.snapshots}/{made['id']}").tables


async def test_a_snapshot_that_waits_for_room_keeps_its_tables(tmp_path: Path) -> None:
    """Bug: once two newer ones were made and its tables merged away, to publish it ended the node."""
    env = real_env()
    env.disk = disk = _FullDisk()
    node = await Node.start(_config(tmp_path), env, bootstrap=True)
    try:
        await _fill(node, 0, 20)
        disk.is_full = True
        asked = asyncio.create_task(node.snapshot())
        await _fill(node, 20, 300)
        assert node.member is not None
        await node.member.checkpointer.drain()
        merges = node.host.metrics.compaction_seconds.buckets
        await until(lambda: any(merges), "a merge has ended")
        await _fill(node, 300, 330)
        await node.member.checkpointer.drain()
        assert disk.refused and not asked.done()
        disk.is_full = False
        made = await asked
        newest = publish.newest_complete(disk, node.paths.snapshots)
        assert newest is not None and newest.id == made["id"]
        assert not node.failed.done()
    finally:
        await node.stop()


async def test_writes_that_flushes_held_back_go_on_though_a_snapshot_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: who held writes back heard that flushes had ended only when a snapshot was published."""
    env = real_env()
    env.disk = disk = _FullDisk()
    node = await Node.start(_config(tmp_path), env, bootstrap=True)
    run, may_flush = env.jobs.run, asyncio.Event()

    async def when_it_may(function: str, params: Mapping[str, object]) -> dict[str, Any]:
        await may_flush.wait()
        return await run(function, params)

    try:
        await _fill(node, 0, 5)
        disk.is_full = True
        asked = asyncio.create_task(node.snapshot())
        await until(lambda: disk.refused > 0, "publishing found no room")
        member = node.member
        assert member is not None
        monkeypatch.setattr(env.jobs, "run", when_it_may)
        filling = asyncio.create_task(_fill(node, 5, 300))
        await until(lambda: member.store.backlog >= BACKLOG_HOLDS_PROPOSALS, "flushes lag behind")
        await asyncio.sleep(0.1)
        may_flush.set()
        await filling
        assert not asked.done()
        disk.is_full = False
        await asked
    finally:
        may_flush.set()
        await node.stop()


async def test_a_busy_cluster_publishes_once_an_interval(tmp_path: Path) -> None:
    """Bug: until the first one was published, each snapshot was to be published too."""
    config = config_of(tmp_path)
    config = replace(config, snapshot=replace(config.snapshot, interval_entries=10, publish_interval_s=60.0))
    env = real_env()
    env.disk = _SlowLinks()
    async with one_node(config, env) as node:
        for key in range(60):
            await node.write(put(f"{key:03d}"))
        member = node.member
        assert member is not None
        await until(lambda: not member.snapshots.in_progress, "all snapshots are made")
        assert member.manifest.point.index >= 50
        published = publish.list_published(env.disk, node.paths.snapshots)
        assert len([one for one in published if one.index > 0]) == 1


async def test_a_leader_that_has_published_nothing_does(tmp_path: Path) -> None:
    """Bug: after a user had deleted raft/snapshots while a node was down, a quiet cluster took nobody in."""
    node = await Node.start(_config(tmp_path), real_env(), bootstrap=True)
    await _fill(node, 0, 20)
    await node.snapshot()
    await _fill(node, 20, 40)
    assert node.member is not None
    await node.member.checkpointer.drain()
    await node.stop()
    shutil.rmtree(tmp_path / "raft/snapshots")
    node = await Node.start(_config(tmp_path), real_env(), bootstrap=True)
    try:
        await until(lambda: publish.newest_complete(node.env.disk, node.paths.snapshots) is not None, "one")
        assert node.member is not None
        member = node.member
        await until(lambda: not member.snapshots.in_progress, "it is done")
        before = member.applier.applied_index
        await asyncio.sleep(0.2)
        assert member.applier.applied_index == before, "one is enough"
    finally:
        await node.stop()


async def test_a_snapshot_newer_than_the_node_is_not_its_own(tmp_path: Path) -> None:
    """Bug: a snapshot of a member that was further, copied to one that lagged, kept it from starting."""
    data, before = tmp_path / "data", tmp_path / "before"
    node = await Node.start(_config(data), real_env(), bootstrap=True)
    await _fill(node, 0, 5)
    made = await node.snapshot()
    await node.stop()
    shutil.copytree(data, before, symlinks=True)
    node = await Node.start(_config(data), real_env(), bootstrap=True)
    await _fill(node, 5, 9)
    newer = await node.snapshot()
    await node.stop()
    shutil.copytree(data / "raft/snapshots" / newer["id"], before / "raft/snapshots" / newer["id"])
    node = await Node.start(_config(before), real_env(), bootstrap=True)
    try:
        assert node.member is not None and node.member.snapshots.published is not None
        assert node.member.snapshots.published.snapshot_id == made["id"]
    finally:
        await node.stop()


async def test_a_snapshot_that_was_made_while_this_node_installs_one_is_not_told_to_be_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that had no member for a moment answered that nothing was done, though the cluster had made the
    snapshot that it had asked for."""
    async with one_node(config_of(tmp_path)) as node:
        await node.write(put("a"))
        administer, member = node._administer_anywhere, node.member

        async def administer_and_close(*asked: Any) -> dict[str, Any]:
            made = await administer(*asked)
            node.host.member = None
            asyncio.get_running_loop().call_later(0.1, setattr, node.host, "member", member)
            return made

        monkeypatch.setattr(node, "_administer_anywhere", administer_and_close)
        made = await node.snapshot()
        assert made["durable_on"] == ["n1"] and node.member is member
