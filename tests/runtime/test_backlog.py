"""An archive that falls behind, on real nodes: bounds that refuse or break, and what a leader lacks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neumann import config
from neumann.env import real_env
from neumann.env.clock import RealClock
from neumann.env.disk import RealDisk
from neumann.errors import ArchiveGap, BackPressure, ConfigError
from neumann.format.frame import FrameHeader, Kind
from neumann.recovery.catalog import Catalog
from neumann.recovery.runs import runs
from neumann.runtime import lag
from neumann.runtime.lag import LagSamples
from neumann.runtime.member import Member
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

SECOND = 1_000_000_000


def member_of(node: Node) -> Member:
    assert node.member is not None
    return node.member


def through(node: Node) -> int:
    return member_of(node).applier.state.archiving.through


def settings(root: Path, **wal: Any) -> dict[str, Any]:
    """Archiving with cp while `fail` is not there; sealed when asked."""
    (root / "archive").mkdir(exist_ok=True)
    command = f"test ! -e {root}/fail && cp %p {root}/archive/%f"
    return {"archive_command": command, "archive_timeout": 600.0, "retain_entries": 0, **wal}


async def fill(node: Node, until_refused: bool) -> BackPressure | None:
    """Write and seal, until writes are refused or it is enough."""
    for number in range(40):
        try:
            await node.write(put(f"{number}", "x" * 20_000))
        except BackPressure as refused:
            assert until_refused
            return refused
        member_of(node).duties.propose_marker(seal=True)
        await asyncio.sleep(0.02)
    return None


async def test_writes_are_refused_above_the_backlog_and_go_on_below(tmp_path: Path) -> None:
    """R1: the bound is on what would be lost with all disks. A reader is served all the same."""
    (tmp_path / "fail").touch()
    bound = settings(tmp_path, archive_backlog_bytes_max=100_000)
    async with one_node(config_of(tmp_path, **bound)) as node:
        refused = await fill(node, True)
        assert refused is not None and "above archive_backlog_bytes_max 100000" in str(refused)
        assert await node.get("t", "0") is not None
        status = await node.status()
        assert status["verdict"] == "DEGRADED" and status["archive"]["backlog_bytes"] > 100_000
        gauges = node.gauges()
        assert gauges["archive_backlog_bytes"] > 100_000 and gauges["archive_backlog_segments"] >= 5
        assert gauges["archive_lag_entries"] == status["archive"]["lag_entries"] >= 5
        (tmp_path / "fail").unlink()

        async def writes() -> bool:
            try:
                await node.write(put("again"))
            except BackPressure:
                return False
            return True

        async with asyncio.timeout(20):
            while not await writes():
                await asyncio.sleep(0.05)
        # A stop kills `cp` in the middle of a file.
        await until(lambda: node.gauges()["archive_backlog_segments"] == 0, "all that is sealed is archived")
    assert runs(Catalog(RealDisk(), f"{tmp_path}/archive"), bodies=True).wrong == []


async def test_writes_are_refused_above_the_lag_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    bound = settings(tmp_path, archive_lag_max_s=0.4, archive_timeout=0.1)
    async with one_node(config_of(tmp_path, **bound)) as node:
        await node.write(put("first"))
        await until(lambda: member_of(node).write_gate() is not None, "writes are refused")
        with pytest.raises(BackPressure, match=r"s behind, above the 0\.4 s allowed"):
            await node.write(put("second"))
        (tmp_path / "fail").unlink()
        await until(lambda: member_of(node).write_gate() is None, "writes go on")
        await node.write(put("third"))


class SetBack(RealClock):
    """A wall clock that somebody sets."""

    ahead_ns = 3600 * 10**9

    def wall_ns(self) -> int:
        return super().wall_ns() + self.ahead_ns


async def test_the_bound_holds_after_the_clock_was_set_back(tmp_path: Path) -> None:
    """Log time ran an hour ahead of the clock then, so nothing in it was old: for that hour the lag was 0,
    the status healthy, and writes went on, whatever the archive did."""
    (tmp_path / "fail").touch()
    bound = settings(tmp_path, archive_lag_max_s=0.4, archive_timeout=0.1)
    clock = SetBack()
    async with one_node(config_of(tmp_path, **bound), replace(real_env(), clock=clock)) as node:
        await node.write(put("an hour ahead"))
        clock.ahead_ns = 0
        await until(lambda: member_of(node).write_gate() is not None, "writes are refused")
        status = (await node.status())["archive"]
        assert status["lag_seconds"] > 0.4
        (tmp_path / "fail").unlink()
        await until(lambda: member_of(node).write_gate() is None, "writes go on")
        await node.write(put("behind it in the log"))
        await node.archive_flush(20.0)
        assert (await node.status())["archive"]["lag_seconds"] == 0


def test_the_lag_is_that_of_the_oldest_entry_that_is_not_archived() -> None:
    """Entries within 0.2 s of an archived one had no sample of their own, and counted as archived."""
    samples = LagSamples()
    for index, time_ns in ((1, SECOND), (2, SECOND + 1), (3, SECOND + 2), (4, 5 * SECOND)):
        samples.note(FrameHeader(index, index, 1, Kind.DATA, time_ns, 0, 0, 0, 0), 100 * SECOND + time_ns)
    now = (7 * SECOND, 107 * SECOND)
    assert samples.age_behind_ns(0, *now) == 6 * SECOND
    assert samples.age_behind_ns(2, *now) == 6 * SECOND
    assert samples.age_behind_ns(3, *now) == 2 * SECOND
    assert samples.age_behind_ns(3, 0, now[1]) == 2 * SECOND, "the wall clock was set back"
    assert samples.age_behind_ns(4, *now) == 0


def test_the_lag_grows_for_as_long_as_the_archive_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind 5.5 hours the oldest sample was dropped for the newest, and the lag grew no more."""
    monkeypatch.setattr(lag, "_SAMPLES_MAX", 8)
    samples = LagSamples()
    for second in range(1, 101):
        for index, kind in ((2 * second, Kind.DATA), (2 * second + 1, Kind.MARKER)):
            samples.note(FrameHeader(index, index, 1, kind, second * SECOND, 0, 0, 0, 0), second * SECOND)
        assert samples.age_behind_ns(0, 101 * SECOND, 101 * SECOND) == 100 * SECOND
        assert samples.entries_behind(0) == second
    assert samples.entries_behind(201) == 0, "the newest is exact"
    ages = [samples.age_behind_ns(2 * s + 1, 101 * SECOND, 101 * SECOND) / SECOND for s in range(1, 101)]
    assert ages == sorted(ages, reverse=True) and ages[-1] == 0
    assert all(100 - s <= age <= 101 for s, age in enumerate(ages, 1)), "never less than it is"


