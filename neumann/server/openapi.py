"""GET /openapi.json: the routes as an OpenAPI 3.1 document, made of their declarations (routes.py).

It is the same for every node and configuration of a release. What no declaration says is left open: an
answer's keys, and which of the errors a route can meet, save those that every route shares.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from neumann import __version__
from neumann.errors import BadInput, NeumannError, TooLarge, Unauthorized, all_error_classes
from neumann.server.http import OPEN_TO_ALL
from neumann.server.routes import Input, Route, Schema

_ABOUT = (
    "Any node takes any request. What answers GET answers HEAD too. A parameter or key that is not named "
    "here is refused. A key that is in a query and in a body is read from the query."
)
_SUCCESS = {200: "done", 202: "begun; it goes on", 206: "the range that was asked for"}
_ERROR_SCHEMA = {"$ref": "#/components/schemas/Error"}


def document(routes: Iterable[Route]) -> bytes:
    """The document as it is sent."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.plain_path, {})[route.method.lower()] = _operation(route)
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "neumann", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": _TOKEN},
            "schemas": {"Error": _error()},
            "responses": dict(_responses()),
        },
    }
    return (json.dumps(whole, indent=1) + "\n").encode()


_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "What is in the node's [security] token_file; without that file nothing is asked for.",
}


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.text,
        "parameters": list(_parameters(route)),
        "responses": dict(_of_route(route)),
    }
    if route.body:
        schema, needed = _body(route)
        found["requestBody"] = {"required": needed, "content": {"application/json": {"schema": schema}}}
    if route.path in OPEN_TO_ALL:
        found["security"] = []
    return found


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name, slashes in route.placeholders:
        parameter = {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
        }
        yield parameter | ({"description": "May hold slashes, encoded or not."} if slashes else {})
    for each in route.query:
        yield {"name": each.name, "in": "query", "required": each.needed, "schema": each.schema()}
    for header in route.headers:
        yield {"name": header.name, "in": "header", "description": header.text, "schema": {"type": "string"}}


def _body(route: Route) -> tuple[Schema, bool]:
    """Its schema, and whether there has to be one."""
    if isinstance(route.body, Input):
        return route.body.schema(), True
    needed = [each.name for each in route.body if each.needed]
    schema: Schema = {
        "type": "object",
        "properties": {each.name: _key(each) for each in route.body},
        "additionalProperties": False,
    }
    return schema | ({"required": needed} if needed else {}), bool(needed)


def _key(of_body: Input) -> Schema:
    schema = of_body.schema()
    return {"anyOf": [schema, {"type": "null"}]} if of_body.takes_null else schema


def _of_route(route: Route) -> Iterator[tuple[str, dict[str, Any]]]:
    content = {route.answers.content_type: {"schema": route.answers.schema}}
    for status in route.statuses:
        yield str(status), {"description": _SUCCESS[status], "content": content}
    shared: list[type[NeumannError]] = [BadInput]
    if route.path not in OPEN_TO_ALL:
        shared.append(Unauthorized)
    if route.body:
        shared.append(TooLarge)
    for status in (error.http_status for error in shared):
        yield str(status), {"$ref": f"#/components/responses/{status}"}
    yield "default", {"$ref": "#/components/responses/default"}


def _responses() -> Iterator[tuple[str, dict[str, Any]]]:
    """One for each status that an error has."""
    content = {"application/json": {"schema": _ERROR_SCHEMA}}
    codes: dict[int, list[str]] = {}
    for code, error in sorted(all_error_classes().items()):
        codes.setdefault(error.http_status, []).append(code)
    for status in sorted(codes):
        yield str(status), {"description": ", ".join(codes[status]), "content": content}
    text = "any of components/responses: which, is not known beforehand"
    yield "default", {"description": text, "content": content}


def _error() -> Schema:
    """As http.error_answer makes it; /health adds a key of its own."""
    return {
        "type": "object",
        "required": ["error", "code", "remedy"],
        "properties": {
            "error": {"type": "string", "description": "what is wrong, where, and whose fault it is"},
            "code": {"type": "string", "enum": sorted(all_error_classes())},
            "remedy": {"type": "string", "description": "what to do about it"},
            "detail": {"type": "object"},
        },
    }
