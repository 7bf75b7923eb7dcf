"""What all HTTP routes share: answers, errors, the token, and counting.

The rules: a failure is never a 2xx. Every error is `{"error", "code", "remedy"}`, with `detail` where
there is one, and the status of its class. 503 means not done (with Retry-After), 504 that the outcome
is unknown. A request whose client goes away is finished all the same. What a route takes: routes.py.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web

from neumann.errors import BadInput, NeumannError, OutcomeUnknown, TooLarge, Unauthorized
from neumann.runtime.metrics import Histogram
from neumann.runtime.node import Node

BODY_BYTES_MAX = 16 * 1024 * 1024
"""One request; a command of the largest size fits in JSON unless nearly all of it needs escapes."""

_RETRY_AFTER_S = 1
OPEN_TO_ALL = frozenset({"/health", "/health/live"})
"""Paths that need no token."""

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
            if (token := token_now()) and request.path not in OPEN_TO_ALL:
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
    return error_answer(BadInput(message, remedy="GET /openapi.json lists the routes"), error.status)


async def within(timeout_s: float, work: Awaitable[T]) -> T:
    """Its result; OutcomeUnknown if it takes longer. `work` is what goes on when nobody waits for it."""
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError:
        raise OutcomeUnknown(
            f"not done within {timeout_s:g} s; it goes on", remedy="see the node's log"
        ) from None
