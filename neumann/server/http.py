"""What all HTTP routes share: answers, errors, the token, input, and counting.

The rules: a failure is never a 2xx. Every error is `{"error", "code", "remedy"}`, with `detail` where
there is one, and the status of its class. 503 means not done (with Retry-After), 504 that the outcome
is unknown. A parameter that a route does not know is refused, not ignored. A request whose client goes
away is finished all the same.
"""

from __future__ import annotations

import asyncio
import difflib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web

from neumann.errors import BadInput, NeumannError, OutcomeUnknown, TooLarge, Unauthorized
from neumann.format import values
from neumann.runtime.metrics import Histogram
from neumann.runtime.node import Node

BODY_BYTES_MAX = 16 * 1024 * 1024
"""One request; a command of the largest size fits in JSON unless nearly all of it needs escapes."""

TIMEOUT_S_MAX = 3600.0
OPERATION_TIMEOUT_S = 30.0
"""Of an administrator's POST that gives none."""
_RETRY_AFTER_S = 1
_OPEN_TO_ALL = frozenset({"/health", "/health/live"})
_log = logging.getLogger("neumann.http")

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpCounters:
    """Requests by (route, status), and how long each route takes."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.seconds: dict[str, Histogram] = {}

    def count(self, route: str, status: int, elapsed_ns: int) -> None:
        """One request has been answered."""
        self.requests[route, status] = self.requests.get((route, status), 0) + 1
        self.seconds.setdefault(route, Histogram()).observe_ns(elapsed_ns)


def answer(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer that ends in a newline, for people with curl."""
    data = (json.dumps(body, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
    return web.Response(body=data, status=status, headers=headers, content_type="application/json")


def error_answer(error: NeumannError, status: int | None = None) -> web.Response:
    """The error as every client gets it."""
    status = status or error.http_status
    body: dict[str, object] = {"error": error.message, "code": error.code, "remedy": error.remedy}
    if error.detail:
        body["detail"] = error.detail
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if status in (429, 503) else {}
    if status == Unauthorized.http_status:
        headers["WWW-Authenticate"] = "Bearer"
    return answer(body, status=status, headers=headers)


def middlewares(node: Node, token_now: Callable[[], str], counters: HttpCounters) -> list[Any]:
    """Outermost first: count, turn errors into answers, check the token (none if it is empty)."""

    @web.middleware
    async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
        started_ns = node.env.clock.monotonic_ns()
        response = await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        counters.count(route, response.status, node.env.clock.monotonic_ns() - started_ns)
        response.headers["X-Neumann-Node"] = node.config.node.id
        return response

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if (token := token_now()) and request.path not in _OPEN_TO_ALL:
                _check_token(request, token)
            return await handler(request)
        except NeumannError as error:
            return error_answer(error)
        except web.HTTPException as error:
            return _framework_answer(request, error)
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.path)
            return error_answer(NeumannError(f"this is a bug in neumann: {error!r:.200}"))

    return [counted, guarded]


def _check_token(request: web.Request, token: str) -> None:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(errors="replace"), token.encode()):
        raise Unauthorized(
            "this request needs the node's token",
            remedy="send Authorization: Bearer ..., or use --token-file",
        )


def _framework_answer(request: web.Request, error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals (no such route, wrong method, body too large) in our form."""
    if error.status == TooLarge.http_status:
        return error_answer(TooLarge(f"request above {BODY_BYTES_MAX} bytes"))
    message = f"{request.method} {request.path}: {error.reason}"
    return error_answer(BadInput(message, remedy="docs/reference.md lists the routes"), error.status)


def parameters(request: web.Request, *known: str) -> dict[str, str]:
    """The query's parameters; BadInput for one that is not `known`, or given twice."""
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
            remedy = f"did you mean {nearest[0]}?" if nearest else "this route takes none"
            raise BadInput(f"unknown parameter {name!r}", remedy=remedy)
        if name in given:
            raise BadInput(f"parameter {name!r} is given twice", remedy="keep one")
        given[name] = value
    return given


def flag(given: dict[str, str], name: str, default: bool = False) -> bool:
    """A parameter that is true or false."""
    value = given.get(name, str(default).lower())
    if value not in ("true", "false"):
        raise BadInput(f"parameter {name}={value!r} must be true or false")
    return value == "true"


def number(given: dict[str, str], name: str, default: int, most: int) -> int:
    """A parameter that is a whole number in 1..most."""
    value = given.get(name, str(default))
    if not (value.isascii() and value.isdecimal() and len(value) < 20 and 1 <= int(value) <= most):
        raise BadInput(f"parameter {name}={value!r:.40} must be a whole number from 1 to {most}")
    return int(value)


def seconds(value: object, name: str, default: float, most: float = TIMEOUT_S_MAX) -> float:
    """A duration in (0, most], from a parameter or a JSON body; None stands for the default."""
    if value is None:
        return default
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        found = float(value)
    except ValueError:
        found = -1.0
    if not 0 < found <= most:
        raise BadInput(f"{name}={value!r:.40} must be a number of seconds above 0 and up to {most:g}")
    return found


def timeout_of(given: dict[str, str], body: dict[str, Any], default: float) -> float:
    """How long a POST may take: `timeout_s`, a parameter or a key of the body."""
    return seconds(given.get("timeout_s", body.get("timeout_s")), "timeout_s", default)


async def within(timeout_s: float, work: Awaitable[T]) -> T:
    """Its result; OutcomeUnknown if it takes longer. `work` is what goes on when nobody waits for it."""
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError:
        raise OutcomeUnknown(
            f"not done within {timeout_s:g} s; it goes on", remedy="see the node's log"
        ) from None


async def json_body(request: web.Request) -> Any:
    """The body as JSON; BadInput if it is none."""
    return values.parse(await request.read())


async def object_body(request: web.Request, *known: str) -> dict[str, Any]:
    """The body as a JSON object with `known` keys only; an empty body is an empty object."""
    data = await request.read()
    body = values.parse(data) if data.strip() else {}
    if not isinstance(body, dict):
        raise BadInput("the body must be a JSON object")
    for key in body:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)
            remedy = f"did you mean {nearest[0]}?" if nearest else "this route takes none"
            raise BadInput(f"unknown key {key!r:.80} in the body", remedy=remedy)
    return body
