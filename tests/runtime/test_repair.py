"""A flipped bit in a table or a sealed segment: found, mended from a peer, and never served."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neumann.env.disk import RealDisk, RealFile
from neumann.errors import Corrupt
from neumann.format import frame, names, special
from neumann.format.special import Marker
from neumann.runtime.node import Node
from neumann.runtime.scrub import Scrub
from neumann.wal.verify import SegmentSummary, verify_segment
from tests.runtime.nodes import (
    TIMEOUT_S,
    Running,
    cluster,
    config_of,
    keys_of,
    leads,
    one_node,
    start,
    until,
    write_rows,
)

ROWS = 300


async def scrubbed(node: Node) -> dict[str, Any]:
    """What one pass over all files has found."""
    node.scrub(begin=True)
    await until(lambda: not node.scrub()["running"], "the scrub has ended")
    return node.scrub()


def tables(root: Path, node_id: str) -> list[Path]:
    return sorted(p for p in (root / node_id / "store").iterdir() if names.parse_table(p.name))


def sealed(root: Path, node_id: str) -> list[Path]:
    return sorted((root / node_id / "raft/wal").iterdir())[:-1]


def flip(path: Path, offset: int) -> None:
    """In place, as rot does it: the same inode, so its hard links too."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def write_stale(path: Path) -> None:
    """What one that led may keep under a committed segment's name: sealed by a marker that never was."""
    data, seal = path.read_bytes(), verify_segment(RealDisk(), str(path)).headers[-1]
    kind, body = special.encode(Marker(seal=True, name="never"))
    own = frame.encode(kind, seal.first_index, seal.term, seal.time_ns + 1, seal.parent, [body])
    path.write_bytes(data[: -seal.frame_bytes] + own.data)
    assert verify_segment(RealDisk(), str(path)).sealed


async def with_a_snapshot(running: list[Running]) -> Running:
    """Rows, and a snapshot that all have; one that does not lead."""
    leading = next(one.node for one in running if leads(one.node))
    await write_rows(leading, range(ROWS), {"text": "x" * 50})
    made = await leading.snapshot()
    for one in running:
        await until(
            lambda one=one: (
                one.node.member is not None and one.node.member.snapshots.newest[0] >= made["index"]
            ),
            "the snapshot is everywhere",
        )
    return next(one for one in running if not leads(one.node))


async def test_a_read_that_meets_a_damaged_block_waits_for_a_peers_copy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(tmp_path) as running:
        follower = await with_a_snapshot(running)
        node_id = follower.node.config.node.id
        path = max(tables(tmp_path, node_id), key=lambda p: p.stat().st_size)
        good = path.read_bytes()
        flip(path, 100)
        assert len(await keys_of(follower.node)) == ROWS
        assert path.read_bytes() == good
        row = await follower.node.get("t", "00007", stale=True)
        assert row is not None
        for copy in (tmp_path / node_id / "raft/snapshots").rglob(path.name):
            assert copy.samefile(path), "published snapshots have the good one too"
        assert follower.node.gauges()["corruption_total"] == {("table", "repaired"): 1}
        [line] = [r.getMessage() for r in caplog.records if r.getMessage().startswith("mended")]
        assert str(path) in line and "offset" in line


async def test_a_scan_over_several_damaged_tables_waits_for_each(tmp_path: Path) -> None:
    """The second one that it met was refused with `corrupt`, though the peers had it too."""
    async with cluster(tmp_path) as running:
        await with_a_snapshot(running)
        follower = await with_a_snapshot(running)
        damaged = tables(tmp_path, follower.node.config.node.id)
        good = [path.read_bytes() for path in damaged]
        for path in damaged:
            flip(path, 100)
        assert len(damaged) > 1 and len(await keys_of(follower.node)) == ROWS
        assert [path.read_bytes() for path in damaged] == good


