"""Archiving as the cluster's state (R7), on a real node: check, stop, an empty command, trouble shown."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neumann.archive import archiver
from neumann.archive.read_back import read_back
from neumann.env.disk import RealDisk
from neumann.errors import (
    ArchiveGap,
    BackPressure,
    BadInput,
    Corrupt,
    OutcomeUnknown,
    RefusedByState,
    WrongHistory,
)
from neumann.recovery.catalog import Catalog
from neumann.recovery.runs import runs
from neumann.runtime.node import Node
from tests.runtime.nodes import (
    config_of,
    configs_of,
    is_formed,
    leads,
    one_node,
    put,
    start,
    until,
    write_rows,
)
from tests.runtime.test_repair import flip, write_stale

REASON = "the backup host is gone"


def archive_in(root: Path) -> Path:
    archive = root / "archive"
    archive.mkdir(exist_ok=True)
    return archive


def settings(root: Path, command: str | None = None) -> dict[str, Any]:
    """Archiving with cp, or another command; nothing is sealed by time."""
    archive = archive_in(root)
    command = f"cp %p {archive}/%f" if command is None else command
    return {"archive_command": command, "archive_timeout": 600.0, "retain_entries": 0}


def archiving(node: Node) -> tuple[bool, int]:
    assert node.member is not None
    return tuple(node.member.applier.state.archiving)  # type: ignore[return-value]


async def test_archive_check_ends_with_a_file_that_can_be_read_back(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path, **settings(tmp_path))) as node:
        await write_rows(node, range(20))
        await until(lambda: archiving(node)[0], "archiving is on")
        done = await node.archive_check(10.0)
        again = await node.archive_check(10.0)
    assert done["archived_through"] >= done["index"] and again["name"] != done["name"]
    directory, cluster_id = str(archive_in(tmp_path)), bytes.fromhex(done["cluster_id"])
    found = read_back(RealDisk(), directory, done["file"], done["name"], cluster_id)
    path = Path(found.path)
    assert found.bytes == path.stat().st_size
    with pytest.raises(WrongHistory, match="does not hold"):
        read_back(RealDisk(), directory, done["file"], again["name"], cluster_id)
    with pytest.raises(WrongHistory, match="is of cluster"):
        read_back(RealDisk(), directory, done["file"], done["name"], b"x" * 16)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Corrupt, match="ended with 0"):
        read_back(RealDisk(), directory, done["file"], done["name"], cluster_id)
    path.unlink()
    with pytest.raises(ArchiveGap, match="is not there"):
        read_back(RealDisk(), directory, done["file"], done["name"], cluster_id)


async def test_archive_check_of_a_failing_archive_says_why(tmp_path: Path) -> None:
    command = "echo no room in the vault >&2; exit 3; : %p"
    async with one_node(config_of(tmp_path, **settings(tmp_path, command))) as node:
        await until(lambda: archiving(node)[0], "archiving is on")
        with pytest.raises(OutcomeUnknown, match="no room in the vault"):
            await node.archive_check(0.5)


async def test_who_has_mended_the_archive_does_not_wait_for_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: archive-check and archive-flush waited out the pause behind a failure, which grows to a minute,
    and told of that failure when their own time was over."""
    monkeypatch.setattr(archiver, "_QUICK_RETRY_S", 60.0)
    vault = tmp_path / "vault"
    async with one_node(config_of(tmp_path, **settings(tmp_path, f"cp %p {vault}/%f"))) as node:
        leading = node.host.archiving
        assert leading is not None
        await until(lambda: bool(leading.archiver.status.failures), "it failed")
        vault.mkdir()
        done = await node.archive_check(10.0)
    assert (vault / done["file"]).exists()


async def test_an_empty_command_pauses_keeps_the_log_and_degrades(tmp_path: Path) -> None:
    """R7, cockroachdb#173234: what keeps the log is the state in it, so no edit of a file drops it."""
    config = config_of(tmp_path, **settings(tmp_path))
    async with one_node(config) as node:
        await write_rows(node, range(10))
        await until(lambda: archiving(node)[0], "archiving is on")
        await node.archive_flush(10.0)
        through = archiving(node)[1]
        assert (await node.status())["archive"]["state"] == "archiving"
    async with one_node(config_of(tmp_path, **settings(tmp_path, ""))) as node:
        for round_number in range(3):
            await write_rows(node, range(10), round_number)
            await node.snapshot(10.0)
        status = await node.status()
        assert status["verdict"] == "DEGRADED" and "no archive_command" in status["reason"]
        assert status["archive"]["state"] == "trouble"
        assert archiving(node) == (True, through)
        assert node.member is not None and node.member.wal.base.index <= through
        for asked in (node.archive_check(5.0), node.archive_flush(5.0)):
            with pytest.raises(RefusedByState, match="archiving is paused"):
                await asked
    async with one_node(config_of(tmp_path, **settings(tmp_path))) as node:
        await until(lambda: archiving(node)[0], "archiving is on")
        await node.archive_flush(10.0)
    assert runs(Catalog(RealDisk(), str(archive_in(tmp_path))), bodies=True).wrong == []


