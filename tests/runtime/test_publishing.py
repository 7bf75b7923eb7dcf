"""Published snapshots are for users: what they delete there, the node neither needs nor loses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from neumann.config import Config
from neumann.env import real_env
from neumann.format.command import encode_put, pack_value
from neumann.runtime.node import Node
from neumann.snapshot import publish


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
