"""What a route is, said once at its handler: method, path, what it takes and what it answers.

    @route("GET", "/kv/{table}", query=[PREFIX, STALE])
    async def get_rows(self, request: web.Request, given: Given) -> web.Response:
        '''One page of a scan.'''

The server takes requests by these declarations, and openapi.py and scripts/reference print them; so the
rules: a parameter or key that is not declared is refused, as is one given twice or of another type, before
the handler runs; `given` has every declared name, with its default where it is not given. A name that
query and body both have is read from the query first. A success of a kind that is not declared is an error
of the programmer.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from neumann.errors import BadInput
from neumann.format import values

TIMEOUT_S_MAX = 3600.0
OPERATION_TIMEOUT_S = 30.0
"""Of an administrator's POST that gives none."""

Given = dict[str, Any]
Schema = dict[str, object]
_PLACEHOLDER = re.compile(r"\{(\w+)(:[^}]+)?\}")
_Handler = Callable[[Any, web.Request, Given], Awaitable[web.StreamResponse]]


# --- what a route takes --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Input:
    """A parameter of the query, a key of the body, or a whole body: any JSON value."""

    name: str = field(kw_only=False)
    default: Any = None
    """None: the handler finds one."""
    needed: bool = False
    takes_null: bool = False
    """In a body null is then the same as nothing."""
    says: str = "is needed"

    def schema(self) -> Schema:
        """As JSON Schema."""
        return {}

    def of_text(self, text: str) -> object:
        """What a query's text stands for; as it is if that is nothing of this type."""
        return text

    def check(self, value: object) -> Any:
        """The value as the handler gets it; BadInput if it is none of this type."""
        return value

    def refused(self, value: object, says: str = "") -> BadInput:
        """For `check` to raise."""
        return BadInput(f"{self.name} {says or self.says}, not {value!r:.40}")


@dataclass(frozen=True, kw_only=True)
class Flag(Input):
    """True or false."""

    default: bool = False
    says: str = "must be true or false"

    def schema(self) -> Schema:
        return {"type": "boolean", "default": self.default}

    def of_text(self, text: str) -> object:
        return {"true": True, "false": False}.get(text, text)

    def check(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise self.refused(value)
        return value


@dataclass(frozen=True, kw_only=True)
class Whole(Input):
    """A whole number in 1..most; what is above is for the handler to refuse where `most` is None."""

    default: int | None = None
    most: int | None = None

    def schema(self) -> Schema:
        found: Schema = {"type": "integer", "minimum": 1}
        return found | _known(maximum=self.most, default=self.default)

    def of_text(self, text: str) -> object:
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text

    def check(self, value: object) -> int:
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or (self.most and not 1 <= value <= self.most)
        ):
            most = f" to {self.most}" if self.most else ""
            raise self.refused(value, f"must be a whole number from 1{most}")
        return value


@dataclass(frozen=True, kw_only=True)
class Seconds(Input):
    """A duration in (0, most]."""

    default: float | None = None
    takes_null: bool = True
    most: float = TIMEOUT_S_MAX

    def schema(self) -> Schema:
        found: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": self.most}
        return found | _known(default=self.default)

    def check(self, value: object) -> float:
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError
            found = float(value)
        except (ValueError, OverflowError):
            found = -1.0
        if not 0 < found <= self.most:
            raise self.refused(value, f"must be a number of seconds above 0 and up to {self.most:g}")
        return found


@dataclass(frozen=True, kw_only=True)
class Text(Input):
    """Text; not empty if it is needed, or where `filled` says so."""

    default: str = ""
    filled: bool = False
    says: str = "must be text"

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1} if self.needed or self.filled else {"type": "string"}

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            raise self.refused(value)
        if not value and (self.needed or self.filled):
            raise BadInput(f"{self.name} must be text, and not empty")
        return value


@dataclass(frozen=True, kw_only=True)
class Listed(Input):
    """A list; what is in it is for the handler to check, and `items` tells it as JSON Schema."""

    items: Schema
    says: str = "must be a list"

    def schema(self) -> Schema:
        return {"type": "array", "items": self.items}

    def check(self, value: object) -> list[Any]:
        if not isinstance(value, list):
            raise self.refused(value)
        return value


def _known(**facts: object) -> Schema:
    return {name: fact for name, fact in facts.items() if fact is not None}


def timeout(default: float | None = OPERATION_TIMEOUT_S) -> Seconds:
    """How long a request may take."""
    return Seconds("timeout_s", default=default)


class Header(NamedTuple):
    """A header that a route heeds; the handler reads it, since what is wrong in it differs by route."""

    name: str
    text: str


