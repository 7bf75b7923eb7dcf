"""POST /query: one SQL statement over all tables at one index (query/), on any node.

    {"sql": "SELECT name FROM cities WHERE population > ?", "params": [1000000]}
    -> {"columns": ["name"], "rows": [["Berlin"]], "index": 17}

`params` is a list for `?` or an object for `:name`; `stale`, `rows_max` and `timeout_s` may be given too.
Cells that JSON does not have: format/values.py.
"""

from __future__ import annotations

import json

from aiohttp import web

from neumann.errors import BadInput
from neumann.format import values
from neumann.query.statement import QueryResult
from neumann.runtime.node import Node
from neumann.server.routes import Flag, Given, Input, Schema, Text, Whole, route, timeout

_TIMEOUT = timeout(None)  # limits.query_timeout_s


class _Params(Input):
    """What stands for `?`, or for `:name`, as the statement takes it."""

    def schema(self) -> Schema:
        return {"type": ["array", "object"]}

    def check(self, value: object) -> list[object] | dict[str, object]:
        if isinstance(value, list):
            return [values.stored(item) for item in value]
        if isinstance(value, dict):
            return {name: values.stored(item) for name, item in value.items()}
        raise BadInput("params must be a list, or an object of names")


class QueryRoutes:
    """The handler, and the thread that writes its answers: a large one would hold up the event loop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lane = node.env.lane("query-json")

    async def close(self, app: web.Application) -> None:
        """End the thread."""
        self._lane.close()

    @route(
        "POST",
        "/query",
        query=[_TIMEOUT],
        body=[
            Text("sql", needed=True),
            _Params("params", takes_null=True),
            Flag("stale"),
            Whole("rows_max", takes_null=True),
            _TIMEOUT,
        ],
    )
    async def post_query(self, request: web.Request, given: Given) -> web.Response:
        """Answer one SQL statement over all tables."""
        result = await self._node.query(
            given["sql"],
            [] if given["params"] is None else given["params"],
            stale=given["stale"],
            rows_max=given["rows_max"],
            timeout_s=given["timeout_s"] or self._node.config.limits.query_timeout_s,
        )
        text: str = await self._lane.run(lambda: _json(result))
        headers = {"X-Neumann-Index": str(result.index)}
        return web.Response(text=text, headers=headers, content_type="application/json")


def _json(result: QueryResult) -> str:
    rows = ", ".join(json.dumps(values.plain(list(row)), ensure_ascii=False) for row in result.rows)
    columns = json.dumps(result.columns, ensure_ascii=False)
    return f'{{"columns": {columns}, "rows": [{rows}], "index": {result.index}}}\n'
