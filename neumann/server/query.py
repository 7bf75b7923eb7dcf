"""POST /query: one SQL statement over all tables at one index (query/), on any node.

    {"sql": "SELECT name FROM cities WHERE population > ?", "params": [1000000]}
    -> {"columns": ["name"], "rows": [["Berlin"]], "index": 17}

`params` is a list for `?` or an object for `:name`; `stale`, `rows_max` and `timeout_s` may be given too.
Cells that JSON does not have: format/values.py.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from neumann.errors import BadInput
from neumann.format import values
from neumann.query.statement import QueryResult
from neumann.runtime.node import Node
from neumann.server.http import object_body, parameters, timeout_of


class QueryRoutes:
    """The handler, and the thread that writes its answers: a large one would hold up the event loop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lane = node.env.lane("query-json")

    async def close(self, app: web.Application) -> None:
        """End the thread."""
        self._lane.close()

    def table(self) -> list[web.RouteDef]:
        """For app.add_routes."""
        return [web.post("/query", self.post_query)]

    async def post_query(self, request: web.Request) -> web.Response:
        """Answer one SQL statement over all tables."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "sql", "params", "stale", "rows_max", "timeout_s")
        sql, stale, rows_max = body.get("sql"), body.get("stale", False), body.get("rows_max")
        if not isinstance(sql, str):
            raise BadInput("sql must be text", remedy='{"sql": "SELECT COUNT(*) FROM cities"}')
        if not isinstance(stale, bool):
            raise BadInput("stale must be true or false")
        if rows_max is not None and (not isinstance(rows_max, int) or isinstance(rows_max, bool)):
            raise BadInput("rows_max must be a whole number")
        limit_s = self._node.config.limits.query_timeout_s
        timeout_s = timeout_of(given, body, limit_s)
        result = await self._node.query(
            sql, _params(body.get("params")), stale=stale, rows_max=rows_max, timeout_s=timeout_s
        )
        text: str = await self._lane.run(lambda: _json(result))
        headers = {"X-Neumann-Index": str(result.index)}
        return web.Response(text=text, headers=headers, content_type="application/json")


def _json(result: QueryResult) -> str:
    rows = ", ".join(json.dumps(values.plain(list(row)), ensure_ascii=False) for row in result.rows)
    columns = json.dumps(result.columns, ensure_ascii=False)
    return f'{{"columns": {columns}, "rows": [{rows}], "index": {result.index}}}\n'


def _params(given: Any) -> list[object] | dict[str, object]:
    if given is None:
        return []
    if isinstance(given, list):
        return [values.stored(item) for item in given]
    if isinstance(given, dict):
        return {name: values.stored(item) for name, item in given.items()}
    raise BadInput("params must be a list, or an object of names")
