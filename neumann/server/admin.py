"""The HTTP server of a node: /admin and /health here, /kv, /query and /metrics beside it (interface.md, 2).

Any node takes any request: what only a leader can do, the node forwards. `serve` begins to listen and
`AdminServer.close` ends it; the node itself is neither started nor stopped here.
"""

from __future__ import annotations

import errno
from typing import Any

from aiohttp import web

from neumann.config import Config, split_address
from neumann.errors import BadInput, ConfigError, InUse, OutcomeUnknown, Unavailable
from neumann.runtime.node import Node
from neumann.server import http
from neumann.server.http import (
    OPERATION_TIMEOUT_S,
    answer,
    flag,
    object_body,
    parameters,
    seconds,
    timeout_of,
    within,
)
from neumann.server.kv import KvRoutes
from neumann.server.members import MemberRoutes
from neumann.server.metrics import metrics_text
from neumann.server.query import QueryRoutes
from neumann.server.reload import Reload
from neumann.server.snapshots import SnapshotRoutes

_SNAPSHOT_TIMEOUT_S = 60.0
_BEGIN_S = 0.05  # long enough to propose a snapshot; it goes on by itself
_FLUSH_TIMEOUT_S = 60.0
_PAUSE_S, _PAUSE_S_MAX = 600.0, 7 * 86_400.0


class AdminRoutes:
    """The handlers of /admin, /health and /metrics."""

    def __init__(self, node: Node, counters: http.HttpCounters, reload: Reload) -> None:
        self._node = node
        self._reload = reload
        self._counters = counters

    async def close(self, app: web.Application) -> None:
        """End the thread that reads the configuration."""
        await self._reload.close()

    def table(self) -> list[web.RouteDef]:
        """For app.add_routes."""
        return [
            web.get("/health", self.get_health),
            web.get("/health/live", self.get_live),
            web.get("/metrics", self.get_metrics),
            web.get("/admin/cluster", self.get_cluster),
            web.get("/admin/status", self.get_status),
            web.get("/admin/stats", self.get_stats),
            web.get("/admin/archive", self.get_archive),
            web.get("/admin/verify", self.get_verify),
            web.post("/admin/verify", self.post_verify),
            web.post("/admin/snapshot", self.post_snapshot),
            web.post("/admin/writes/pause", self.post_pause),
            web.post("/admin/writes/resume", self.post_resume),
            web.get("/admin/restore-points", self.get_restore_points),
            web.post("/admin/restore-points", self.post_restore_point),
            web.post("/admin/archive/flush", self.post_flush),
            web.post("/admin/archive/check", self.post_archive_check),
            web.post("/admin/archive/stop", self.post_archive_stop),
            web.post("/admin/reload", self.post_reload),
        ]

    async def get_health(self, request: web.Request) -> web.Response:
        """200 if this node serves requests, 503 with the reason and the remedy if not."""
        parameters(request)
        serves, reason, remedy = self._node.serving()
        if serves:
            return answer({"serving": True})
        body = {"serving": False, "error": reason, "code": "unavailable", "remedy": remedy}
        return answer(body, status=503, headers={"Retry-After": "1"})

    async def get_live(self, request: web.Request) -> web.Response:
        """200: the process lives and its event loop turns."""
        return answer({"live": True})

    async def get_metrics(self, request: web.Request) -> web.Response:
        """Prometheus text."""
        text = metrics_text(self._node.gauges(), self._counters)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def get_cluster(self, request: web.Request) -> web.Response:
        """cluster-info."""
        parameters(request)
        return answer(await self._node.cluster_info())

    async def get_status(self, request: web.Request) -> web.Response:
        """cluster-status."""
        parameters(request)
        return answer(await self._node.status())

    async def get_stats(self, request: web.Request) -> web.Response:
        """stats: exact, so it costs a scan of the keys."""
        parameters(request)
        return answer(await self._node.stats())

    async def get_archive(self, request: web.Request) -> web.Response:
        """Lag, last error and last file of the archive."""
        parameters(request)
        return answer(await self._part_of_status("archive"))

    async def _part_of_status(self, part: str) -> Any:
        """Unavailable on a node that is no member yet: it knows no more than why."""
        status = await self._node.status()
        if part not in status:
            raise Unavailable(
                f"this node does not serve: {status['reason']}", remedy=status.get("remedy", "")
            )
        return status[part]

    async def get_verify(self, request: web.Request) -> web.Response:
        """How far this node's scrub is, and what it found."""
        parameters(request)
        return answer(self._node.scrub())

    async def post_verify(self, request: web.Request) -> web.Response:
        """Begin a scrub of this node (202), unless one is under way (`begun`); GET tells how it goes."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "timeout_s")
        timeout_of(given, body, OPERATION_TIMEOUT_S)
        return answer(self._node.scrub(begin=True), status=202)

    async def post_snapshot(self, request: web.Request) -> web.Response:
        """Make and publish a snapshot; with ?wait=false only begin it (202)."""
        given = parameters(request, "wait", "timeout_s")
        body = await object_body(request, "timeout_s")
        timeout_s = timeout_of(given, body, _SNAPSHOT_TIMEOUT_S)
        if flag(given, "wait", True):
            return answer(await self._node.snapshot(timeout_s))
        try:
            return answer(await self._node.snapshot(_BEGIN_S), status=202)
        except OutcomeUnknown as begun:
            if "id" not in begun.detail:
                raise
            return answer({"id": begun.detail["id"], "see": "/admin/snapshots"}, status=202)

    async def post_pause(self, request: web.Request) -> web.Response:
        """Pause writes on the whole cluster for at most `max_s`."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "max_s", "reason", "timeout_s")
        max_s = seconds(body.get("max_s"), "max_s", _PAUSE_S, _PAUSE_S_MAX)
        timeout_s, reason = timeout_of(given, body, OPERATION_TIMEOUT_S), _text(body, "reason")
        return answer(await self._node.pause_writes(max_s, reason, timeout_s))

    async def post_resume(self, request: web.Request) -> web.Response:
        """End the pause; 409 if it had ended before."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "timeout_s")
        return answer(await self._node.resume_writes(timeout_of(given, body, OPERATION_TIMEOUT_S)))

    async def get_restore_points(self, request: web.Request) -> web.Response:
        """The named moments that this node's log holds still; wal-list has those of the archive."""
        parameters(request)
        return answer(await self._node.restore_points())

    async def post_restore_point(self, request: web.Request) -> web.Response:
        """Name this moment, and wait until it is archived; with ?wait=false only name it."""
        given = parameters(request, "wait", "timeout_s")
        body = await object_body(request, "name", "timeout_s")
        timeout_s, wait = timeout_of(given, body, _FLUSH_TIMEOUT_S), flag(given, "wait", True)
        return answer(await self._node.restore_point(_text(body, "name"), timeout_s, wait=wait))

    async def post_flush(self, request: web.Request) -> web.Response:
        """Seal, and wait until everything up to now is archived."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "timeout_s")
        return answer(await self._node.archive_flush(timeout_of(given, body, _FLUSH_TIMEOUT_S)))

    async def post_archive_check(self, request: web.Request) -> web.Response:
        """Name a restore point, and wait until it is archived; ?begin=true where archiving is held."""
        given = parameters(request, "begin", "timeout_s")
        body = await object_body(request, "timeout_s")
        timeout_s, begin = timeout_of(given, body, _FLUSH_TIMEOUT_S), flag(given, "begin")
        return answer(await self._node.archive_check(timeout_s, begin=begin))

    async def post_archive_stop(self, request: web.Request) -> web.Response:
        """End archiving, for a reason that stands in the log."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "reason", "timeout_s")
        timeout_s = timeout_of(given, body, OPERATION_TIMEOUT_S)
        return answer(await self._node.archive_stop(_text(body, "reason"), timeout_s))

    async def post_reload(self, request: web.Request) -> web.Response:
        """Read the configuration again: what is changed now, and what needs a restart."""
        given = parameters(request, "timeout_s")
        body = await object_body(request, "timeout_s")
        return answer(await within(timeout_of(given, body, OPERATION_TIMEOUT_S), self._reload.run()))


