"""/kv: rows over HTTP, JSON in and out, on any node.

    GET    /kv                  {"tables": [...]}
    GET    /kv/{table}/{key}    the value; its revision is the ETag, its time X-Neumann-Time
    PUT    /kv/{table}/{key}    the body is the value; {"revision"}
    DELETE /kv/{table}/{key}    {"revision"}: the index of the delete; a row that is not there stays so
    GET    /kv/{table}          {"rows": [{"key", "value", "revision", "time"}], "cursor"}
    POST   /kv                  {"ops": [...]}: all or nothing; {"revision"}

An op is {"put": {"table", "key", "value"}}, {"delete": {"table", "key"}} or {"check": ...}, each with at
most one of "if_absent": true, "if_revision": n, "if_value": v. On a single row these are If-None-Match:
* and If-Match: "n". `cursor` is null at the end, else goes into ?cursor= of the next request; the other
parameters stay the same. Values that JSON does not have: format/values.py.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from neumann.errors import BadInput, NotFound
from neumann.format import command, values
from neumann.format.times import time_text
from neumann.machine.outcome import index_of
from neumann.runtime.node import Node
from neumann.server.http import answer
from neumann.server.routes import (
    VALUE,
    Flag,
    Given,
    Header,
    Input,
    Listed,
    Schema,
    Text,
    Whole,
    route,
    timeout,
)

_ROW = "/kv/{table}/{key:.+}"  # a key may hold slashes, encoded or not
_STALE, _TIMEOUT = Flag("stale"), timeout(10.0)
_BOUNDS = (Text("prefix"), Text("start"), Text("stop"))
_LIMIT = Whole("limit", default=1000, most=10_000)
_CONDITIONS = (
    Header("If-Match", 'write only over this revision: "17", an ETag'),
    Header("If-None-Match", "only *: write only where there is no row"),
)
_Condition = tuple[object, ...] | None

_OPS = {"put": command.PUT, "delete": command.DELETE, "check": command.CHECK}
_OF_ROW: dict[str, Schema] = {
    "table": {"type": "string"},
    "key": {"type": "string"},
    "value": {},
    "if_absent": {"const": True},
    "if_revision": {"type": "integer"},
    "if_value": {},
}
_ROW_NEEDS = frozenset({"table", "key"})
_OP: Schema = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
    "properties": {
        name: {
            "type": "object",
            "required": [*sorted(_ROW_NEEDS), *(["value"] if name == "put" else [])],
            "additionalProperties": False,
            "properties": {key: schema for key, schema in _OF_ROW.items() if name == "put" or key != "value"},
        }
        for name in _OPS
    },
}


class KvRoutes:
    """The handlers; they hold the node and nothing else."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @route("GET", "/kv", query=[_STALE])
    async def get_tables(self, request: web.Request, given: Given) -> web.Response:
        """Names of the tables that hold a row."""
        tables = await self._node.tables(stale=given["stale"])
        return answer({"tables": tables}, headers=self._index_header())

    @route("GET", _ROW, query=[_STALE], answers=VALUE)
    async def get_row(self, request: web.Request, given: Given) -> web.Response:
        """One value; 404 if there is none."""
        table, key = request.match_info["table"], request.match_info["key"]
        row = await self._node.get(table, key, stale=given["stale"])
        if row is None:
            raise NotFound(f"there is no row {table}/{key}")
        packed, revision, time_ns = row
        assert packed is not None, "a deleted row is no row"
        headers = self._index_header(revision)
        headers["ETag"] = f'"{revision}"'
        headers["X-Neumann-Time"] = time_text(time_ns, 9)
        return answer(values.to_json(packed), headers=headers)

    @route("GET", "/kv/{table}", query=[*_BOUNDS, _LIMIT, Flag("reverse"), Text("cursor"), _STALE])
    async def get_rows(self, request: web.Request, given: Given) -> web.Response:
        """One page of a scan."""
        reverse, start, stop = given["reverse"], given["start"], given["stop"]
        if cursor := given["cursor"]:
            start, stop = (start, cursor) if reverse else (cursor, stop)
        rows, cursor = await self._node.scan(
            request.match_info["table"],
            start=start,
            stop=stop,
            prefix=given["prefix"],
            limit=given["limit"],
            reverse=reverse,
            stale=given["stale"],
        )
        listed = [
            {"key": key, "value": values.to_json(packed), "revision": revision, "time": time_text(time_ns, 9)}
            for key, packed, revision, time_ns in rows
        ]
        return answer({"rows": listed, "cursor": cursor or None}, headers=self._index_header())

    @route("PUT", _ROW, query=[_TIMEOUT], body=Input("value"), headers=_CONDITIONS)
    async def put_row(self, request: web.Request, given: Given) -> web.Response:
        """Write a row."""
        packed = values.from_json(given["value"])
        table, key = request.match_info["table"], request.match_info["key"]
        return await self._write(command.encode_put(table, key, packed, _condition_of(request)), given)

    @route("DELETE", _ROW, query=[_TIMEOUT], headers=_CONDITIONS)
    async def delete_row(self, request: web.Request, given: Given) -> web.Response:
        """Delete a row."""
        table, key = request.match_info["table"], request.match_info["key"]
        return await self._write(command.encode_delete(table, key, _condition_of(request)), given)

    @route("POST", "/kv", query=[_TIMEOUT], body=[Listed("ops", items=_OP, needed=True)])
    async def post_batch(self, request: web.Request, given: Given) -> web.Response:
        """Write an atomic batch."""
        ops = [_batch_op(number, op) for number, op in enumerate(given["ops"], 1)]
        return await self._write(command.encode_batch(ops), given)

    async def _write(self, encoded: bytes, given: Given) -> web.Response:
        index, outcome = await self._node.write(encoded, given["timeout_s"])
        index_of(index, outcome)
        headers = {"ETag": f'"{index}"', "X-Neumann-Index": str(index)}
        return answer({"revision": index}, headers=headers)

    def _index_header(self, revision: int = 0) -> dict[str, str]:
        """What this node has applied; a read that the leader answered may know a later revision."""
        return {"X-Neumann-Index": str(max(self._node.applied_index, revision))}


