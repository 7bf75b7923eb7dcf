"""GET /openapi.json of a real node: what it says is what the server does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web as aiohttp_web
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

import neumann
from neumann.config import Config, SecurityConfig
from neumann.errors import all_error_classes
from neumann.server import admin
from neumann.server.routes import bound
from tests.server.conftest import Reply, Web, serving


class Document:
    """The document, and its operations by (METHOD, path)."""

    def __init__(self, read: dict[str, Any]) -> None:
        self.read = read
        self.operations: dict[tuple[str, str], dict[str, Any]] = {
            (method.upper(), path): operation
            for path, item in read["paths"].items()
            for method, operation in item.items()
        }

    def operation_of(self, method: str, url: str) -> tuple[str, str]:
        """The only one whose path this is."""
        path = url.partition("?")[0]
        plain = [key for key in self.operations if key == (method, path)]
        slashes = {"key": ".+"}
        found = plain or [
            key
            for key in self.operations
            if key[0] == method
            and re.fullmatch(re.sub(r"\{(\w+)\}", lambda m: slashes.get(m[1], "[^/]+"), key[1]), path)
        ]
        [only] = found
        return only

    def check(self, schema: dict[str, Any], value: object) -> None:
        """Raises if the value is not what the schema says."""
        whole = {"$ref": "#/wanted", "wanted": schema, "components": self.read["components"]}
        Draft202012Validator(whole).validate(value)

    def check_reply(self, operation: dict[str, Any], reply: Reply) -> None:
        """The status is one that is said, and so are type and schema of what came."""
        responses, shared = operation["responses"], self.read["components"]["responses"]
        status = str(reply.status)
        said = responses.get(status) or shared[status]
        if "$ref" in said:
            said = shared[said["$ref"].rpartition("/")[2]]
        content_type = reply.headers["content-type"].partition(";")[0]
        self.check(said["content"][content_type]["schema"], reply.body)


async def document_of(web: Web) -> Document:
    reply = await web.ask("GET", "/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    return Document(reply.body)


async def test_it_is_openapi(web: Web) -> None:
    document = await document_of(web)
    validate(document.read, cls=OpenAPIV31SpecValidator)
    assert document.read["info"]["version"] == neumann.__version__
    assert document.read["servers"] == [{"url": "/"}]
    assert all(operation["summary"] for operation in document.operations.values())
    broken = document.read | {"paths": {"/kv/{table}": {"get": {"operationId": "x", "responses": {}}}}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def differences(web: Web, document: Document) -> set[tuple[str, str]]:
    """What is served and not documented, or the other way round. HEAD is where GET is."""
    assert web.server is not None
    resources = [
        (route.method, route.resource.canonical)
        for route in web.server.routes()
        if route.resource is not None
    ]
    assert {path for method, path in resources if method == "HEAD"} == {
        path for method, path in resources if method == "GET"
    }
    return {found for found in resources if found[0] != "HEAD"} ^ set(document.operations)


async def test_every_route_is_in_it_and_nothing_else(web: Web) -> None:
    document = await document_of(web)
    assert differences(web, document) == set()
    assert len(document.operations) > 30


async def test_a_planted_route_is_seen(node_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    async def planted(request: aiohttp_web.Request) -> aiohttp_web.Response:
        return aiohttp_web.Response()

    monkeypatch.setattr(admin, "bound", lambda *o: [*bound(*o), aiohttp_web.get("/planted", planted)])
    async with serving(node_config) as web:
        assert differences(web, await document_of(web)) == {("GET", "/planted")}


def filled(path: str) -> str:
    """A path with something for each of its placeholders."""
    return re.sub(r"\{\w+\}", "x", path)


WRONG: dict[str, str] = {"boolean": "maybe", "integer": "0", "number": "0"}


async def test_parameters_are_those_that_it_names(web: Web) -> None:
    """Those of other routes too are refused by a route that does not name them, before anything is done."""
    document = await document_of(web)
    queries = {
        key: {each["name"]: each["schema"] for each in operation["parameters"] if each["in"] == "query"}
        for key, operation in document.operations.items()
    }
    everywhere = {name for known in queries.values() for name in known}
    assert everywhere >= {"stale", "timeout_s", "wait", "limit", "cursor"}
    for (method, path), known in queries.items():
        for name in sorted(everywhere | {"unheard_of"}):
            value = WRONG.get(known.get(name, {}).get("type"), "text")
            reply = await web.ask(method, f"{filled(path)}?{name}={value}")
            if name not in known:
                assert reply.status == 400 and f"unknown parameter '{name}'" in reply.body["error"], path
            elif known[name]["type"] == "string":
                assert reply.status == 200, (path, name)
            else:
                assert reply.status == 400 and reply.body["error"].startswith(f"{name} must be"), path


async def test_keys_of_bodies_are_those_that_it_names(web: Web) -> None:
    document = await document_of(web)
    bodies = {
        key: operation["requestBody"]["content"]["application/json"]["schema"].get("properties", {})
        for key, operation in document.operations.items()
        if "requestBody" in operation
    }
    assert [key for key in document.operations if key[0] == "POST" and not bodies.get(key)] == []
    everywhere = {name for known in bodies.values() for name in known}
    for (method, path), known in bodies.items():
        if not known:  # any JSON value
            assert (method, path) == ("PUT", "/kv/{table}/{key}")
            continue
        for name in sorted(everywhere):
            reply = await web.ask(method, filled(path), {name: {"of": "no type"} if name != "params" else 1})
            assert reply.status == 400, (path, name)
            said = f"{name} must be" if name in known else f"unknown key '{name}'"
            assert reply.body["error"].startswith(said), (path, name)


# One for each operation, in this order, as curl would send it: method, URL, body, status. {id} is the
# snapshot's.
EXAMPLES: tuple[tuple[str, str, Any, int], ...] = (
    ("PUT", "/kv/cities/" + quote("de/berlin"), {"population": 3_426_354}, 200),
    ("PUT", "/kv/cities/ulm?timeout_s=5", None, 400),
    ("GET", "/kv/cities/de/berlin?stale=false", None, 200),
    ("GET", "/kv/cities/absent", None, 404),
    ("GET", "/kv", None, 200),
    ("GET", "/kv/cities?prefix=de/&limit=10&reverse=true", None, 200),
    (
        "POST",
        "/kv",
        {
            "ops": [
                {"put": {"table": "t", "key": "k", "value": None, "if_absent": True}},
                {"check": {"table": "cities", "key": "de/berlin", "if_value": {"population": 3_426_354}}},
                {"delete": {"table": "t", "key": "absent"}},
            ]
        },
        200,
    ),
    ("DELETE", "/kv/t/k", None, 200),
    ("POST", "/query", {"sql": "SELECT key FROM cities", "rows_max": None, "params": []}, 200),
    ("GET", "/health", None, 200),
    ("GET", "/health/live", None, 200),
    ("GET", "/metrics", None, 200),
    ("GET", "/openapi.json", None, 200),
    ("GET", "/admin/cluster", None, 200),
    ("GET", "/admin/status", None, 200),
    ("GET", "/admin/stats", None, 200),
    ("GET", "/admin/archive", None, 200),
    ("GET", "/admin/verify", None, 200),
    ("POST", "/admin/verify", {}, 202),
    ("POST", "/admin/snapshot", {"timeout_s": 30}, 200),
    ("POST", "/admin/snapshot?wait=false", {}, 202),
    ("GET", "/admin/snapshots", None, 200),
    ("GET", "/admin/snapshots/{id}", None, 200),
    ("GET", "/admin/snapshots/{id}/files/manifest", None, 200),
    ("POST", "/admin/writes/pause", {"max_s": 60, "reason": "an example"}, 200),
    ("PUT", "/kv/cities/ulm", 1, 503),
    ("POST", "/admin/writes/resume", None, 200),
    ("POST", "/admin/restore-points?wait=false", {"name": "here"}, 200),
    ("GET", "/admin/restore-points", None, 200),
    ("POST", "/admin/archive/flush", None, 409),
    ("POST", "/admin/archive/check?begin=false", None, 409),
    ("POST", "/admin/archive/stop", {"reason": "an example"}, 409),
    ("POST", "/admin/reload", None, 409),
    ("POST", "/admin/leader/transfer", {"to": "n1"}, 200),
    ("GET", "/admin/members", None, 200),
    ("POST", "/admin/members", {"id": "n9", "address": "127.0.0.1:9", "learner": True}, 200),
    ("POST", "/admin/members/n9/promote", None, 409),
    ("DELETE", "/admin/members/n9", {}, 200),
    ("POST", "/admin/rejoin", {"data_dir": "/another"}, 400),
)


async def test_an_example_of_each(web: Web) -> None:
    """What is sent and what comes are as the document says."""
    document = await document_of(web)
    seen, snapshot = set(), ""
    for method, url, body, status in EXAMPLES:
        key = document.operation_of(method, url)
        seen.add(key)
        operation = document.operations[key]
        if body is not None:
            sent = operation["requestBody"]["content"]["application/json"]["schema"]
            document.check(sent, body)
        reply = await web.ask(method, url.replace("{id}", snapshot), body)
        assert reply.status == status, (method, url, reply.body)
        document.check_reply(operation, reply)
        if (method, url) == ("POST", "/admin/snapshot"):
            snapshot = reply.body["id"]
    assert seen == set(document.operations)


async def test_the_headers_that_it_names_are_heeded(web: Web) -> None:
    document = await document_of(web)
    named = {
        (key, each["name"])
        for key, operation in document.operations.items()
        for each in operation["parameters"]
        if each["in"] == "header"
    }
    row, file = "/kv/{table}/{key}", "/admin/snapshots/{id}/files/{name}"
    conditions = ("If-Match", "If-None-Match")
    assert named == {((method, row), name) for method in ("PUT", "DELETE") for name in conditions} | {
        (("GET", file), "Range")
    }
    await web.ask("PUT", "/kv/t/k", 1)
    for method, header in (("PUT", {"If-None-Match": "*"}), ("DELETE", {"If-Match": '"999"'})):
        refused = await web.ask(method, "/kv/t/k", 2 if method == "PUT" else None, headers=header)
        assert refused.status == 412
        document.check_reply(document.operations[method, row], refused)
    made = (await web.ask("POST", "/admin/snapshot")).body["id"]
    path = f"/admin/snapshots/{made}/files/manifest"
    part = await web.ask("GET", path, headers={"Range": "bytes=0-3"})
    assert part.status == 206
    document.check_reply(document.operations["GET", file], part)


async def test_errors_are_those_of_the_product(web: Web) -> None:
    document = await document_of(web)
    components = document.read["components"]
    classes = all_error_classes()
    assert components["schemas"]["Error"]["properties"]["code"]["enum"] == sorted(classes)
    told = {
        (int(status), code)
        for status, response in components["responses"].items()
        if status != "default"
        for code in response["description"].split(", ")
    }
    assert told == {(error.http_status, code) for code, error in classes.items()}


async def test_the_token_is_asked_for_where_it_says_so(node_config: Config, tmp_path: Path) -> None:
    """As of its neighbours, the document itself too."""
    config = replace(node_config, security=SecurityConfig(token_file=str(tmp_path / "token")))
    async with serving(config) as web:
        assert (await web.ask("GET", "/openapi.json")).status == 401
        right = {"Authorization": "Bearer s3cret"}
        document = Document((await web.ask("GET", "/openapi.json", headers=right)).body)
        assert document.read["security"] == [{"token": []}, {}]
        assert document.read["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
        for (method, path), operation in document.operations.items():
            reply = await web.ask(method, filled(path))
            is_open = operation.get("security") == []
            assert (reply.status == 401) == ("401" in operation["responses"]) == (not is_open), path
