"""/admin/snapshots: what this node has published, and the bytes of it, for who copies without a shell there.

Files are named by their names only: the manifest and the tables that it names, and nothing else is opened.
A file's length is said before its bytes: where they can't follow, the connection ends, so that nobody takes a
part for the whole.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from aiohttp import web

from neumann.env.doors import Lane, ReadableFile
from neumann.errors import BadInput, Corrupt, NotFound, StorageFailed
from neumann.format import names
from neumann.runtime.node import Node
from neumann.server.http import answer, error_answer
from neumann.server.routes import BYTES, Given, Header, route
from neumann.snapshot import listing
from neumann.snapshot.publish import Published, list_published

_CHUNK_BYTES = 1024 * 1024
_NOT_SATISFIABLE = 416
_ONE_RANGE = re.compile(r"bytes=(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))", re.ASCII | re.IGNORECASE)
_RANGE = Header("Range", "one range of bytes: bytes=0-1023")
_REMEDY = "check this node's disk; neumann-admin verify-checksums tells what can't be read there"
T = TypeVar("T")
_log = logging.getLogger(__name__)


class SnapshotRoutes:
    """The handlers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lane: Lane = node.env.lane("snapshots")

    async def close(self, app: web.Application) -> None:
        """End the thread that reads."""
        self._lane.close()

    @route("GET", "/admin/snapshots")
    async def get_snapshots(self, request: web.Request, given: Given) -> web.Response:
        """What this node has published, newest first."""
        return answer({"snapshots": [listing.summary(found) for found in await self._published()]})

    @route("GET", "/admin/snapshots/{id}")
    async def get_snapshot(self, request: web.Request, given: Given) -> web.Response:
        """One of them."""
        return answer(listing.detail(await self._one(request.match_info["id"])))

    @route("GET", "/admin/snapshots/{id}/files/{name}", headers=[_RANGE], answers=BYTES, statuses=[200, 206])
    async def get_file(self, request: web.Request, given: Given) -> web.StreamResponse:
        """The bytes of its manifest or of one of its tables; takes a Range."""
        found, name = await self._one(request.match_info["id"]), request.match_info["name"]
        if name != names.MANIFEST and names.parse_table(name) is None:
            raise BadInput(f"{name!r} is no file of a snapshot", remedy="manifest, or a table that it names")
        missing = NotFound(f"snapshot {found.id} has no file {name}")
        if name not in _files_of(found):
            raise missing
        path = f"{found.path}/{name}"
        try:
            opened = await self._on_disk(path, partial(self._node.env.disk.open, path))
        except FileNotFoundError:
            raise missing from None
        try:
            return await self._send(request, opened, await self._on_disk(path, opened.size))
        finally:
            await self._lane.run(opened.close)

    async def _send(self, request: web.Request, file: ReadableFile, size: int) -> web.StreamResponse:
        asked = _asked_range(request, size)
        headers = {"Accept-Ranges": "bytes", "X-Neumann-Node": self._node.config.node.id}
        if asked is not None and not asked:
            refused = error_answer(BadInput(f"Range: the file has {size} bytes"), status=_NOT_SATISFIABLE)
            refused.headers["Content-Range"] = f"bytes */{size}"
            return refused
        if asked is not None:
            headers["Content-Range"] = f"bytes {asked.start}-{asked.stop - 1}/{size}"
        response = web.StreamResponse(status=200 if asked is None else 206, headers=headers)
        response.content_type = "application/octet-stream"
        wanted = range(size) if asked is None else asked
        response.content_length = len(wanted)
        await response.prepare(request)
        if request.method != "HEAD":
            await self._send_body(request, response, file, wanted)
        return response

    async def _send_body(
        self, request: web.Request, response: web.StreamResponse, file: ReadableFile, wanted: range
    ) -> None:
        """Raises nothing: an error's own answer would be taken for bytes of the file."""
        sent = 0
        try:
            for offset in range(wanted.start, wanted.stop, _CHUNK_BYTES):
                length = min(_CHUNK_BYTES, wanted.stop - offset)
                data: bytes = await self._lane.run(partial(file.pread, length, offset))
                if len(data) < length:
                    raise Corrupt(f"the file ends at {offset + len(data)}, before {wanted.stop}")
                await response.write(data)
                sent += length
            await response.write_eof()
            return
        except ConnectionError:
            _log.info("GET %s: the client went away", request.path)
        except Exception as error:
            _log.error("GET %s: cut off behind %d of %d bytes: %s", request.path, sent, len(wanted), error)
        if request.transport is not None:
            request.transport.close()

    async def _one(self, wanted: str) -> Published:
        for found in await self._published():
            if found.id == wanted:
                return found
        raise NotFound(f"this node has no snapshot {wanted}", remedy="GET /admin/snapshots lists them")

    async def _published(self) -> list[Published]:
        directory = self._node.paths.snapshots
        return await self._on_disk(directory, partial(list_published, self._node.env.disk, directory))

    async def _on_disk(self, path: str, work: Callable[[], T]) -> T:
        """`work` in the lane; StorageFailed, naming `path`, where the disk fails at it. What is not there is
        for the caller to tell."""
        try:
            done: T = await self._lane.run(work)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageFailed(f"{path} can't be read: {error.strerror or error}", remedy=_REMEDY) from error
        return done


def _files_of(found: Published) -> set[str]:
    """Its manifest, also a damaged one, and what that names."""
    tables = found.manifest.tables if found.manifest is not None else ()
    return {names.MANIFEST, *(names.table_name(ref.digest) for ref in tables)}


def _asked_range(request: web.Request, size: int) -> range | None:
    """The offsets that are asked for, none if the file ends before them; None for the whole file. What is
    not one range of bytes is ignored (RFC 9110, section 14.2)."""
    asked = _ONE_RANGE.fullmatch(request.headers.get("Range", "")) if request.method == "GET" else None
    if asked is None:
        return None
    first, last, suffix = asked.groups()
    if suffix:
        return range(max(0, size - int(suffix)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)
