"""A running follower takes a snapshot in place of its log, and when it must not."""

from __future__ import annotations

from pathlib import Path

from neumann.format.message import SnapshotOffer
from tests.runtime.nodes import config_of, keys_of, one_node, until, write_rows


async def test_a_snapshot_that_the_log_has_passed_replaces_nothing(tmp_path: Path) -> None:
    """While a snapshot was fetched, another leader could replicate beyond it; putting it in place then
    threw away acknowledged entries."""
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
