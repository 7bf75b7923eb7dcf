"""A replica that differs from the others stops, and a restart does not make it forget."""

from __future__ import annotations

from pathlib import Path

from neumann.errors import Corrupt
from tests.runtime.nodes import cluster, config_of, leads, one_node, start, until, write_rows


async def test_a_restart_does_not_forget_a_divergence(tmp_path: Path) -> None:
    """It was only in memory: the next start served, voted and campaigned again (R5)."""
    async with cluster(tmp_path) as running:
        leading = next(one.node for one in running if leads(one.node))
        await write_rows(leading, range(10))
        follower = next(one for one in running if not leads(one.node))
        member = follower.node.member
        assert member is not None
        log_before = sorted((tmp_path / follower.node.config.node.id / "raft/wal").iterdir())
        member._diverged("snapshot 7 differs from the majority's")
        assert isinstance(await follower.node.failed, Corrupt)
        running.remove(follower)
        await follower.stop()
        back = await start(follower.node.config)
        running.append(back)
        serves, reason, remedy = back.node.serving()
        assert not serves and "snapshot 7 differs" in reason and "rejoin" in remedy
        status = await back.node.status()
        assert status["verdict"] == "DOWN" and "snapshot 7 differs" in status["reason"]
        assert back.node.member is None
        assert sorted((tmp_path / follower.node.config.node.id / "raft/wal").iterdir()) == log_before


async def test_a_note_that_can_not_be_read_is_no_pardon(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with one_node(config) as node:
        await write_rows(node, range(3))
    (tmp_path / "n1/raft/diverged").write_bytes(b"rotten")
    running = await start(config)
    try:
        await until(lambda: "diverged" in running.node.serving()[1], "it says so")
        assert running.node.member is None
    finally:
        await running.stop()
