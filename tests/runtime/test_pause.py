"""What resume-writes says of the pause that it ends."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from neumann.errors import Paused
from neumann.format.frame import Frame
from neumann.wal import Log
from tests.runtime.nodes import config_of, one_node, put, start, until


async def test_resume_knows_since_when_nothing_was_written_after_a_restart(tmp_path: Path) -> None:
    """The index of a pause was forgotten by whoever started from a snapshot made while it held, and
    resume then said that nothing was written since index 0."""
    config = config_of(tmp_path)
    async with one_node(config) as node:
        written, _ = await node.write(put("a"))
        paused = await node.pause_writes(max_s=60)
        made = await node.snapshot()
    async with one_node(config) as node:
        with pytest.raises(Paused):
            await node.write(put("b"))
        resumed = await node.resume_writes()
        assert written < paused["index"] <= resumed["unchanged_since"] <= made["index"]


async def test_a_leader_that_has_not_applied_what_it_found_does_not_judge_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that had just begun, and had the pause in its log and not in its state, said that none held:
    whoever had paused took the files that he had copied for torn."""
    config = config_of(tmp_path)
    read_frames = Log.read_frames

    def read_late(log: Log, after_index: int, last_index: int) -> tuple[Frame, ...]:
        time.sleep(0.3)
        return read_frames(log, after_index, last_index)

    async with one_node(config) as node:
        await node.write(put("a"))
        await node.pause_writes(max_s=60)
    monkeypatch.setattr(Log, "read_frames", read_late)
    running = await start(config)
    try:
        assert (await running.node.resume_writes())["unchanged_since"] > 0
    finally:
        await running.stop()


async def test_nothing_is_removed_while_a_pause_holds(tmp_path: Path) -> None:
    """A snapshot that was asked for during a pause removed old manifests, tables and segments, under the
    hands of whoever copied the directory."""
    async with one_node(config_of(tmp_path, retain_entries=0)) as node:
        disk, paths = node.env.disk, node.paths
        for key in range(4):
            await node.write(put(str(key)))
            await node.snapshot()
        await node.pause_writes(max_s=60)
        before = {*disk.list(paths.store), *disk.list(paths.wal)}
        for _ in range(3):
            await node.snapshot()
        assert before <= {*disk.list(paths.store), *disk.list(paths.wal)}
        await node.resume_writes()
        await node.write(put("a"))
        await node.snapshot()
        member = node.member
        assert member is not None
        await member.checkpointer.drain()
        assert len([name for name in disk.list(paths.store) if name.endswith(".manifest")]) == 2
        await until(lambda: len(disk.list(paths.wal)) == 1, "what nobody needs is dropped")