async def test_without_a_peer_that_has_it_a_read_fails_and_says_what_to_do(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(50), {"text": "x" * 50})
        await node.snapshot()
        [path] = tables(tmp_path, "n1")
        flip(path, 100)
        for read in (lambda: node.get("t", "00007"), lambda: node.scan("t")):
            with pytest.raises(Corrupt, match=path.name) as failure:
                await read()
            assert "rejoin" in failure.value.remedy and failure.value.http_status == 503
        assert node.gauges()["corruption_total"][("table", "unrepaired")] >= 1
        flip(path, 100)
        assert len(await keys_of(node)) == 50, "it is well again by itself"


async def test_a_scrub_finds_and_mends_tables_segments_and_manifests(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        follower = await with_a_snapshot(running)
        node, node_id = follower.node, follower.node.config.node.id
        manifest = max((tmp_path / node_id / "store").glob("*.manifest"), key=lambda p: p.stat().st_mtime)
        damaged = [sealed(tmp_path, node_id)[0], tables(tmp_path, node_id)[0], manifest]
        good = [path.read_bytes() for path in damaged]
        for path in damaged:
            flip(path, 90)
        assert node.scrub(begin=True)["running"]
        await until(lambda: not node.scrub()["running"], "the scrub has ended")
        said = node.scrub()
        assert (said["damaged"], said["unrepaired"]) == (3, 0) and said["last_success"]
        assert {entry["path"] for entry in said["damage"]} == {str(path) for path in damaged}
        assert [path.read_bytes() for path in damaged] == good
        assert node.gauges()["scrub_last_success_timestamp_seconds"] > 0
        node.scrub(begin=True)
        await until(lambda: not node.scrub()["running"], "the scrub has ended")
        assert node.scrub()["damaged"] == 0 and node.scrub()["bytes"] > sum(map(len, good)) - len(good[2])


async def test_a_segment_that_was_never_committed_mends_nothing(tmp_path: Path) -> None:
    """A peer that had led kept another segment of the same name, sealed with an end that was never committed:
    it was whole, so it took the place of committed entries, and no later scrub saw it."""
    async with cluster(tmp_path) as running:
        follower = await with_a_snapshot(running)
        path = sealed(tmp_path, follower.node.config.node.id)[0]
        good = path.read_bytes()
        peers = [Path(one.node.paths.wal, path.name) for one in running if one is not follower]
        for peer in peers:
            write_stale(peer)
        flip(path, 90)
        said = await scrubbed(follower.node)
        assert [(e["path"], e["outcome"]) for e in said["damage"]] == [(str(path), "unrepaired")]
        assert path.read_bytes()[91:] == good[91:], "it is as it was"
        peers[0].write_bytes(good)
        assert (await scrubbed(follower.node))["unrepaired"] == 0 and path.read_bytes() == good
        write_stale(path)
        said = await scrubbed(follower.node)
        assert (said["damaged"], said["unrepaired"]) == (1, 0) and path.read_bytes() == good


def unreadable(patch: pytest.MonkeyPatch, *paths: Path) -> None:
    """The disk can't read what these hold now."""
    bad, pread = {path.stat().st_ino for path in paths}, RealFile.pread

    def read(file: RealFile, length: int, offset: int) -> bytes:
        if os.fstat(file._fd).st_ino in bad:
            raise OSError(errno.EIO, "Input/output error")
        return pread(file, length, offset)

    patch.setattr(RealFile, "pread", read)


async def test_what_the_disk_can_t_read_is_damage_and_what_is_behind_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read error ended the pass: nothing was said to be damaged, and what was behind it stayed unread."""
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(50), {"text": "x" * 50})
        await node.snapshot()
        [first, *_], [table] = sealed(tmp_path, "n1"), tables(tmp_path, "n1")
        flip(table, 100)
        with monkeypatch.context() as patch:
            unreadable(patch, first)
            said = await scrubbed(node)
        assert {one["path"] for one in said["damage"]} >= {str(first), str(table)}
        assert "Input/output error" in said["damage"][0]["error"] and first.exists()
        assert said["damaged"] == said["unrepaired"] >= 2 and not said["last_success"]
        flip(table, 100)
        assert (await scrubbed(node))["damaged"] == 0


async def test_what_the_disk_can_t_read_is_fetched_from_a_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stayed as it was until somebody noticed, though every other member had it."""
    async with cluster(tmp_path) as running:
        follower = await with_a_snapshot(running)
        node_id = follower.node.config.node.id
        bad = [sealed(tmp_path, node_id)[0], tables(tmp_path, node_id)[0]]
        unreadable(monkeypatch, *bad)
        said = await scrubbed(follower.node)
        outcomes = {one["path"]: one["outcome"] for one in said["damage"]}
        assert (said["unrepaired"], outcomes) == (0, {str(path): "repaired" for path in bad})
        assert (await scrubbed(follower.node))["damaged"] == 0


async def test_a_table_that_is_gone_is_noticed_and_fetched(tmp_path: Path) -> None:
    """The scrub read the tables that were there, and never missed one that a manifest named."""
    async with cluster(tmp_path) as running:
        follower = await with_a_snapshot(running)
        node_id = follower.node.config.node.id
        path = tables(tmp_path, node_id)[0]
        good = path.read_bytes()
        path.unlink()
        said = await scrubbed(follower.node)
        assert [(one["path"], one["outcome"]) for one in said["damage"]] == [(str(path), "repaired")]
        assert path.read_bytes() == good and said["unrepaired"] == 0


async def test_a_segment_that_is_dropped_while_a_copy_comes_does_not_come_back(tmp_path: Path) -> None:
    """The copy took the place of what was unlinked meanwhile, and each later start found a gap in the log."""
    async with cluster(tmp_path) as running:
        follower = (await with_a_snapshot(running)).node
        path = sealed(tmp_path, follower.config.node.id)[0]
        flip(path, 90)
        member, loop = follower.member, asyncio.get_running_loop()
        assert member is not None
        read = member.settled.read

        def while_it_comes(name: str, copy: str) -> SegmentSummary:
            found = read(name, copy)
            dropped = asyncio.run_coroutine_threadsafe(drop(), loop)
            assert dropped.result(10.0)
            return found

        async def drop() -> bool:
            has_gone = member.retaining.let_go(path.name)
            await until(lambda: not path.exists(), "it is unlinked")
            return has_gone

        member.settled.read = while_it_comes  # type: ignore[method-assign]
        damage = Corrupt("planted", detail={"path": str(path)})
        assert not await member.repair.mend(damage) and not path.exists()
        assert not list((tmp_path / follower.config.node.id / "scratch/repair").iterdir())
        assert not await member.repair.mend(damage), "nor is it asked for again"


async def test_a_segment_that_is_dropped_while_a_scrub_goes_on_is_not_told_of(tmp_path: Path) -> None:
    """It was said not to be sealed and committed yet, which it had been before it went."""
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(ROWS))
        await node.snapshot()
        await node.restore_point("sealed")
        oldest, newest = sealed(tmp_path, "n1")
        member, loop = node.member, asyncio.get_running_loop()
        assert member is not None
        read = member.settled.read

        def while_it_is_read(name: str, path: str) -> SegmentSummary:
            if name == newest.name:
                assert asyncio.run_coroutine_threadsafe(drop(), loop).result(10.0)
            return read(name, path)

        async def drop() -> bool:
            return member.retaining.let_go(oldest.name)

        member.settled.read = while_it_is_read  # type: ignore[method-assign]
        said = await scrubbed(node)
        assert not said["damaged"] and not oldest.exists() and newest.exists()
        assert [told.partition(": ")[0] for told in said["not_read"]] == [member.wal.segments()[-1].path]