async def test_archive_stop_and_a_new_begin_that_declares_the_hole(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path, **settings(tmp_path))) as node:
        await until(lambda: archiving(node)[0], "archiving is on")
        await node.archive_flush(10.0)
        with pytest.raises(RefusedByState, match="would begin again at once"):
            await node.archive_stop(REASON)
        with pytest.raises(BadInput, match="no reason"):
            await node.archive_stop("")
    async with one_node(config_of(tmp_path, **settings(tmp_path, ""))) as node:
        assert archiving(node)[0]
        stopped = await node.archive_stop(REASON)
        assert (stopped["reason"], archiving(node)[0]) == (REASON, False)
        with pytest.raises(RefusedByState, match="not on"):
            await node.archive_stop(REASON)
        assert (await node.status())["verdict"] == "SAFE"
        for round_number in range(3):
            await write_rows(node, range(10), round_number)
            await node.snapshot(10.0)
        assert node.member is not None
        await until(lambda: node.member.wal.base.index > stopped["archived_through"], "the log goes")  # type: ignore[union-attr]
    async with one_node(config_of(tmp_path, **settings(tmp_path))) as node:
        await until(lambda: archiving(node)[0], "archiving is on again")
        await write_rows(node, range(5))
        await node.archive_flush(10.0)
    (gap,) = runs(Catalog(RealDisk(), str(archive_in(tmp_path))), bodies=True).wrong
    assert isinstance(gap, ArchiveGap)


async def test_a_slow_archive_gets_more_at_once_and_its_lag_is_bounded(tmp_path: Path) -> None:
    """A segment was sealed at each archive_timeout, also behind others that waited: where one run of the
    command took longer than that, the archive fell behind without end."""
    own = settings(tmp_path, f"sleep 0.4; cp %p {archive_in(tmp_path)}/%f") | {"archive_timeout": 0.05}
    lags = []
    async with one_node(config_of(tmp_path, **own)) as node:
        await write_rows(node, range(1))
        await node.archive_flush(20.0)
        before = len(list(archive_in(tmp_path).iterdir()))
        for number in range(60):
            await write_rows(node, [number])
            await asyncio.sleep(0.05)
            lags.append((await node.status())["archive"]["backlog_segments"])
        await node.archive_flush(20.0)
        files = len(list(archive_in(tmp_path).iterdir())) - before
    assert max(lags) <= 2 and 2 <= files <= 12
    assert runs(Catalog(RealDisk(), str(archive_in(tmp_path))), bodies=True).wrong == []


async def test_what_counts_against_a_bound_in_bytes_is_sealed_all_the_same(tmp_path: Path) -> None:
    """R1: only sealed segments count, and the open one must not grow beside the bound."""
    switch = tmp_path / "fail"
    own = settings(tmp_path, f"test ! -e {switch} && cp %p {archive_in(tmp_path)}/%f") | {
        "archive_timeout": 0.05
    }
    async with one_node(config_of(tmp_path, **own, archive_backlog_bytes_max=30_000)) as node:
        await write_rows(node, range(1))
        await node.archive_flush(20.0)
        switch.touch()
        with pytest.raises(BackPressure, match="above archive_backlog_bytes_max"):
            async with asyncio.timeout(20):
                while True:
                    await node.write(put("k", "x" * 2_000))
                    await asyncio.sleep(0.01)
        backlog = (await node.status())["archive"]["backlog_bytes"]
    assert 30_000 < backlog < 150_000


async def test_trouble_is_told_from_what_the_archive_lacks(tmp_path: Path) -> None:
    """tidb#53047: the status said NORMAL while nothing had been archived for hours."""
    switch = tmp_path / "fail"
    switch.touch()
    command = f"test ! -e {switch} && cp %p {archive_in(tmp_path)}/%f"
    config = config_of(tmp_path, **settings(tmp_path, command))
    async with one_node(config) as node:
        await write_rows(node, range(10))
        status: dict[str, Any] = {}
        async with asyncio.timeout(20):
            while status.get("verdict") != "DEGRADED":
                status = await node.status()
                await asyncio.sleep(0.05)
        assert "times in a row" in status["reason"] and ".history: exit" in status["reason"]
        told = status["archive"]
        assert told["failures_in_a_row"] >= 3 and told["failures"]["exit"] >= 3 and told["lag_seconds"] > 0
        switch.unlink()
        await until(lambda: archiving(node)[1] >= 0 and not _trouble(node), "it goes on by itself")


def _trouble(node: Node) -> int:
    assert node.host.archiving is not None
    return node.host.archiving.archiver.status.failures_in_a_row


async def test_a_segment_that_rotted_before_it_was_archived_is_mended_first(tmp_path: Path) -> None:
    """`cp` copied what had rotted and ended with 0, and the log said that it was archived; what was whole
    and not of this log went into the archive too."""
    held, archive = tmp_path / "held", archive_in(tmp_path)
    command = f"while test -e {held}; do sleep 0.02; done; cp %p {archive}/%f"
    configs = [replace(c, wal=replace(c.wal, archive_command=command)) for c in configs_of(tmp_path, 3)]
    running = [await start(config) for config in configs]
    try:
        await until(lambda: is_formed(running), "three voters")
        leading = next(one.node for one in running if leads(one.node))
        await until(lambda: archiving(leading)[0], "archiving is on")
        held.touch()
        await write_rows(leading, range(50))
        made = await leading.snapshot()
        await write_rows(leading, range(50, 100))
        await leading.snapshot()
        rotten = sorted(Path(leading.paths.wal).iterdir())[:2]
        good = [path.read_bytes() for path in rotten]
        flip(rotten[0], 100)
        write_stale(rotten[1])
        held.unlink()
        await until(lambda: archiving(leading)[1] > made["index"], "both are archived")
        assert [(archive / path.name).read_bytes() for path in rotten] == good
        assert [path.read_bytes() for path in rotten] == good
        assert leading.gauges()["corruption_total"]["segment", "repaired"] == 2
    finally:
        held.unlink(missing_ok=True)
        await asyncio.gather(*(one.stop() for one in running))
