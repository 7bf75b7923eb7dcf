"""The HTTP server of a node: /admin and /health here, /kv and /query beside it (interface.md, 2).

Any node takes any request: what only a leader can do, the node forwards. `serve` begins to listen and
`AdminServer.close` ends it; the node itself is neither started nor stopped here.
"""

from __future__ import annotations

import errno
from typing import Any

from aiohttp import web

from neumann.config import Config, split_address
from neumann.errors import ConfigError, InUse, OutcomeUnknown, Unavailable
from neumann.runtime.node import Node
from neumann.server import http, openapi
from neumann.server.http import answer, within
from neumann.server.kv import KvRoutes
from neumann.server.members import MemberRoutes
from neumann.server.metrics import metrics_text
from neumann.server.query import QueryRoutes
from neumann.server.reload import Reload
from neumann.server.routes import PLAIN, Flag, Given, Seconds, Text, bound, declared, route, timeout
from neumann.server.snapshots import SnapshotRoutes

_BEGIN_S = 0.05  # long enough to propose a snapshot; it goes on by itself
_TIMEOUT, _LONGER = timeout(), timeout(60.0)
_WAIT = Flag("wait", default=True)
_PAUSE = Seconds("max_s", default=600.0, most=7 * 86_400.0)


class AdminRoutes:
    """The handlers of /admin, /health, /metrics and /openapi.json."""

    def __init__(self, node: Node, counters: http.HttpCounters, reload: Reload) -> None:
        self._node = node
        self._reload = reload
        self._counters = counters
        self._document = openapi.document(declared(*GROUPS))

    async def close(self, app: web.Application) -> None:
        """End the thread that reads the configuration."""
        await self._reload.close()

    @route("GET", "/health")
    async def get_health(self, request: web.Request, given: Given) -> web.Response:
        """200 if this node serves requests, 503 with the reason and the remedy if not."""
        serves, reason, remedy = self._node.serving()
        if serves:
            return answer({"serving": True})
        body = {"serving": False, "error": reason, "code": "unavailable", "remedy": remedy}
        return answer(body, status=503, headers={"Retry-After": "1"})

    @route("GET", "/health/live")
    async def get_live(self, request: web.Request, given: Given) -> web.Response:
        """200: the process lives and its event loop turns."""
        return answer({"live": True})

    @route("GET", "/metrics", answers=PLAIN)
    async def get_metrics(self, request: web.Request, given: Given) -> web.Response:
        """Prometheus text."""
        text = metrics_text(self._node.gauges(), self._counters)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    @route("GET", "/openapi.json")
    async def get_openapi(self, request: web.Request, given: Given) -> web.Response:
        """This list as an OpenAPI document."""
        return web.Response(body=self._document, content_type="application/json")

    @route("GET", "/admin/cluster")
    async def get_cluster(self, request: web.Request, given: Given) -> web.Response:
        """cluster-info."""
        return answer(await self._node.cluster_info())

    @route("GET", "/admin/status")
    async def get_status(self, request: web.Request, given: Given) -> web.Response:
        """cluster-status."""
        return answer(await self._node.status())

    @route("GET", "/admin/stats")
    async def get_stats(self, request: web.Request, given: Given) -> web.Response:
        """stats: exact, so it costs a scan of the keys."""
        return answer(await self._node.stats())

    @route("GET", "/admin/archive")
    async def get_archive(self, request: web.Request, given: Given) -> web.Response:
        """Lag, last error and last file of the archive."""
        return answer(await self._part_of_status("archive"))

    async def _part_of_status(self, part: str) -> Any:
        """Unavailable on a node that is no member yet: it knows no more than why."""
        status = await self._node.status()
        if part not in status:
            raise Unavailable(
                f"this node does not serve: {status['reason']}", remedy=status.get("remedy", "")
            )
        return status[part]

    @route("GET", "/admin/verify")
    async def get_verify(self, request: web.Request, given: Given) -> web.Response:
        """How far this node's scrub is, and what it found."""
        return answer(self._node.scrub())

    @route("POST", "/admin/verify", query=[_TIMEOUT], body=[_TIMEOUT], statuses=[202])
    async def post_verify(self, request: web.Request, given: Given) -> web.Response:
        """Begin a scrub of this node (202), unless one is under way (`begun`); GET tells how it goes."""
        return answer(self._node.scrub(begin=True), status=202)

    @route("POST", "/admin/snapshot", query=[_WAIT, _LONGER], body=[_LONGER], statuses=[200, 202])
    async def post_snapshot(self, request: web.Request, given: Given) -> web.Response:
        """Make and publish a snapshot; with ?wait=false only begin it (202)."""
        if given["wait"]:
            return answer(await self._node.snapshot(given["timeout_s"]))
        try:
            return answer(await self._node.snapshot(_BEGIN_S), status=202)
        except OutcomeUnknown as begun:
            if "id" not in begun.detail:
                raise
            return answer({"id": begun.detail["id"], "see": "/admin/snapshots"}, status=202)

    @route("POST", "/admin/writes/pause", query=[_TIMEOUT], body=[_PAUSE, Text("reason"), _TIMEOUT])
    async def post_pause(self, request: web.Request, given: Given) -> web.Response:
        """Pause writes on the whole cluster for at most `max_s`."""
        paused = await self._node.pause_writes(given["max_s"], given["reason"], given["timeout_s"])
        return answer(paused)

    @route("POST", "/admin/writes/resume", query=[_TIMEOUT], body=[_TIMEOUT])
    async def post_resume(self, request: web.Request, given: Given) -> web.Response:
        """End the pause; 409 if it had ended before."""
        return answer(await self._node.resume_writes(given["timeout_s"]))

    @route("GET", "/admin/restore-points")
    async def get_restore_points(self, request: web.Request, given: Given) -> web.Response:
        """The named moments that this node's log holds still; wal-list has those of the archive."""
        return answer(await self._node.restore_points())

    @route("POST", "/admin/restore-points", query=[_WAIT, _LONGER], body=[Text("name", needed=True), _LONGER])
    async def post_restore_point(self, request: web.Request, given: Given) -> web.Response:
        """Name this moment, and wait until it is archived; with ?wait=false only name it."""
        name, timeout_s = given["name"], given["timeout_s"]
        return answer(await self._node.restore_point(name, timeout_s, wait=given["wait"]))

    @route("POST", "/admin/archive/flush", query=[_LONGER], body=[_LONGER])
    async def post_flush(self, request: web.Request, given: Given) -> web.Response:
        """Seal, and wait until everything up to now is archived."""
        return answer(await self._node.archive_flush(given["timeout_s"]))

    @route("POST", "/admin/archive/check", query=[Flag("begin"), _LONGER], body=[_LONGER])
    async def post_archive_check(self, request: web.Request, given: Given) -> web.Response:
        """Name a restore point, and wait until it is archived; ?begin=true where archiving is held."""
        return answer(await self._node.archive_check(given["timeout_s"], begin=given["begin"]))

    @route("POST", "/admin/archive/stop", query=[_TIMEOUT], body=[Text("reason"), _TIMEOUT])
    async def post_archive_stop(self, request: web.Request, given: Given) -> web.Response:
        """End archiving, for a reason that stands in the log."""
        return answer(await self._node.archive_stop(given["reason"], given["timeout_s"]))

    @route("POST", "/admin/reload", query=[_TIMEOUT], body=[_TIMEOUT])
    async def post_reload(self, request: web.Request, given: Given) -> web.Response:
        """Read the configuration again: what is changed now, and what needs a restart."""
        return answer(await within(given["timeout_s"], self._reload.run()))


GROUPS = (KvRoutes, QueryRoutes, AdminRoutes, SnapshotRoutes, MemberRoutes)
"""Of handlers: everything that is served."""


class AdminServer:
    """A listening server."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner

    def routes(self) -> list[web.AbstractRoute]:
        """Everything that is served."""
        return list(self._runner.app.router.routes())

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
    query, snapshots = QueryRoutes(node), SnapshotRoutes(node)
    admin = AdminRoutes(node, counters, reload)
    owners = (KvRoutes(node), query, admin, snapshots, MemberRoutes(node))
    assert tuple(map(type, owners)) == GROUPS, "what is served is what is documented"
    app.add_routes(bound(*owners))
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
