"""Single writes and reads that came to a node that does not lead: asked of the leader, one task each.

Not the hot way: clients find the leader. So what is under way is bounded in bytes, as the leader's own
queue is, and what is above the bound hears so at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from neumann.errors import BackPressure, NeumannError
from neumann.format.command import split_row_key
from neumann.runtime.sinks import Sink, Version

_TASK_BYTES = 4096
"""What a request costs besides its own bytes."""
_Work = Callable[[], Awaitable[None]]


class Forwards:
    """`spawn` runs a coroutine beside; `write` and `get` find the leader, or raise a NeumannError."""

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        write: Callable[[bytes], Awaitable[tuple[int, int]]],
        get: Callable[[str, str], Awaitable[Version | None]],
        bytes_max: int,
    ) -> None:
        self._spawn = spawn
        self._write = write
        self._get = get
        self._bytes_max = bytes_max
        self._bytes = 0

    def writes(self, sink: Sink, ids: Sequence[int], commands: Sequence[bytes]) -> None:
        """Each id is answered through its sink exactly once."""
        for call_id, raw in zip(ids, commands, strict=True):
            self._begin(sink, call_id, len(raw), partial(self._one_write, sink, call_id, raw))
        sink.flush()

    def gets(self, sink: Sink, ids: Sequence[int], rows: Sequence[str]) -> None:
        """The same for reads."""
        for call_id, row in zip(ids, rows, strict=True):
            self._begin(sink, call_id, len(row), partial(self._one_get, sink, call_id, row))
        sink.flush()

    def _begin(self, sink: Sink, call_id: int, size: int, work: _Work) -> None:
        cost = size + _TASK_BYTES
        if self._bytes + cost > self._bytes_max:
            text = (
                f"{self._bytes} bytes of requests to the leader are under way; the limit is {self._bytes_max}"
            )
            sink.failed((call_id,), BackPressure(text, remedy="ask the leader itself, or send less at once"))
            return
        self._bytes += cost
        self._spawn(self._counted(work, cost))

    async def _counted(self, work: _Work, cost: int) -> None:
        try:
            await work()
        finally:
            self._bytes -= cost

    async def _one_write(self, sink: Sink, call_id: int, raw: bytes) -> None:
        try:
            index, outcome = await self._write(raw)
            sink.wrote((call_id,), index, (outcome,))
        except NeumannError as error:
            sink.failed((call_id,), error)
        sink.flush()

    async def _one_get(self, sink: Sink, call_id: int, row: str) -> None:
        try:
            sink.got((call_id,), (await self._get(*split_row_key(row)),))
        except NeumannError as error:
            sink.failed((call_id,), error)
        sink.flush()