def test_entries_are_counted_from_the_begin_of_a_long_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the oldest count gone, all entries since the start were said to wait for the archive."""
    monkeypatch.setattr(lag, "_SAMPLES_MAX", 8)
    samples = LagSamples()
    for index in range(1, 101):
        kind = Kind.MARKER if index % 2 == 0 else Kind.DATA
        samples.note(FrameHeader(index, index, 1, kind, SECOND, 0, 0, 0, 0), SECOND)
    assert samples.entries_behind(2) == 49


def test_the_lag_of_entries_from_before_this_start_begins_with_it() -> None:
    samples = LagSamples()
    samples.note(FrameHeader(1, 1, 1, Kind.DATA, 5 * SECOND, 0, 0, 0, 0))
    assert samples.age_behind_ns(0, 7 * SECOND, 50 * SECOND) == 2 * SECOND
    assert samples.age_behind_ns(0, 0, 53 * SECOND) == 3 * SECOND


async def test_a_backlog_above_the_bound_is_broken_off_where_that_is_configured(tmp_path: Path) -> None:
    """pgBackRest's archive-push-queue-max says `archived` and drops; here it is a break that all can see,
    the log may go, and a snapshot is made to recover from."""
    bound = settings(tmp_path, archive_backlog_bytes_max=100_000, archive_backlog_action="break")
    async with one_node(config_of(tmp_path, **bound)) as node:
        await write_rows(node, range(3))
        await node.archive_flush(10.0)
        (tmp_path / "fail").touch()
        before = through(node)
        assert await fill(node, False) is None
        await until(lambda: through(node) > before, "a break is declared")
        await until(lambda: member_of(node).snapshots.newest[0] > before, "a snapshot is made")
        assert node.gauges()["archive_broken"] == 1 and (await node.status())["archive"]["broken"]
        (tmp_path / "fail").unlink()
        await node.write(put("last"))
        await node.archive_flush(20.0)
    found = runs(Catalog(RealDisk(), f"{tmp_path}/archive"), bodies=True)
    assert found.wrong and all(isinstance(error, ArchiveGap) for error in found.wrong)
    async with one_node(config_of(tmp_path, **bound)) as node:
        assert node.gauges()["archive_last_index"] > before


def test_a_lag_that_archive_timeout_does_not_keep_is_refused() -> None:
    text = '[node]\nid = "n1"\n[wal]\narchive_lag_max_s = 30\n'
    with pytest.raises(ConfigError, match=r"archive_lag_max_s.*archive_timeout of 60"):
        config.load(text, "config.toml", {}, {})
    config.load(text + "archive_timeout = 10\n", "config.toml", {}, {})


async def test_a_new_leader_archives_what_it_lacks_from_a_follower(tmp_path: Path) -> None:
    """It reported `missing` for ever, though two followers had the segments."""
    (tmp_path / "fail").touch()
    configs = [
        config_of(tmp_path, one.node.id, dict(one.node.peers), **settings(tmp_path))
        for one in configs_of(tmp_path, 3)
    ]
    running = [await start(one) for one in configs]
    try:
        await until(lambda: is_formed(running), "3 voters")
        node = next(one.node for one in running if leads(one.node))
        await fill_some(node)
        lose(node)
        (tmp_path / "fail").unlink()
        await until(lambda: through(node) > 0, "it goes on")
        await node.archive_flush(20.0)
        assert node.gauges()["archive_broken"] == 0
        assert not any(Path(f"{tmp_path}/{node.config.node.id}/scratch").glob("*.wal"))
    finally:
        await asyncio.gather(*(one.stop() for one in running))
    found = runs(Catalog(RealDisk(), f"{tmp_path}/archive"), bodies=True)
    assert found.wrong == [] and found.found[0].first_index == 1


async def test_what_no_voter_has_is_a_break_with_a_snapshot_behind_it(tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    async with one_node(config_of(tmp_path, **settings(tmp_path))) as node:
        await fill_some(node)
        lost = lose(node)
        (tmp_path / "fail").unlink()
        await until(lambda: through(node) >= lost, "a break is declared")
        assert node.gauges()["archive_broken"] == 1
        await node.write(put("last"))
        await node.archive_flush(20.0)
        await until(lambda: member_of(node).snapshots.newest[0] > lost, "a snapshot behind it")
    found = runs(Catalog(RealDisk(), f"{tmp_path}/archive"), bodies=True)
    assert found.wrong == [] and found.found[0].first_index == lost + 1


async def fill_some(node: Node) -> None:
    """A few sealed segments, none archived, and a published snapshot behind them."""
    await until(lambda: member_of(node).applier.state.archiving.on, "archiving is on")
    for number in range(5):
        await node.write(put(f"{number}", "x" * 1000))
        member_of(node).duties.propose_marker(seal=True)
        await asyncio.sleep(0.02)
    await node.snapshot(10.0)
    await node.write(put("more"))


def lose(node: Node) -> int:
    """Drop the log up to the newest snapshot, as an install leaves it; the last index that is gone."""
    member = member_of(node)
    dropped = member.wal.drop_before(member.manifest.point.index)
    assert dropped is not None
    member.raft.compact_to(member.wal.base)
    dropped.run()
    return member.wal.base.index
