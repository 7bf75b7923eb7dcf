"""Fetches one file from a peer: in chunks, under a temporary name, verified before it gets its own.

Files that are fetched never change (tables by their digest, sealed segments by their name), so what came
before a connection broke, or before a restart, is not fetched again. It is written again: nobody knows
whether its fsync failed, or was yet to come. What fails its check is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, NamedTuple

from neumann.env.doors import Disk, Lane, Net
from neumann.env.files import write_again
from neumann.errors import Corrupt, OutcomeUnknown, Unavailable
from neumann.format import names

CHUNK_BYTES = 1024 * 1024
_CHUNKS_AT_ONCE = 4
_CALL_TIMEOUT_S = 10.0
_TRIES = 3
_RETRY_S = 0.5


class Part(NamedTuple):
    """One file to fetch by `method`(*params, offset, length). `bytes`: None where its size is not known.

    `verify`(path) raises Corrupt if it is not what was asked for.
    """

    method: str
    params: list[object]
    bytes: int | None
    path: str
    verify: Callable[[str], None]


async def fetch_part(net: Net, address: str, disk: Disk, lane: Lane, part: Part) -> AsyncIterator[int]:
    """Fetch it; yields the sizes that came. Unavailable or OutcomeUnknown: what came is kept. Corrupt: what
    the peer sends is not what was asked for."""
    building = part.path + names.TEMPORARY
    offset = await lane.run(partial(_begin, disk, building, part.bytes))
    step = CHUNK_BYTES * _CHUNKS_AT_ONCE
    for start in range(0, offset, step):
        await lane.run(partial(_again, disk, building, start, min(offset, start + step)))
    is_short = False
    while not is_short and (part.bytes is None or offset < part.bytes):
        end = offset + step
        if part.bytes is not None:
            end = min(part.bytes, end)
        calls = [
            call(net, address, part.method, [*part.params, start, min(CHUNK_BYTES, end - start)])
            for start in range(offset, end, CHUNK_BYTES)
        ]
        chunks = await asyncio.gather(*calls)
        if not all(isinstance(chunk, bytes) for chunk in chunks):
            raise Corrupt(f"{address} answered {part.method} for {part.path} with what is no bytes")
        data = b"".join(chunks)
        is_short = len(data) < end - offset
        if is_short and part.bytes is not None:
            raise Corrupt(f"{address} sent {len(data)} bytes of {part.path} where {end - offset} were due")
        await lane.run(partial(_append, disk, building, data, offset))
        offset += len(data)
        yield len(data)
    await lane.run(partial(_finish, disk, building, part))


async def call(net: Net, address: str, method: str, params: list[object]) -> Any:
    """Ask, and ask again when the network failed; at the last try its error is the caller's."""
    for attempt in range(1, _TRIES + 1):
        try:
            return await net.call(address, method, params, _CALL_TIMEOUT_S)
        except (Unavailable, OutcomeUnknown):
            if attempt == _TRIES:
                raise
            await asyncio.sleep(_RETRY_S * attempt)
    raise AssertionError("unreachable")


def _begin(disk: Disk, path: str, size: int | None) -> int:
    """Where to go on: behind what is there already."""
    if disk.exists(path):
        there = disk.stat(path).size_bytes
        if size is not None and there <= size:
            return there
        disk.unlink(path)
    disk.open(path, write=True, create=True).close()
    disk.sync_dir(path.rpartition("/")[0])
    return 0


def _again(disk: Disk, path: str, begin: int, end: int) -> None:
    file = disk.open(path, write=True)
    try:
        write_again(file, begin, end)
        file.sync()
    finally:
        file.close()


def _append(disk: Disk, path: str, data: bytes, offset: int) -> None:
    file = disk.open(path, write=True)
    try:
        file.pwrite(data, offset)
        file.sync()
    finally:
        file.close()


def _finish(disk: Disk, building: str, part: Part) -> None:
    try:
        part.verify(building)
    except Corrupt:
        disk.unlink(building)
        raise
    disk.rename(building, part.path)
    disk.sync_dir(part.path.rpartition("/")[0])
