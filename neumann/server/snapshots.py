"""/admin/snapshots: what this node has published, and the bytes of it, for who copies without a shell there.

Files are named by their names only: the manifest and the tables of one snapshot, and nothing else is opened.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from aiohttp import web

from neumann.env.doors import Lane, ReadableFile
from neumann.errors import BadInput, NotFound
from neumann.format import names
from neumann.runtime.node import Node
from neumann.server.http import answer, error_answer, parameters
from neumann.snapshot import listing
from neumann.snapshot.publish import Published, list_published

_CHUNK_BYTES = 1024 * 1024
_NOT_SATISFIABLE = 416


class SnapshotRoutes:
    """The handlers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lane: Lane = node.env.lane("snapshots")

    async def close(self, app: web.Application) -> None:
        """End the thread that reads."""
        self._lane.close()

    def table(self) -> list[web.RouteDef]:
        """For app.add_routes."""
        return [
            web.get("/admin/snapshots", self.get_snapshots),
            web.get("/admin/snapshots/{id}", self.get_snapshot),
            web.get("/admin/snapshots/{id}/files/{name}", self.get_file),
        ]

    async def get_snapshots(self, request: web.Request) -> web.Response:
        """What this node has published, newest first."""
        parameters(request)
        return answer({"snapshots": [listing.summary(found) for found in await self._published()]})

    async def get_snapshot(self, request: web.Request) -> web.Response:
        """One of them."""
        parameters(request)
        return answer(listing.detail(await self._one(request.match_info["id"])))

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """The bytes of its manifest or of one of its tables; takes a Range."""
        parameters(request)
        found, name = await self._one(request.match_info["id"]), request.match_info["name"]
        if name != names.MANIFEST and names.parse_table(name) is None:
            raise BadInput(f"{name!r} is no file of a snapshot", remedy="manifest, or a table that it names")
        try:
            opened: Any = await self._lane.run(partial(self._node.env.disk.open, f"{found.path}/{name}"))
        except FileNotFoundError:
            raise NotFound(f"snapshot {found.id} has no file {name}") from None
        try:
            return await self._send(request, opened)
        finally:
            await self._lane.run(opened.close)

    async def _send(self, request: web.Request, file: ReadableFile) -> web.StreamResponse:
        size = await self._lane.run(file.size)
        try:
            first, end, _ = request.http_range.indices(size)
        except ValueError as error:
            raise BadInput(f"Range: {error}", remedy="one range, such as bytes=0-1048575") from error
        is_part = "Range" in request.headers
        if is_part and first >= end:
            return error_answer(BadInput(f"Range: the file has {size} bytes"), status=_NOT_SATISFIABLE)
        response = web.StreamResponse(status=206 if is_part else 200)
        response.content_type = "application/octet-stream"
        response.content_length = end - first
        response.headers["Accept-Ranges"] = "bytes"
        response.headers["X-Neumann-Node"] = self._node.config.node.id
        if is_part:
            response.headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        await response.prepare(request)
        for offset in range(first, end, _CHUNK_BYTES):
            length = min(_CHUNK_BYTES, end - offset)
            await response.write(await self._lane.run(partial(file.pread, length, offset)))
        await response.write_eof()
        return response

    async def _one(self, wanted: str) -> Published:
        for found in await self._published():
            if found.id == wanted:
                return found
        raise NotFound(f"this node has no snapshot {wanted}", remedy="GET /admin/snapshots lists them")

    async def _published(self) -> list[Published]:
        directory = self._node.paths.snapshots
        found: list[Published] = await self._lane.run(lambda: list_published(self._node.env.disk, directory))
        return found
