"""Rows over HTTP, against a real node."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from neumann.format.command import encode_put, pack_value
from neumann.runtime.applier import Applier
from tests.server.conftest import Web


async def test_a_row_comes_back_as_it_was_put(web: Web) -> None:
    value = {"name": "Berlin", "population": 3_426_354, "area": 891.8, "tags": ["a", None, True]}
    put = await web.ask("PUT", "/kv/cities/berlin", value)
    assert put.status == 200
    revision = put.body["revision"]
    got = await web.ask("GET", "/kv/cities/berlin")
    assert (got.status, got.body) == (200, value)
    assert got.headers["etag"] == f'"{revision}"' == put.headers["etag"]
    assert got.headers["x-neumann-node"] == "n1"
    assert int(got.headers["x-neumann-index"]) >= revision
    assert got.headers["x-neumann-time"].endswith("Z")


async def test_null_is_a_value_and_absent_is_not(web: Web) -> None:
    assert (await web.ask("PUT", "/kv/t/k", b"null")).status == 200
    assert (await web.ask("GET", "/kv/t/k")).body is None
    absent = await web.ask("GET", "/kv/t/other")
    assert (absent.status, absent.body["code"]) == (404, "not_found")


async def test_delete(web: Web) -> None:
    await web.ask("PUT", "/kv/t/k", 1)
    first = await web.ask("DELETE", "/kv/t/k")
    second = await web.ask("DELETE", "/kv/t/k")
    assert first.status == second.status == 200
    assert second.body["revision"] == first.body["revision"] + 1
    assert (await web.ask("GET", "/kv/t/k")).status == 404


async def test_keys_with_slashes_blanks_and_other_scripts(web: Web) -> None:
    for path, key in (("a/b", "a/b"), ("c%2Fd", "c/d"), ("x%20y", "x y"), ("%E4%BA%AC", "京")):
        assert (await web.ask("PUT", f"/kv/t/{path}", key)).status == 200
    rows = (await web.ask("GET", "/kv/t")).body["rows"]
    assert [row["key"] for row in rows] == sorted(["a/b", "c/d", "x y", "京"])
    assert all(row["key"] == row["value"] for row in rows)


async def test_conditions_are_those_of_http(web: Web) -> None:
    absent = {"If-None-Match": "*"}
    first = await web.ask("PUT", "/kv/t/k", 1, headers=absent)
    assert first.status == 200
    again = await web.ask("PUT", "/kv/t/k", 2, headers=absent)
    assert (again.status, again.body["code"]) == (412, "condition")
    second = await web.ask("PUT", "/kv/t/k", 2, headers={"If-Match": first.headers["etag"]})
    assert second.status == 200
    stale = await web.ask("DELETE", "/kv/t/k", headers={"If-Match": first.headers["etag"]})
    assert stale.status == 412
    assert (await web.ask("GET", "/kv/t/k")).body == 2


CONDITIONS_THAT_MAKE_NO_SENSE: list[Any] = [
    {"If-Match": "*"},
    {"If-Match": '"-1"'},
    {"If-Match": "W/x"},
    {"If-None-Match": '"3"'},
    {"If-Match": '"1"', "If-None-Match": "*"},
]


async def test_conditions_that_make_no_sense(web: Web) -> None:
    for headers in CONDITIONS_THAT_MAKE_NO_SENSE:
        refused = await web.ask("PUT", "/kv/t/k", 1, headers=headers)
        assert (refused.status, refused.body["code"]) == (400, "bad_input")
        assert (await web.ask("GET", "/kv/t/k")).status == 404


async def test_a_batch_is_all_or_nothing(web: Web) -> None:
    await web.ask("PUT", "/kv/t/old", "here")
    ops: list[Any] = [
        {"put": {"table": "t", "key": "new", "value": {"$bytes": "AAE="}, "if_absent": True}},
        {"delete": {"table": "t", "key": "old"}},
        {"check": {"table": "t", "key": "old", "if_value": "here"}},
    ]
    done = await web.ask("POST", "/kv", {"ops": ops})
    assert done.status == 200
    rows = (await web.ask("GET", "/kv/t")).body["rows"]
    assert [(row["key"], row["value"]) for row in rows] == [("new", {"$bytes": "AAE="})]
    assert rows[0]["revision"] == done.body["revision"]
    ops[0]["put"]["value"] = "other"
    assert (await web.ask("POST", "/kv", {"ops": ops})).status == 412
    assert (await web.ask("GET", "/kv/t")).body["rows"] == rows


BATCHES_THAT_ARE_REFUSED: list[Any] = [
    {},
    [],
    {"ops": []},
    {"ops": {}},
    {"ops": [], "more": 1},
    {"ops": [1]},
    {"ops": [{"put": {"table": "t", "key": "k"}}]},
    {"ops": [{"put": {"table": "t", "key": "k", "value": 1, "ttl": 5}}]},
    {"ops": [{"put": {"table": "t", "key": 5, "value": 1}}]},
    {"ops": [{"put": {"table": "t", "value": 1}}]},
    {"ops": [{"delete": {"table": "t", "key": "k", "value": 1}}]},
    {"ops": [{"check": {"table": "t", "key": "k"}}]},
    {"ops": [{"put": {"table": "t", "key": "k", "value": 1, "if_absent": False}}]},
    {"ops": [{"put": {"table": "t", "key": "k", "value": 1, "if_revision": "1"}}]},
    {"ops": [{"put": {"table": "t", "key": "k", "value": 1, "if_absent": True, "if_revision": 1}}]},
    {"ops": [{"put": {"table": "t", "key": "k", "value": 1}, "delete": {"table": "t", "key": "k"}}]},
    {"ops": [{"patch": {"table": "t", "key": "k"}}]},
]


async def test_batches_that_are_refused(web: Web) -> None:
    for body in BATCHES_THAT_ARE_REFUSED:
        refused = await web.ask("POST", "/kv", body)
        assert (refused.status, refused.body["code"]) == (400, "bad_input")
        assert (await web.ask("GET", "/kv")).body == {"tables": []}


async def test_scan_with_every_bound_and_a_cursor(web: Web) -> None:
    keys = [f"k{number:02}" for number in range(9)]
    ops = [{"put": {"table": "t", "key": key, "value": key}} for key in keys]
    await web.ask("POST", "/kv", {"ops": ops})
    await web.ask("PUT", "/kv/u/other", 1)

    async def scan(query: str) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            page = (await web.ask("GET", f"/kv/t?{query}{cursor}")).body
            found += [row["key"] for row in page["rows"]]
            if page["cursor"] is None:
                return found
            cursor = f"&cursor={page['cursor']}"

    assert await scan("limit=4") == keys
    assert await scan("limit=2&reverse=true") == keys[::-1]
    assert await scan("limit=1&start=k02&stop=k05") == keys[2:5]
    assert await scan("limit=1&start=k02&stop=k05&reverse=true") == keys[4:1:-1]
    assert await scan("limit=3&prefix=k0") == keys
    assert await scan("prefix=k07&reverse=true") == ["k07"]
    assert await scan("prefix=x") == []
    assert (await web.ask("GET", "/kv")).body == {"tables": ["t", "u"]}


PARAMETERS_THAT_ARE_REFUSED: list[Any] = [
    "/kv/t?limit=0",
    "/kv/t?limit=many",
    "/kv/t?limit=10001",
    "/kv/t?limit=²",
    "/kv/t?reverse=1",
    "/kv/t?prefx=a",
    "/kv/t?limit=1&limit=2",
    "/kv/t/k?stale=yes",
    "/kv?limit=1",
]


async def test_parameters_that_are_refused(web: Web) -> None:
    for path in PARAMETERS_THAT_ARE_REFUSED:
        refused = await web.ask("GET", path)
        assert (refused.status, refused.body["code"]) == (400, "bad_input")


async def test_limits(web: Web) -> None:
    """The node of this test takes keys of 64 bytes, values of 4096, and batches of 10 rows."""
    assert (await web.ask("PUT", "/kv/t/" + "k" * 64, "x" * 4093)).status == 200
    for path, body in (("/kv/t/" + "k" * 65, 1), ("/kv/t/k", "x" * 4094)):
        refused = await web.ask("PUT", path, body)
        assert (refused.status, refused.body["code"]) == (413, "too_large")
        assert "limit" in refused.body["error"]
    ops = [{"delete": {"table": "t", "key": str(number)}} for number in range(11)]
    assert (await web.ask("POST", "/kv", {"ops": ops})).status == 413
    huge = await web.ask("PUT", "/kv/t/k", io.BytesIO(b"1" * (17 << 20)))
    assert (huge.status, huge.body["code"]) == (413, "too_large")
    assert (await web.ask("GET", "/kv/t/k")).status == 404


BODIES_THAT_ARE_NO_VALUE: list[Any] = [b"", b"{", b"NaN", b"\xff\xfe", b'"\\ud800"', b"1" * 30]


async def test_bodies_that_are_no_value(web: Web) -> None:
    for body in BODIES_THAT_ARE_NO_VALUE:
        refused = await web.ask("PUT", "/kv/t/k", body)
        assert (refused.status, refused.body["code"]) == (400, "bad_input")
        assert (await web.ask("GET", "/kv/t/k")).status == 404


NAMES_THAT_ADDRESS_NO_ROW: list[Any] = ["/kv/t/%00", "/kv/%00/k", "/kv/" + "t" * 256 + "/k"]


async def test_names_that_address_no_row(web: Web) -> None:
    for path in NAMES_THAT_ADDRESS_NO_ROW:
        assert (await web.ask("PUT", path, 1)).status == 400


async def test_values_of_other_clients_are_shown(web: Web) -> None:
    """A client of the RPC port may store what JSON does not have."""
    await web.node.write(encode_put("t", "k", pack_value({1: b"\x00", "n": float("inf")})))
    shown = {"$map": [[1, {"$bytes": "AA=="}], ["n", {"$float": "inf"}]]}
    assert (await web.ask("GET", "/kv/t/k")).body == shown


async def test_stale_reads_need_no_leader_and_see_what_is_applied(web: Web) -> None:
    await web.ask("PUT", "/kv/t/k", 1)
    assert (await web.ask("GET", "/kv/t/k?stale=true")).body == 1
    assert (await web.ask("GET", "/kv/t?stale=true")).body["rows"][0]["key"] == "k"


async def test_too_many_writes_at_once_get_429(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not done, when to come again, and the same word as on the other faces."""
    member = web.node.member
    assert member is not None
    assert (await web.ask("PUT", "/kv/t/before", 0)).status == 200  # it has applied its own first entry
    run = Applier._run
    monkeypatch.setattr(member.proposer, "_unanswered_bytes_max", 1)
    monkeypatch.setattr(Applier, "_run", lambda self: None)
    first = asyncio.create_task(web.ask("PUT", "/kv/t/first", 1))
    while not member.proposer._unanswered_bytes:
        await asyncio.sleep(0.001)
    refused = await web.ask("PUT", "/kv/t/second", 2)
    assert (refused.status, refused.body["code"]) == (429, "back_pressure")
    assert refused.headers["retry-after"] == "1" and refused.body["remedy"]
    monkeypatch.setattr(Applier, "_run", run)
    member.applier.wake()
    assert (await first).status == 200
    assert (await web.ask("GET", "/kv/t/second")).status == 404