async def test_a_peer_that_does_not_answer_is_asked_last_and_waited_for_shortly(tmp_path: Path) -> None:
    """A peer behind a network that swallowed everything was asked three times for ten seconds before the next
    one was: a read or an apply that had met damage waited that long, and a leader gave up its place."""
    async with cluster(tmp_path) as running:
        follower = (await with_a_snapshot(running)).node
        leading = next(one.node for one in running if leads(one.node))
        away = next(one for one in running if one.node not in (follower, leading))
        assert follower.member is not None and leading.member is not None
        assert follower.member.repair._peers()[0] == leading.config.node.listen
        running.remove(away)
        await away.stop()
        heard, silent = follower.config.node.listen, away.node.config.node.listen
        peers = leading.member.repair._peers
        await until(lambda: peers() == [heard, silent], "the one that is away comes last")
        host, _, port = silent.partition(":")
        with socket.create_server((host, int(port))):
            path = max(tables(tmp_path, follower.config.node.id), key=lambda p: p.stat().st_size)
            good = path.read_bytes()
            flip(path, 100)
            follower.member.repair._peers = lambda: [silent, leading.config.node.listen]
            async with asyncio.timeout(TIMEOUT_S):
                assert len(await keys_of(follower)) == ROWS
            assert path.read_bytes() == good


