"""A replica that differs from the others stops, and a restart does not make it forget."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from neumann.env.doors import DoneCallback
from neumann.errors import Corrupt, StorageFailed, Unavailable
from neumann.format.message import SnapshotOffer
from neumann.runtime.member import Member
from neumann.runtime.node import Node
from neumann.runtime.startup import Action, Decision
from neumann.snapshot import install
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


async def test_a_member_that_has_failed_shows_nothing_of_its_state(tmp_path: Path) -> None:
    """It refused stale gets, and answered stale scans, lists of tables, SQL, its log and its files: those of
    a replica that is known to be wrong (R5)."""
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(10))
        await node.snapshot()
        member, own = _member(node), _member(node).identity
        log_from: list[Any] = [own.cluster_id, str(own.timeline), 0, member.wal.base.chain, 1 << 20]
        asked: dict[str, Callable[[], Awaitable[Any]]] = {
            "get": lambda: node.get("t", "00001", stale=True),
            "scan": lambda: node.scan("t", stale=True),
            "tables": lambda: node.tables(stale=True),
            "query": lambda: node.query("select count(*) from t", stale=True),
            "log.read": lambda: node.call("log.read", (*log_from, 0)),
            "log.describe": lambda: node.call("log.describe", ()),
            "segment.find": lambda: node.call("segment.find", (own.cluster_id, str(own.timeline), 1)),
            "snapshot.describe": lambda: node.call("snapshot.describe", ("",)),
            "cluster-info": node.cluster_info,
        }
        for ask in asked.values():
            await ask()
        behind = [*log_from]
        behind[2:4] = member.wal.last.index, member.wal.last.chain
        waiting = asyncio.create_task(node.call("log.read", (*behind, 5.0)))
        scanning = asyncio.create_task(node.scan("t"))
        await asyncio.sleep(0)
        member._diverged("snapshot 7 differs from the majority's")
        for what, ask in asked.items():
            with pytest.raises(Unavailable, match="snapshot 7 differs"):
                assert what and not await ask()
        for begun in (scanning, waiting):
            with pytest.raises(Unavailable, match="snapshot 7 differs"):
                await begun
        assert (await node.status())["verdict"] == "DOWN" and not node.serving()[0]


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


def _member(node: Node) -> Member:
    assert node.member is not None
    return node.member


def _published(node: Node) -> tuple[list[str], str]:
    return sorted(os.listdir(node.paths.snapshots)), os.readlink(f"{node.paths.snapshots}/latest")


async def _comes_to_rest(member: Member) -> None:
    await until(lambda: member.durability.batch is None, "the log is synced")
    await member.checkpointer.drain()
    await member._io_lane.run(lambda: None)


async def test_a_member_that_differs_publishes_nothing_more(tmp_path: Path) -> None:
    """It went on behind the marker that told it so: it published that marker's snapshot, of a wrong state,
    as the latest, and pruned good ones (R5)."""
    async with cluster(tmp_path) as running:
        leading = next(one.node for one in running if leads(one.node))
        follower = next(one for one in running if not leads(one.node))
        member, leader = _member(follower.node), _member(leading)
        await write_rows(leading, range(100))
        first = (await leading.snapshot())["index"]
        await until(lambda: member.snapshots.newest[0] >= first, "it is made here")
        known = member.snapshots._known
        for index, made in known.items():
            known[index] = made._replace(digest=b"x" * 32)
        states = leader.peers.states.values()
        await until(lambda: all(s.status and s.status.snapshot_index >= first for s in states), "all have it")
        await write_rows(leading, range(100, 200))
        before = _published(follower.node)
        await leading.snapshot()
        assert isinstance(await follower.node.failed, Corrupt)
        await _comes_to_rest(member)
        assert _published(follower.node) == before and before[1].startswith(f"{first}-")
        assert member.manifest.point.index == first


async def test_nor_what_a_majority_had_made_before_it(tmp_path: Path) -> None:
    """The same where the majority's digest is here before the own snapshot, and where one waits for its turn
    when the member ends."""
    config = config_of(tmp_path)
    async with one_node(config) as node:
        member = _member(node)
        await write_rows(node, range(100))
        await node.snapshot()
        await write_rows(node, range(100, 200))
        before = _published(node)
        member.snapshots._reported[member.raft.last.index + 1] = b"x" * 32
        asked = asyncio.create_task(node.snapshot())
        assert isinstance(await node.failed, Corrupt)
        asked.cancel()
        await _comes_to_rest(member)
        assert _published(node) == before


async def test_a_snapshot_that_waits_for_its_turn_is_not_published_behind_the_end(tmp_path: Path) -> None:
    """What was in the queue of the lane that publishes came out of it after the member had failed."""
    async with one_node(config_of(tmp_path)) as node:
        member = _member(node)
        await write_rows(node, range(100))
        before, lane = _published(node), member._io_lane

        def ends(work: Callable[[], Any], done: DoneCallback) -> None:
            member.fail(StorageFailed("the disk of the log is gone"))
            lane.submit(work, done)

        with patch.object(member.snapshots, "_io_lane", SimpleNamespace(submit=ends)):
            asked = asyncio.create_task(node.snapshot())
            assert isinstance(await node.failed, StorageFailed)
        asked.cancel()
        await _comes_to_rest(member)
        assert _published(node) == before


async def test_a_member_that_ended_does_not_go_on_looking_after_its_files(tmp_path: Path) -> None:
    """Its scrub ran on until the node was stopped, and drops or sets aside what it finds damaged."""
    config = config_of(tmp_path)
    config = replace(config, store=replace(config.store, scrub_bytes_per_s=1))
    async with one_node(config) as node:
        member = _member(node)
        await write_rows(node, range(100))
        await node.snapshot()
        member.scrub.ask()
        await until(lambda: bool(member.scrub.progress.scope), "a pass is under way")
        member._diverged("snapshot 7 differs from the majority's")
        await until(lambda: not member.scrub.progress.running, "it has ended")


async def test_a_member_that_ended_while_a_snapshot_came_is_not_replaced_by_it(tmp_path: Path) -> None:
    """An install that was under way put the leader's state in the place of what a replica that differs had,
    and opened and served it, without anybody's word (R5)."""
    async with cluster(tmp_path) as running:
        leading = next(one.node for one in running if leads(one.node))
        follower = next(one.node for one in running if not leads(one.node))
        member, fetch = _member(follower), install.fetch
        with patch.object(member, "on_request"):  # it hears nothing of what is written
            await write_rows(leading, range(10))
            made = await leading.snapshot()
            published = _member(leading).snapshots.published
            assert published is not None and published.snapshot_id == made["id"]
            point, term = published.point, _member(leading).raft.term
            offer = SnapshotOffer(term, point.index, point.term, point.chain, 1)

            async def ends(*given: Any) -> install.Fetched:
                fetched = await fetch(*given)
                member._diverged("snapshot 7 differs from the majority's")
                return fetched

            with patch.object(install, "fetch", ends):
                await follower.host._install(member, leading.config.node.id, offer)
        await follower.host._wait_instead(member, Decision(Action.WAIT, "peers serve another timeline"))
        assert follower.member is member and isinstance(await follower.failed, Corrupt)
        assert member.manifest.point.index == 0 and "snapshot 7 differs" in follower.serving()[1]
