"""Flush and merge in the real helper process, and what they answer to a damaged input."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from neumann.env.disk import RealDisk
from neumann.env.jobs import RealJobs
from neumann.errors import Corrupt, StorageFailed
from neumann.format import command as c
from neumann.format import names
from neumann.format.frame import Kind
from neumann.format.manifest import TableRef
from neumann.format.special import Noop
from neumann.store.jobs import FLUSH, MERGE
from neumann.store.table_reader import Table
from neumann.store.table_writer import write_table
from tests.store.log import Log
from tests.store.rows import HISTORY, Rows, in_order, live, pairs, some_rows

DISK = RealDisk()


@pytest.fixture
async def jobs() -> AsyncIterator[RealJobs]:
    jobs = RealJobs()
    yield jobs
    await jobs.close()


def puts(log: Log, *keys: str) -> None:
    log.add(Kind.DATA, [c.encode_put("t", key, b"\x01") for key in keys])


def flush_params(directory: Path, log: Log, **changes: Any) -> dict[str, Any]:
    path = str(directory / "log")
    if not DISK.exists(path):
        log.store(DISK, path)
    last = log.last.index
    params: dict[str, Any] = {"first": 1, "last": last, "pieces": log.pieces(path, 0, last), "skipped": []}
    return {"directory": str(directory), "block_bytes": 64, **params, **changes}


def rows_of(directory: Path, fields: tuple[Any, ...]) -> list[tuple[str, Any]]:
    ref = TableRef(*fields)
    table = Table(DISK, str(directory / names.table_name(ref.digest)), ref)
    table.verify()
    return [pair for run in table.chunks() for pair in pairs(run)]


async def test_flush(tmp_path: Path, jobs: RealJobs) -> None:
    log = Log(HISTORY.base)
    puts(log, "b", "a")
    log.add_special(Noop())
    puts(log, "c", "b")
    answer = await jobs.run(FLUSH, flush_params(tmp_path, log, skipped=[4]))
    assert rows_of(tmp_path, answer["table"]) == [
        ("t\0a", (b"\x01", 2, 1000)),
        ("t\0b", (b"\x01", 5, 1002)),
        ("t\0c", (b"\x01", 4, 1002)),
    ]


async def test_a_flush_of_nothing_makes_no_table(tmp_path: Path, jobs: RealJobs) -> None:
    log = Log(HISTORY.base)
    log.add_special(Noop())
    assert await jobs.run(FLUSH, flush_params(tmp_path, log)) == {"table": None}
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


async def test_a_flush_checks_that_it_got_the_log_it_asked_for(tmp_path: Path, jobs: RealJobs) -> None:
    log = Log(HISTORY.base)
    for key in "abc":
        puts(log, key)
    path = str(tmp_path / "log")
    log.store(DISK, path)
    with pytest.raises(Corrupt, match=f"{path}, offset .*: begins at 2, 1 was asked for") as refused:
        await jobs.run(FLUSH, flush_params(tmp_path, log, pieces=log.pieces(path, 1, 3)))
    assert refused.value.detail == {"path": path}
    with pytest.raises(Corrupt, match="end at 2, 3 was asked for"):
        await jobs.run(FLUSH, flush_params(tmp_path, log, pieces=log.pieces(path, 0, 2)))
    hole = [*log.pieces(path, 0, 1), *log.pieces(path, 2, 3)]
    with pytest.raises(Corrupt, match=f"{path}, offset .*does not follow") as refused:
        await jobs.run(FLUSH, flush_params(tmp_path, log, pieces=hole))
    assert refused.value.detail == {"path": path}
    data = bytearray((tmp_path / "log").read_bytes())
    start = log.pieces(path, 1, 2)[0][1]
    data[start + 60] ^= 1
    (tmp_path / "log").write_bytes(data)
    with pytest.raises(Corrupt, match=f"log, offset {start}: entries 2..2"):
        await jobs.run(FLUSH, flush_params(tmp_path, log))


def some_tables(directory: Path, count: int) -> tuple[list[TableRef], Rows]:
    """Tables, newest first, and what they are together."""
    rng = random.Random(3)
    refs: list[TableRef] = []
    newest: Rows = {}
    for number in range(count):
        rows = some_rows(rng, 80, 100 * number)
        newest.update(rows)
        ref = write_table(DISK, str(directory), in_order(rows), 256)
        assert ref is not None
        refs.insert(0, ref)
    return refs, newest


@pytest.mark.parametrize("drop_tombstones", [False, True])
async def test_merge(tmp_path: Path, jobs: RealJobs, drop_tombstones: bool) -> None:
    refs, newest = some_tables(tmp_path, 5)
    params = {
        "directory": str(tmp_path),
        "block_bytes": 256,
        "inputs": [ref.name for ref in refs],
        "drop_tombstones": drop_tombstones,
    }
    answer = await jobs.run(MERGE, params)
    assert rows_of(tmp_path, answer["table"]) == (live(newest) if drop_tombstones else in_order(newest))
    (tmp_path / names.table_name(refs[2].digest)).unlink()
    with pytest.raises(Corrupt, match=f"{refs[2].name}.* is missing"):
        await jobs.run(MERGE, params)


async def test_a_merge_refuses_damage_and_leaves_no_table(tmp_path: Path, jobs: RealJobs) -> None:
    refs, _ = some_tables(tmp_path, 2)
    path = tmp_path / names.table_name(refs[0].digest)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    before = {path.name for path in tmp_path.iterdir()}
    params = {
        "directory": str(tmp_path),
        "block_bytes": 256,
        "inputs": [ref.name for ref in refs],
        "drop_tombstones": True,
    }
    with pytest.raises(Corrupt, match=f"{path.name}, offset 8"):
        await jobs.run(MERGE, params)
    assert {path.name for path in tmp_path.iterdir()} == before


async def test_a_helper_that_died_fails_its_job_and_the_next_one_has_a_new_helper(
    tmp_path: Path, jobs: RealJobs
) -> None:
    log = Log(HISTORY.base)
    puts(log, "a")
    with pytest.raises(StorageFailed, match="helper process died"):
        await jobs.run("neumann.nothing:job", {})
    first = await jobs.run(FLUSH, flush_params(tmp_path, log))
    running = asyncio.create_task(jobs.run(FLUSH, flush_params(tmp_path, log)))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await jobs.run(FLUSH, flush_params(tmp_path, log)) == first