class AdminServer:
    """A listening server."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner

    async def close(self) -> None:
        """Stop listening; requests in progress get a moment to end."""
        await self._runner.cleanup()


async def serve(node: Node, config: Config, reload: Reload | None = None) -> AdminServer:
    """Listen on `node.admin_listen`. InUse if the port is taken, ConfigError for a bad token file."""
    counters = http.HttpCounters()
    reload = reload or Reload(node, config)
    app = web.Application(
        middlewares=http.middlewares(node, lambda: reload.token, counters),
        client_max_size=http.BODY_BYTES_MAX,
    )
    app.add_routes(KvRoutes(node).table())
    query = QueryRoutes(node)
    app.add_routes(query.table())
    admin = AdminRoutes(node, counters, reload)
    app.add_routes(admin.table())
    app.add_routes(MemberRoutes(node).table())
    snapshots = SnapshotRoutes(node)
    app.add_routes(snapshots.table())
    app.on_cleanup.extend([query.close, admin.close, snapshots.close])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    host, port = split_address(config.node.admin_listen)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        if error.errno == errno.EADDRINUSE:
            raise InUse(
                f"{config.node.admin_listen} is in use by another process",
                remedy="stop it, or choose another node.admin_listen",
            ) from error
        raise ConfigError(f"can't listen on {config.node.admin_listen}: {error.strerror}") from error
    return AdminServer(runner)


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise BadInput(f"{key} must be text")
    return value
