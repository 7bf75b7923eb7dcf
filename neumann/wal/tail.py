"""The tail cache of a log: the newest frames' bytes, all that are not durable yet among them.

Filled and cut on the loop; read from anywhere, so a frame may be gone that was there a moment before. What
lies above `after` is here; what was evicted is durable, and is read from the files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

TAIL_CACHE_BYTES = 32 * 1024 * 1024


class TailCache:
    """`after`: the end of the newest frame that is not here. Behind `evict` `size_bytes` is above `bytes_max`
    only by what is not durable."""

    def __init__(self, after: int, bytes_max: int) -> None:
        self.after = after
        self._frames: dict[int, bytes] = {}
        self._order: deque[int] = deque()
        self.size_bytes = 0
        self.bytes_max = bytes_max

    def add(self, last_index: int, data: bytes) -> None:
        """A frame behind all that are here."""
        self._frames[last_index] = data
        self._order.append(last_index)
        self.size_bytes += len(data)

    @property
    def is_full(self) -> bool:
        """Whether what is durable may go."""
        return self.size_bytes > self.bytes_max

    def get(self, last_indexes: Iterable[int]) -> list[bytes]:
        """The frames that end there; KeyError if one is not here (any more)."""
        frames = self._frames
        return [frames[last] for last in last_indexes]

    def cut(self, index: int) -> None:
        """The log was cut behind `index`."""
        while self._order and self._order[-1] > index:
            self.size_bytes -= len(self._frames.pop(self._order.pop()))
        self.after = min(self.after, index)

    def evict(self, durable_index: int) -> None:
        """Let the oldest go until it is not full, as far as they are durable."""
        while self.is_full and self._order and self._order[0] <= durable_index:
            self.forget_through(self._order[0])

    def forget_through(self, index: int) -> None:
        """What ends at or before `index` is not needed here."""
        order = self._order
        while order and order[0] <= index:
            self.after = max(self.after, order[0])
            self.size_bytes -= len(self._frames.pop(order.popleft()))
