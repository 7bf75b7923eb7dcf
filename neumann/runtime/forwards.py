"""Single writes that came to a node that does not lead: asked of the leader, one task each.

Not the hot way: clients find the leader, and reads are served here (reader.py). So what is under way is
bounded in bytes, as the leader's own queue is, and what is above the bound hears so at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from neumann.errors import BackPressure, NeumannError
from neumann.runtime.sinks import Sink

_TASK_BYTES = 4096
"""What a request costs besides its own bytes."""


class Forwards:
    """`spawn` runs a coroutine beside; `write` finds the leader, or raises a NeumannError."""

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        write: Callable[[bytes], Awaitable[tuple[int, int]]],
        bytes_max: int,
    ) -> None:
        self._spawn = spawn
        self._write = write
        self._bytes_max = bytes_max
        self._bytes = 0

    def writes(self, sink: Sink, ids: Sequence[int], commands: Sequence[bytes]) -> None:
        """Each id is answered through its sink exactly once."""
        for call_id, raw in zip(ids, commands, strict=True):
            try:
                cost = self.take(len(raw))
            except BackPressure as refused:
                sink.failed((call_id,), refused)
            else:
                self._spawn(self._one(sink, call_id, raw, cost))
        sink.flush()

    def take(self, size: int) -> int:
        """Room for a write of so many bytes, to be given back; BackPressure if there is none."""
        cost = size + _TASK_BYTES
        if self._bytes and self._bytes + cost > self._bytes_max:
            text = f"{self._bytes} bytes of writes go to the leader already; the limit is {self._bytes_max}"
            raise BackPressure(text, remedy="ask the leader itself, or send less at once")
        self._bytes += cost
        return cost

    def give_back(self, cost: int) -> None:
        """That write has ended."""
        self._bytes -= cost

    async def _one(self, sink: Sink, call_id: int, raw: bytes, cost: int) -> None:
        try:
            index, outcome = await self._write(raw)
            sink.wrote((call_id,), index, (outcome,))
        except NeumannError as error:
            sink.failed((call_id,), error)
        finally:
            self.give_back(cost)
        sink.flush()
