"""A cluster made from another one's backup archives nothing before an operator has said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neumann.archive.archiver import is_held
from neumann.env import real_env
from neumann.errors import RefusedByState
from neumann.format.manifest import Archiving
from neumann.recovery.formation import empty_base
from neumann.recovery.prepare import Request, plan_restore
from neumann.recovery.restore import restore
from neumann.recovery.targets import parse_target
from tests.runtime.nodes import config_of, one_node, until, write_rows
from tests.runtime.test_archiving import archive_in, archiving, settings


async def make_clone(root: Path, node_id: str) -> None:
    """wal-replay --until latest --as-new-cluster --to `root`/`node_id`."""
    env = real_env()
    latest = parse_target(until="latest")
    wal_dir, to = str(archive_in(root)), str(root / node_id)
    try:
        wanted = Request(latest, to, node_id, "h:1", wal_dir=wal_dir, to=to, as_new_cluster=True)
        await restore(env, plan_restore(env, wanted))
    finally:
        await env.net.close()
        await env.jobs.close()


def listed(archive: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in archive.iterdir()}


async def write_and_drop(node: Any) -> None:
    """Rows and snapshots, until the log behind one is dropped."""
    base_index = node.member.wal.base.index
    for round_number in range(3):
        await write_rows(node, range(10), round_number)
        await node.snapshot(10.0)
    await until(lambda: node.member.wal.base.index > base_index, "the log goes")


async def test_a_clone_with_productions_settings_archives_nothing_before_it_is_asked_to(
    tmp_path: Path,
) -> None:
    """Its leader switched archiving on at once, and `cp %p .../%f` put its log into production's archive:
    then nothing could be restored from that."""
    shared = settings(tmp_path)
    async with one_node(config_of(tmp_path, **shared)) as node:
        await write_rows(node, range(20))
        await until(lambda: archiving(node)[0], "archiving is on")
        await node.archive_flush(10.0)
    before = listed(archive_in(tmp_path))
    await make_clone(tmp_path, "clone")
    for _ in range(2):  # and after a restart
        async with one_node(config_of(tmp_path, "clone", **shared)) as node:
            await write_and_drop(node)
            status = await node.status()
            assert status["verdict"] == "DEGRADED" and "archive-check --begin" in status["reason"]
            assert (status["archive"]["state"], archiving(node)) == ("off", (False, 0))
            for asked in (node.archive_check(5.0), node.archive_flush(5.0)):
                with pytest.raises(RefusedByState, match="archiving is held") as refused:
                    await asked
                assert "archive-check --begin" in refused.value.remedy
    assert listed(archive_in(tmp_path)) == before
    async with one_node(config_of(tmp_path, "clone")) as node:
        assert (await node.status())["verdict"] == "SAFE"
        with pytest.raises(RefusedByState, match="has no archive_command"):
            await node.archive_check(5.0, begin=True)
    (tmp_path / "own").mkdir()
    own = {**shared, "archive_command": f"cp %p {tmp_path}/own/%f"}
    async with one_node(config_of(tmp_path, "clone", **own)) as node:
        done = await node.archive_check(10.0, begin=True)
        assert archiving(node) == (True, done["archived_through"])
        assert (await node.status())["verdict"] == "SAFE"
    async with one_node(config_of(tmp_path, "clone", **own)) as node:
        await node.archive_check(10.0)
    assert {*listed(tmp_path / "own")} > {done["file"]} and listed(archive_in(tmp_path)) == before


def test_what_is_held_and_what_is_not() -> None:
    """Also after the clone itself was restored; never a cluster that began empty, nor one that was asked."""
    empty = empty_base("n1", "h:1", b"s" * 16, 1, b"c" * 16, 7, 1024).history
    record = empty.records[0]
    copy = empty._replace(records=(record._replace(fork_index=9, base_index=1_000),))
    child = copy.child(
        record._replace(
            timeline=record.timeline._replace(counter=2), parent=record.timeline, base_index=2_000
        )
    )
    assert is_held(copy, Archiving()) and is_held(child, Archiving())
    assert not is_held(empty, Archiving())
    assert not is_held(copy, Archiving(True, 1_000)) and not is_held(copy, Archiving(False, 1_000))