# --- what a route is -----------------------------------------------------------------------------


class Kind(NamedTuple):
    """What is answered: the type of the content, and its JSON Schema."""

    content_type: str
    schema: Schema


OBJECT = Kind("application/json", {"type": "object"})
VALUE = Kind("application/json", {})
PLAIN = Kind("text/plain", {"type": "string"})
BYTES = Kind("application/octet-stream", {})


@dataclass(frozen=True)
class Route:
    """A handler with its declaration. `body` is the keys of an object, or one Input for a whole JSON value;
    `answers` and `statuses` are those of a success."""

    method: str
    path: str
    handler: _Handler
    query: Sequence[Input]
    body: Sequence[Input] | Input
    headers: Sequence[Header]
    answers: Kind
    statuses: Sequence[int]

    @property
    def text(self) -> str:
        """What it does."""
        return " ".join((inspect.getdoc(self.handler) or "").split())

    @property
    def name(self) -> str:
        """Of its handler; no two routes share one."""
        return self.handler.__name__

    @property
    def plain_path(self) -> str:
        """The path without the patterns of its placeholders."""
        return _PLACEHOLDER.sub(r"{\1}", self.path)

    @property
    def placeholders(self) -> list[tuple[str, str]]:
        """Name, and pattern where it is not one part of the path."""
        return _PLACEHOLDER.findall(self.path)

    def bound(self, owner: object) -> web.RouteDef:
        """The route of the application whose handler belongs to `owner`."""
        declared = {(status, self.answers.content_type) for status in self.statuses}

        async def handle(request: web.Request) -> web.StreamResponse:
            response = await self.handler(owner, request, await self.given(request))
            assert response.status >= 400 or (response.status, response.content_type) in declared, (
                f"{self.method} {self.path} does not declare {response.status} {response.content_type}"
            )
            return response

        return web.route(self.method, self.path, handle)

    async def given(self, request: web.Request) -> Given:
        """Everything that is declared, from the query and the body of the request."""
        asked = parameters(request, self.query)
        if isinstance(self.body, Input):
            value = values.parse(await request.read())
            sent, keys = {self.body.name: self.body.check(value)}, [self.body]
        else:
            sent, keys = _object(await request.read(), self.body) if self.body else {}, list(self.body)
        for each in keys:
            if each.needed and each.name not in sent:
                raise BadInput(f"{each.name} {each.says}, and is missing")
        return {each.name: each.default for each in (*keys, *self.query)} | sent | asked


def route(
    method: str,
    path: str,
    *,
    query: Sequence[Input] = (),
    body: Sequence[Input] | Input = (),
    headers: Sequence[Header] = (),
    answers: Kind = OBJECT,
    statuses: Sequence[int] = (200,),
) -> Callable[[_Handler], Route]:
    """Makes a handler a route. That of a GET answers HEAD too."""
    return lambda handler: Route(method, path, handler, query, body, headers, answers, statuses)


def parameters(request: web.Request, known: Sequence[Input]) -> Given:
    """The query's parameters; BadInput for one that is not `known`, or given twice."""
    given: Given = {}
    fields = {each.name: each for each in known}
    for name, text in request.query.items():
        if name not in fields:
            raise BadInput(f"unknown parameter {name!r}", remedy=_nearest(name, fields))
        if name in given:
            raise BadInput(f"parameter {name!r} is given twice", remedy="keep one")
        given[name] = fields[name].check(fields[name].of_text(text))
    return given


def _object(data: bytes, known: Sequence[Input]) -> Given:
    """The body as a JSON object with `known` keys only; an empty body is an empty object."""
    body = values.parse(data) if data.strip() else {}
    if not isinstance(body, dict):
        raise BadInput("the body must be a JSON object")
    fields = {each.name: each for each in known}
    for key in body:
        if key not in fields:
            raise BadInput(f"unknown key {key!r:.80} in the body", remedy=_nearest(key, fields))
    given = {key: value for key, value in body.items() if value is not None or not fields[key].takes_null}
    return {key: fields[key].check(value) for key, value in given.items()}


def _nearest(name: str, known: Mapping[str, Input]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f"did you mean {nearest[0]}?" if nearest else "this route takes none"


def declared(*groups: type) -> Iterator[Route]:
    """The routes of these classes of handlers, in their order."""
    for group in groups:
        yield from (each for each in vars(group).values() if isinstance(each, Route))


def bound(*owners: object) -> list[web.RouteDef]:
    """The same routes of objects, for app.add_routes."""
    return [route.bound(owner) for owner in owners for route in declared(type(owner))]
