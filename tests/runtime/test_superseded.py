"""Damage in what only one node still keeps: what it does not need goes, or goes aside."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from neumann.env.disk import RealDisk
from neumann.errors import StorageFailed
from neumann.format import manifest, names, record
from neumann.runtime.node import Node
from neumann.store import manifests
from neumann.store.checkpoint import _Merge
from tests.runtime.nodes import cluster, config_of, keys_of, leads, one_node, start, until, write_rows
from tests.runtime.test_repair import flip, scrubbed

SNAPSHOTS = 10
ROWS_EACH = 20


@asynccontextmanager
async def _with_a_merge(root: Path) -> AsyncIterator[Node]:
    """A node alone whose newest manifest has a merged table, and whose older one has what was merged."""
    async with one_node(config_of(root)) as node:
        member = node.member
        assert member is not None
        for number in range(2 * SNAPSHOTS):
            await write_rows(node, range(number * ROWS_EACH, (number + 1) * ROWS_EACH), "x" * 50)
            await node.snapshot()
            if len(member.store.manifest.tables) < number:
                break
            await until(lambda: not member.checkpointer.is_busy, "no merge is under way")
        assert number < 2 * SNAPSHOTS - 1
        await until(lambda: not member.checkpointer.is_busy, "the next merge has ended too")
        yield node


async def test_a_damaged_table_that_only_an_older_manifest_names_is_dropped(tmp_path: Path) -> None:
    """A member that an install had carried far ahead kept tables of its older manifest that nobody else had
    any more: damage in one was reported for ever, with `rejoin` as the remedy."""
    async with _with_a_merge(tmp_path) as node:
        store = tmp_path / "n1/store"
        newest, older = manifests.kept_manifests(RealDisk(), str(store))
        known = {ref.digest for ref in newest.tables}
        superseded = [names.table_name(r.digest) for r in older.tables if r.digest not in known]
        flip(store / superseded[0], 100)
        flip(store / superseded[1], 100)
        said = await scrubbed(node)
        outcomes = {entry["path"]: entry["outcome"] for entry in said["damage"]}
        assert outcomes[str(store / superseded[0])] == outcomes[str(store / superseded[1])] == "dropped"
        assert not any((store / name).exists() for name in superseded[:2])
        assert node.gauges()["corruption_total"]["table", "dropped"] == 2
        assert (await scrubbed(node))["damaged"] == 0
        assert len(await keys_of(node)) % ROWS_EACH == 0
        await node.snapshot()


async def test_a_damaged_snapshot_that_nobody_can_mend_is_set_aside(tmp_path: Path) -> None:
    """It stayed in the list as complete, and was what a restore to that time would have begun with."""
    async with _with_a_merge(tmp_path) as node:
        published = tmp_path / "n1/raft/snapshots"
        manifest = next(path for path in sorted(published.glob("*-*/manifest")) if path.parent.name != "0-0")
        flip(manifest, 90)
        said = await scrubbed(node)
        assert [(e["path"], e["outcome"]) for e in said["damage"]] == [(str(manifest), "set_aside")]
        assert not manifest.parent.exists()
        [kept] = (tmp_path / "n1/aside").glob(f"*/{manifest.parent.name}")
        assert (kept / "manifest").exists() and (await scrubbed(node))["damaged"] == 0
    async with one_node(config_of(tmp_path)) as node:
        assert node.member is not None


async def test_a_snapshot_that_somebody_is_copying_in_stays(tmp_path: Path) -> None:
    """All but the newest published were set aside when something of them could not be read: also what was
    only half copied yet, or of another cluster or release, under the copying process."""
    async with _with_a_merge(tmp_path) as node:
        assert node.member is not None and node.member.snapshots.published is not None
        published, newest = tmp_path / "n1/raft/snapshots", node.member.snapshots.published
        [table, *_] = [p for p in (published / newest.snapshot_id).iterdir() if names.parse_table(p.name)]
        other = newest.history._replace(cluster_id=b"o" * 16)
        brought = {
            "999999-9": manifest.encode(newest)[:-9],
            "1-1": manifest.encode(newest._replace(history=other)),
            "2-1": record.encode(b"NEUMAN99", (1,)),
        }
        for snapshot_id, data in brought.items():
            (published / snapshot_id).mkdir()
            (published / snapshot_id / "manifest").write_bytes(data)
            (published / snapshot_id / table.name).write_bytes(table.read_bytes()[:-20])
        (published / "3-1").mkdir()
        (published / "3-1" / table.name).write_bytes(table.read_bytes()[:-20])
        said = await scrubbed(node)
        assert said["unrepaired"] == 6 and {e["outcome"] for e in said["damage"]} == {"unrepaired"}
        assert all((published / snapshot_id / table.name).exists() for snapshot_id in (*brought, "3-1"))


async def test_what_somebody_else_removed_meanwhile_has_gone(tmp_path: Path) -> None:
    """An older manifest, its table or a snapshot was pruned between the look and the removal: that ended the
    pass, and all behind it was not read."""
    async with _with_a_merge(tmp_path) as node:
        assert node.member is not None
        store = tmp_path / "n1/store"
        newest, older = manifests.kept_manifests(RealDisk(), str(store))
        known = {ref.digest for ref in newest.tables}
        gone = [store / names.table_name(ref.digest) for ref in older.tables if ref.digest not in known][:1]
        gone.append(store / names.manifest_name(*older.point[:2]))
        gone[0].unlink()
        let_go = node.member.superseded.let_go
        assert [await let_go(str(path)) for path in gone] == ["dropped", "dropped"]
        assert await let_go(str(tmp_path / "n1/raft/snapshots/1-1/manifest")) == "dropped"
        assert not list((tmp_path / "n1/aside").iterdir())


async def test_damage_does_not_end_the_scrub_where_a_merge_failed_or_a_manifest_is_too_new(
    tmp_path: Path,
) -> None:
    """Whether a table is needed can't be told there; asking ended the scrub unheard, and it seemed to run."""
    async with _with_a_merge(tmp_path) as node:
        assert node.member is not None
        store, checkpointer = tmp_path / "n1/store", node.member.checkpointer
        newest, older = manifests.kept_manifests(RealDisk(), str(store))
        known = {ref.digest for ref in newest.tables}
        [first, second, *_] = [ref.digest for ref in older.tables if ref.digest not in known]
        too_new = store / names.manifest_name(1, 1)
        too_new.write_bytes(record.encode(b"NEUMAN99", (1,)))
        assert await checkpointer.let_go(first)
        too_new.unlink()
        failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        failed.set_exception(StorageFailed("planted"))
        kept, checkpointer._merge = checkpointer._merge, _Merge(None, failed)  # type: ignore[arg-type]
        checkpointer._has_ended = True
        assert not await checkpointer.let_go(second)
        checkpointer._merge, checkpointer._has_ended = kept, False
        with pytest.raises(StorageFailed):
            failed.result()


