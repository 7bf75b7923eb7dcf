"""Asking peers who they are: what comes from the network is not trusted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.format.names import Paths
from neumann.recovery import formation
from neumann.snapshot.publish import list_published
from tests.runtime.nodes import configs_of, start, until


async def test_an_answer_that_is_cut_short_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended the node that had asked."""
    first, second = configs_of(tmp_path, 2)
    asked = await start(first)
    try:
        formation = asked.node.host.formation
        said = formation.who(asked.node.host.found, None, False)
        monkeypatch.setattr(formation, "who", lambda *_: said | {"data": ["1-51d0c3a29f5b7e11"]})
        asking = await start(second)
        try:
            assert "waiting for an answer of n1" in asking.node.serving()[1]
        finally:
            await asking.stop()
    finally:
        await asked.stop()


async def test_who_joins_keeps_nothing_of_a_formation_that_was_interrupted(tmp_path: Path) -> None:
    """The empty snapshot that it had published, of a cluster that never was, stayed: `latest` led to it, and
    the joiner took it for its own, and none of its own for published."""
    first, second = configs_of(tmp_path, 2)
    paths, disk = Paths(second.node.data_dir), RealDisk()
    disk.make_dirs(paths.root)
    never = formation.empty_base("n2", second.node.listen, b"s" * 16, 1, b"X" * 16, 7, 4096)
    formation.write_member(disk, paths, never, "n2", b"s" * 16, 256 * 1024, 0)
    disk.unlink(paths.vote)
    running = [await start(first), await start(second)]
    try:
        await until(lambda: all(one.node.serving()[0] for one in running), "n2 has joined")
        leader, joiner = (one.node.member for one in running)
        assert leader is not None and joiner is not None
        [published] = list_published(disk, paths.snapshots)
        assert published.manifest is not None and published.manifest.history == leader.manifest.history
        assert joiner.snapshots.published == published.manifest
    finally:
        await asyncio.gather(*(one.stop() for one in running))
