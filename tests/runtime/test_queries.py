"""SQL on real nodes: of one moment, on any of them, and ended when its time is over or nobody waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

import neumann
from neumann.client import Put, batch_of
from neumann.config import LimitsConfig
from neumann.errors import BackPressure, BadInput, TooLarge, Unavailable
from neumann.format import command
from neumann.query.statement import QueryResult
from neumann.runtime.node import Node
from tests.runtime.nodes import cluster, config_of, one_node, put, until

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n"


def is_running(node: Node) -> bool:
    return node._queries._one_at_a_time.locked()


async def test_a_query_sees_what_was_acknowledged_on_every_node(tmp_path: Path) -> None:
    """Thesis 6.4, steps 4 and 5."""
    async with cluster(tmp_path) as nodes:
        for number, one in enumerate(nodes):
            index, _ = await one.node.write(put(f"k{number}", {"n": number}))
            for other in nodes:
                result = await other.node.query("SELECT MAX(n), COUNT(*) FROM t")
                assert result.rows == [(number, number + 1)]
                assert result.index >= index
        await until(
            lambda: all(one.node.applied_index == nodes[0].node.applied_index for one in nodes), "applied"
        )
        for one in nodes:
            assert (await one.node.query("SELECT COUNT(*) FROM t", stale=True)).rows == [(3,)]


async def test_a_query_is_of_one_moment(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path)) as node:

        async def write_pairs() -> None:
            for number in range(300):
                await node.write(
                    command.encode(batch_of([Put("a", f"{number}", {}), Put("b", f"{number}", {})]))
                )

        writing = asyncio.create_task(write_pairs())
        await until(lambda: node.applied_index > 20, "rows")
        seen = set[int]()
        while not writing.done():
            sql = "SELECT (SELECT COUNT(*) FROM a), (SELECT COUNT(*) FROM b), (SELECT MAX(revision) FROM b)"
            (first, second, revision), index = (result := await node.query(sql)).rows[0], result.index
            assert first == second
            assert revision <= index
            seen.add(int(first))
        await writing
        assert len(seen) > 1


async def test_the_loop_goes_on_and_time_ends_a_query(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    config = replace(config, limits=LimitsConfig(query_timeout_s=1.0, query_rows_max=10))
    async with one_node(config) as node:
        asked = asyncio.create_task(node.query(ENDLESS))
        await until(lambda: is_running(node), "the query runs")
        await node.write(put("k", {"n": 1}))
        assert not asked.done()
        with pytest.raises(TooLarge, match="longer than 1 s; a narrower range of keys"):
            await asked
        with pytest.raises(TooLarge, match=r"longer than 0\.1 s"):
            await node.query(ENDLESS, timeout_s=0.1)
        with pytest.raises(TooLarge, match="longer than 1 s"):
            await node.query(ENDLESS, timeout_s=100.0)
        with pytest.raises(BadInput, match="1 to 10, which is limits"):
            await node.query("SELECT 1", rows_max=11)
        assert (await node.query("SELECT n FROM t")).rows == [(1,)]


async def test_a_query_waits_for_the_one_before_it_and_not_for_ever(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path)) as node:
        first = asyncio.create_task(node.query(ENDLESS))
        await until(lambda: is_running(node), "the query runs")
        with pytest.raises(BackPressure, match="other queries ran"):
            await node.query("SELECT 1", timeout_s=0.1)
        second = asyncio.create_task(node.query("SELECT 1"))
        first.cancel()
        async with asyncio.timeout(15):  # half of what the first one may take: it was ended
            assert (await second).rows == [(1,)]


async def test_a_node_that_stops_ends_its_query(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path)) as node:
        asked = asyncio.create_task(node.query(ENDLESS))
        await until(lambda: is_running(node), "the query runs")
        await asyncio.sleep(0.05)
    with pytest.raises(Unavailable, match="the node stops"):
        await asked


async def test_a_client_and_an_embedded_store_give_the_same(tmp_path: Path) -> None:
    sql, params = "SELECT name, tags, raw FROM cities WHERE population > :least", {"least": 100}
    value = {"name": "Ulm", "population": 120_451, "tags": [1], "raw": b"\xff"}
    async with neumann.open(str(tmp_path / "embedded")) as own:
        await own.put("cities", "ulm", value)
        expected = (["name", "tags", "raw"], [("Ulm", "[1]", b"\xff")])
        assert (await own.query(sql, params))[:2] == expected
    async with one_node(config_of(tmp_path)) as node, neumann.connect(node.config.node.listen) as db:
        revision = await db.put("cities", "ulm", value)
        assert await db.query(sql, params) == QueryResult(*expected, revision)
        assert (await db.query("SELECT ?, ?", [1, None], stale=True)).rows == [(1, None)]
        with pytest.raises(TooLarge, match="more than 1 rows"):
            await db.query("SELECT 1 UNION SELECT 2", rows_max=1)
        with pytest.raises(BadInput, match="tables here: cities"):
            await db.query("SELECT COUNT(*) FROM ...")