async def test_a_scrub_that_fails_is_heard(tmp_path: Path) -> None:
    """It ended silently: verify said that it was running, for ever."""
    async with one_node(config_of(tmp_path)) as node:
        member = node.member
        assert member is not None

        async def failing() -> None:
            raise StorageFailed("planted")

        member.scrub._pass = failing  # type: ignore[method-assign]
        node.scrub(begin=True)
        await until(lambda: member.failure is not None, "it is told")
        assert not member.scrub.progress.running and "planted" in str(member.failure)


async def test_an_older_manifest_goes_whose_tables_are_gone(tmp_path: Path) -> None:
    """The scrub passed over it, and an installing follower or a restart would have chosen it."""
    async with _with_a_merge(tmp_path) as node:
        store = tmp_path / "n1/store"
        newest, older = manifests.kept_manifests(RealDisk(), str(store))
        known = {ref.digest for ref in newest.tables}
        gone = [store / names.table_name(r.digest) for r in older.tables if r.digest not in known]
        for path in gone:
            path.unlink()
        said = await scrubbed(node)
        found = {one["path"]: one["outcome"] for one in said["damage"] if Path(one["path"]).parent == store}
        assert list(found.values()) == ["dropped"] and set(found) <= set(map(str, gone))
        assert manifests.kept_manifests(RealDisk(), str(store)) == [newest]
        assert (await scrubbed(node))["damaged"] == 0


