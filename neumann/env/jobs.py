"""The real helper processes: heavy work on files happens beside the event loop, not on it.

There is one for each function, so that a long merge holds up no flush; it runs one job at a time
(env/worker.py is its other end). It is started at its first job, and again when it died; a job that it
died in fails and may be run again: jobs write temporary names only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import msgpack

from neumann.env.worker import LENGTH_BYTES
from neumann.errors import StorageFailed
from neumann.format.rpc import error_from_wire

_NICE = 5


class RealJobs:
    """See doors.Jobs."""

    def __init__(self) -> None:
        self._helpers: dict[str, _Helper] = {}

    async def run(self, function: str, params: Mapping[str, object]) -> dict[str, Any]:
        helper = self._helpers.setdefault(function, _Helper())
        request = msgpack.packb((function, params), use_bin_type=True)
        async with helper.turn:
            answer = await helper.ask(request, function)
        failure, result = msgpack.unpackb(answer, use_list=False, strict_map_key=False)
        if failure is not None:
            raise error_from_wire(failure)
        return dict(result)

    async def close(self) -> None:
        for helper in self._helpers.values():
            await helper.stop()


class _Helper:
    """One process; `turn` is held while it works."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, request: bytes, function: str) -> bytes:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(len(request).to_bytes(LENGTH_BYTES, "little") + request)
            await process.stdin.drain()
            head = await process.stdout.readexactly(LENGTH_BYTES)
            return await process.stdout.readexactly(int.from_bytes(head, "little"))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await self.stop()
            raise StorageFailed(f"the helper process died in {function}") from error
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a directory called neumann where the server was started is not this package
            "-c",
            "from neumann.env.worker import main; main()",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
            preexec_fn=lambda: os.nice(_NICE) and None,
        )
