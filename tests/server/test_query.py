"""POST /query, against a real node."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.conftest import Web

CITIES = {"berlin": 3_426_354, "paris": 2_138_551, "ulm": 120_451}


@pytest.fixture
async def cities(web: Web) -> Web:
    """Three rows."""
    for key, population in CITIES.items():
        assert (await web.ask("PUT", f"/kv/cities/{key}", {"population": population})).status == 200
    return web


async def test_rows_columns_and_the_index(cities: Web) -> None:
    revision = (await cities.ask("PUT", "/kv/cities/ulm", {"population": 120_452})).body["revision"]
    sql = "SELECT key, population, revision FROM cities ORDER BY key DESC LIMIT 1"
    answer = await cities.ask("POST", "/query", {"sql": sql})
    assert answer.status == 200
    assert answer.body["columns"] == ["key", "population", "revision"]
    assert answer.body["rows"] == [["ulm", 120_452, revision]]
    assert answer.body["index"] >= revision
    assert answer.headers["x-neumann-index"] == str(answer.body["index"])
    counted = await cities.ask("POST", "/query", {"sql": "SELECT COUNT(*) FROM cities", "stale": True})
    assert counted.body["rows"] == [[3]]
    assert (await cities.ask("POST", "/query", {"sql": "SELECT key FROM cities WHERE 0"})).body["rows"] == []


async def test_parameters_and_cells_that_json_lacks(cities: Web) -> None:
    sent = {"sql": "SELECT ?, ?, ?", "params": [{"$bytes": "/w=="}, {"$float": "inf"}, 'a"京']}
    assert (await cities.ask("POST", "/query", sent)).body["rows"] == [sent["params"]]
    named = {"sql": "SELECT key FROM cities WHERE population < :most", "params": {"most": 1_000_000}}
    assert (await cities.ask("POST", "/query", named)).body["rows"] == [["ulm"]]


async def test_limits(cities: Web) -> None:
    over = await cities.ask("POST", "/query", {"sql": "SELECT * FROM cities", "rows_max": 2})
    assert (over.status, over.body["code"]) == (413, "too_large")
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n"
    for path, timeout in (("/query?timeout_s=0.1", {}), ("/query", {"timeout_s": 0.1})):
        late = await cities.ask("POST", path, {"sql": endless, **timeout})
        assert (late.status, late.body["code"]) == (413, "too_large")
        assert "longer than 0.1 s" in late.body["error"]


REFUSED: list[Any] = [
    ({"sql": "SELECT COUNT(*) FROM ..."}, "tables here: cities"),
    ({"sql": "SELECT * FROM towns"}, "tables here: cities"),
    ({"sql": "DELETE FROM cities"}, "may not be modified"),
    ({"sql": "SELECT ?", "params": [2**63]}, "beyond 64 bits"),
    ({"sql": "SELECT ?", "params": [[1]]}, "no number"),
    ({"sql": "SELECT ?", "params": 1}, "params must be"),
    ({"sql": "SELECT ?", "params": [{"$bytes": "!"}]}, "does not hold"),
    ({"sql": 1}, "sql must be text"),
    ({}, "sql must be text"),
    ({"sql": "SELECT 1", "stale": 1}, "stale must be"),
    ({"sql": "SELECT 1", "rows_max": "9"}, "rows_max must be"),
    ({"sql": "SELECT 1", "rows_max": 0}, "rows_max 0"),
    ({"sql": "SELECT 1", "rows_max": 100_001}, "limits.query_rows_max"),
    ({"sql": "SELECT 1", "timeout_s": 0}, "timeout_s"),
    ({"query": "SELECT 1"}, "did you mean"),
    ([], "must be a JSON object"),
]


@pytest.mark.parametrize(("body", "said"), REFUSED, ids=lambda value: str(value)[:60])
async def test_refusals(cities: Web, body: Any, said: str) -> None:
    answer = await cities.ask("POST", "/query", body)
    assert answer.status == 400
    assert said in json.dumps(answer.body)


async def test_only_post(cities: Web) -> None:
    assert (await cities.ask("GET", "/query?sql=SELECT+1")).status == 405