async def test_a_scrub_keeps_to_its_rate(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(500), {"text": "x" * 100})
        await node.snapshot()
        assert node.member is not None
        slept: list[float] = []
        before = asyncio.get_running_loop().time()
        scrub = node.member.scrub
        scrub._bytes_per_s = lambda: slept.append(1.0) or 50_000  # type: ignore[func-returns-value]
        node.scrub(begin=True)
        await until(lambda: not node.scrub()["running"], "the scrub has ended")
        took_s = asyncio.get_running_loop().time() - before
        assert took_s >= node.scrub()["bytes"] / 50_000 and slept


async def test_a_scrub_that_is_asked_for_while_the_member_starts_is_made(tmp_path: Path) -> None:
    """It was forgotten, and said to run all the same, so that nobody could ask again: for a minute, or for
    ever where nothing is read unless somebody asks."""
    config = config_of(tmp_path)
    only_asked = replace(config, store=replace(config.store, scrub_bytes_per_s=0))
    async with one_node(only_asked) as node:
        await write_rows(node, range(10))
        await node.snapshot()
        assert node.member is not None
        scrub = Scrub(node.member, is_urgent=False)
        scrub.ask()
        scrub.start()
        try:
            await until(lambda: not scrub.progress.running, "the scrub has ended")
            assert scrub.describe()["files"] > 0
            scrub.ask()
            await until(lambda: not scrub.progress.running, "the next one too")
        finally:
            await scrub.stop()


@pytest.mark.parametrize("how", ["gone", "footer", "no file"])
async def test_a_member_starts_with_a_table_that_it_first_has_to_fetch(tmp_path: Path, how: str) -> None:
    async with cluster(tmp_path) as running:
        follower = await with_a_snapshot(running)
        node_id = follower.node.config.node.id
        running.remove(follower)
        await follower.stop()
        path = max(tables(tmp_path, node_id), key=lambda p: p.stat().st_size)
        good = path.read_bytes()
        if how == "footer":
            flip(path, len(good) - 10)
        else:
            path.unlink()
        if how == "no file":
            os.mkfifo(path)
        back = await start(follower.node.config)
        running.append(back)
        await until(lambda: back.node.serving()[0], "it serves")
        assert path.read_bytes() == good and len(await keys_of(back.node)) == ROWS