async def test_a_snapshot_that_lacks_a_table_is_set_aside_once_nobody_works_in_it(tmp_path: Path) -> None:
    """Only the newest published one was looked through: an older one that could restore nothing stayed."""
    async with _with_a_merge(tmp_path) as node:
        published = sorted((tmp_path / "n1/raft/snapshots").glob("[1-9]*-*/*.table"))
        lost = min(published, key=lambda path: names.parse_snapshot(path.parent.name) or (0, 0))
        lost.unlink()
        said = await scrubbed(node)
        assert [(one["path"], one["outcome"]) for one in said["damage"]] == [(str(lost), "unrepaired")]
        assert lost.parent.exists(), "somebody may be copying it, or deleting it"
        os.utime(lost.parent, (0, 0))
        assert (await scrubbed(node))["damage"][0]["outcome"] == "set_aside"
        assert not lost.parent.exists() and (await scrubbed(node))["damaged"] == 0


async def test_what_the_newest_manifest_needs_stays(tmp_path: Path) -> None:
    async with _with_a_merge(tmp_path) as node:
        assert node.member is not None
        name = names.table_name(node.member.store.manifest.tables[0].digest)
        flip(tmp_path / "n1/store" / name, 100)
        said = await scrubbed(node)
        assert said["unrepaired"] >= 1 and (tmp_path / "n1/store" / name).exists()


async def test_nothing_goes_while_somebody_copies(tmp_path: Path) -> None:
    async with _with_a_merge(tmp_path) as node:
        manifest = min((tmp_path / "n1/raft/snapshots").glob("[1-9]*-*/manifest"))
        flip(manifest, 90)
        await node.pause_writes(60.0)
        assert (await scrubbed(node))["unrepaired"] == 1 and manifest.exists()
        await node.resume_writes()
        assert (await scrubbed(node))["unrepaired"] == 0 and not manifest.exists()


async def test_a_damaged_segment_that_nobody_has_and_nobody_needs_is_dropped(tmp_path: Path) -> None:
    """The log was kept for followers only, its peers had dropped theirs: the damage was reported for ever."""
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(50), "x" * 50)
        await node.snapshot()
        await write_rows(node, range(50, 100), "x" * 50)
        made = await node.snapshot()
        first, second, *_ = sorted((tmp_path / "n1/raft/wal").iterdir())
        flip(second, 70)
        said = await scrubbed(node)
        assert [(e["path"], e["outcome"]) for e in said["damage"]] == [(str(second), "dropped")]
        await until(lambda: not first.exists() and not second.exists(), "they are gone")
        assert node.member is not None and node.member.wal.base.index == made["index"]
        await write_rows(node, range(100, 150), "x" * 50)
    async with one_node(config_of(tmp_path)) as node:
        assert len(await keys_of(node)) == 150


async def test_a_member_that_may_have_it_is_waited_for(tmp_path: Path) -> None:
    """One that can't be reached may have a copy: nothing is let go before it has said that it has none."""
    async with cluster(tmp_path) as running:
        leading = next(one.node for one in running if leads(one.node))
        await write_rows(leading, range(100), "x" * 50)
        made = await leading.snapshot()
        await write_rows(leading, range(100, 200), "x" * 50)
        newer = await leading.snapshot()
        follower, away = (one for one in running if one.node is not leading)
        for one in running:
            await until(
                lambda one=one: (
                    one.node.member is not None and one.node.member.snapshots.newest[0] >= newer["index"]
                ),
                "the snapshots are everywhere",
            )
        segments = [sorted(Path(one.node.paths.wal).iterdir()) for one in running]
        assert len({path.name for listed in segments for path in listed[:1]}) == 1
        damaged = Path(follower.node.paths.wal, segments[0][0].name)
        for one in (leading, away.node):
            Path(one.paths.wal, damaged.name).unlink()
        running.remove(away)
        await away.stop()
        flip(damaged, 70)
        assert (await scrubbed(follower.node))["unrepaired"] == 1 and damaged.exists()
        back = await start(away.node.config)
        running.append(back)
        await until(lambda: back.node.serving()[0], "it is there again")
        assert (await scrubbed(follower.node))["unrepaired"] == 0 and not damaged.exists()
        assert follower.node.member is not None and follower.node.member.wal.base.index <= made["index"]