def _condition_of(request: web.Request) -> _Condition:
    """From If-Match: "revision" and If-None-Match: *."""
    match, none_match = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    if match is not None and none_match is not None:
        raise BadInput("If-Match and If-None-Match exclude each other", remedy="send one")
    if none_match is not None:
        if none_match.strip() != "*":
            raise BadInput(f"If-None-Match: {none_match!r:.40} on a write", remedy="send If-None-Match: *")
        return (command.ABSENT,)
    if match is None:
        return None
    revision = match.strip().removeprefix('"').removesuffix('"')
    if not (revision.isascii() and revision.isdecimal() and len(revision) < 20):
        raise BadInput(f"If-Match: {match!r:.40} is no revision", remedy='send the ETag back: If-Match: "17"')
    return (command.REVISION, int(revision))


def _batch_op(position: int, op: Any) -> tuple[int, str, str, _Condition, bytes | None]:
    """One op of the body as command.encode_batch takes it. Names and limits are checked behind it."""
    if not isinstance(op, dict) or len(op) != 1 or next(iter(op)) not in _OPS:
        raise BadInput(f'op {position} is not {{"put": ...}}, {{"delete": ...}} or {{"check": ...}}')
    [(name, row)] = op.items()
    if not isinstance(row, dict) or not _ROW_NEEDS <= set(row) <= set(_OF_ROW):
        raise BadInput(f"op {position} takes table, key and " + ", ".join(sorted(set(_OF_ROW) - _ROW_NEEDS)))
    if ("value" in row) != (name == "put"):
        raise BadInput(f"op {position}: a put has a value, and nothing else has one")
    packed = values.from_json(row["value"]) if name == "put" else None
    return _OPS[name], row["table"], row["key"], _row_condition(position, row), packed


def _row_condition(position: int, row: dict[str, Any]) -> _Condition:
    given = sorted(set(row) & {"if_absent", "if_revision", "if_value"})
    if not given:
        return None
    if len(given) > 1:
        raise BadInput(f"op {position} has {given[0]} and {given[1]}", remedy="one condition a row")
    if given[0] == "if_absent":
        if row["if_absent"] is not True:
            raise BadInput(f"op {position}: if_absent can only be true")
        return (command.ABSENT,)
    if given[0] == "if_revision":
        return (command.REVISION, row["if_revision"])
    return (command.VALUE, values.from_json(row["if_value"]))