@pytest.mark.parametrize("what", ["store/*.manifest", "raft/identity"])
@pytest.mark.parametrize("how", ["flipped", "no file"])
async def test_what_no_peer_could_give_is_not_waited_for(tmp_path: Path, what: str, how: str) -> None:
    """Where another thing lay in such a file's place, the node waited for a peer that had it, for ever."""
    async with cluster(tmp_path) as running:
        follower = await with_a_snapshot(running)
        running.remove(follower)
        await follower.stop()
        damaged = sorted((tmp_path / follower.node.config.node.id).glob(what))
        for path in damaged:
            if how == "flipped":
                flip(path, 20)
            else:
                path.unlink()
                os.mkfifo(path)
        with pytest.raises(Corrupt) as refused:
            running.append(await start(follower.node.config))
        path = Path(str(refused.value.detail["path"]))
        assert path in damaged and str(path) in refused.value.message
        assert ("move it away" in refused.value.remedy) == (how == "no file")


@pytest.mark.parametrize("how", ["flipped", "no file"])
async def test_a_segment_that_the_start_passed_over_is_mended_and_held_again(
    tmp_path: Path, how: str
) -> None:
    async with cluster(tmp_path) as running:
        follower = await with_a_snapshot(running)
        node_id = follower.node.config.node.id
        running.remove(follower)
        await follower.stop()
        first = sealed(tmp_path, node_id)[0]
        good = first.read_bytes()
        if how == "flipped":
            flip(first, 70)
        else:
            first.unlink()
            os.mkfifo(first)
        back = await start(follower.node.config)
        running.append(back)
        member = back.node.member
        assert member is not None and member.wal.base.index > 0 and member.raft.floor == (0, 0)
        await until(lambda: member.wal.base.index == 0, "the log is whole again")
        assert first.read_bytes() == good
        frames = member.wal.read_frames(0, member.wal.last.index)
        assert frames[-1].header.last_index == member.wal.last.index


async def test_a_segment_that_is_mended_behind_a_snapshot_is_held_again_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A snapshot dropped nothing of the log, and from there on everything before its base counted as dropped:
    what was mended later was never held again before a restart, and each scrub said that it was."""
    caplog.set_level(logging.INFO)
    async with cluster(tmp_path) as running:
        follower = await with_a_snapshot(running)
        running.remove(follower)
        await follower.stop()
        first = sealed(tmp_path, follower.node.config.node.id)[0]
        good = first.read_bytes()
        flip(first, 70)
        for one in running:
            write_stale(Path(one.node.paths.wal, first.name))
        running.append(await start(follower.node.config))
        await with_a_snapshot(running)
        back = running[-1].node
        assert back.member is not None and back.member.wal.base.index > 0
        Path(running[0].node.paths.wal, first.name).write_bytes(good)
        await scrubbed(back)
        assert back.member.wal.base.index == 0 and first.read_bytes() == good
        await scrubbed(back)
    assert caplog.text.count("the log begins behind entry 0 again") == 1


@pytest.mark.parametrize("how", ["flipped", "cut short"])
async def test_a_follower_that_needs_a_damaged_segment_waits_for_a_whole_one(
    tmp_path: Path, how: str
) -> None:
    """The leader sent what had rotted as it was, the follower refused it as malformed, and again, for ever:
    nobody told the leader before the next scrub. A file that had been cut short was not asked for either."""
    async with cluster(tmp_path) as running:
        leading = next(one.node for one in running if leads(one.node))
        follower = next(one for one in running if one.node is not leading)
        running.remove(follower)
        await follower.stop()
        assert leading.member is not None
        leading.member.wal._cache.bytes_max = 1000
        for number in range(8):
            await write_rows(leading, range(number * 50, (number + 1) * 50), "x" * 5000)
        path = sealed(tmp_path, leading.config.node.id)[1]
        good = path.read_bytes()
        if how == "flipped":
            flip(path, 10_000)
        else:
            os.truncate(path, 10_000)
        back = await start(follower.node.config)
        running.append(back)
        await until(lambda: back.node.applied_index >= leading.applied_index, "it has caught up")
        assert path.read_bytes() == good
        # It may be read again from its rename on, and counts once that is durable.
        await until(lambda: bool(leading.gauges()["corruption_total"]), "it is counted")
        assert leading.gauges()["corruption_total"] == {("segment", "repaired"): 1}
