"""Watches the room on the disk, so that writes are refused before it is full (design section 5, Space)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from neumann.env import Env, Lane
from neumann.errors import DiskFull, NeumannError

log = logging.getLogger(__name__)

_LOOK_S = 1.0


class SpaceWatch:
    """Looks each second. `refusal`: the error of client writes while there is too little room."""

    def __init__(
        self, env: Env, root: str, free_bytes_min: int, lane: Lane, on_change: Callable[[], None]
    ) -> None:
        self.free_bytes = env.disk.free_bytes(root)
        self.refusal: NeumannError | None = None
        self._env = env
        self._root = root
        self._free_bytes_min = free_bytes_min
        self._lane = lane
        self._on_change = on_change
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self) -> None:
        """Look now, and each second from now on."""
        if not self._stopped:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self.start)
            self._lane.submit(lambda: self._env.disk.free_bytes(self._root), self._seen)

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _seen(self, free_bytes: Any, error: BaseException | None) -> None:
        if error is not None:
            log.warning("the free space under %s can't be told: %s", self._root, error)
            return
        self.free_bytes = free_bytes
        self.refusal = None
        if free_bytes < self._free_bytes_min:
            text = f"{free_bytes} bytes are free under {self._root}, and {self._free_bytes_min} are kept free"
            self.refusal = DiskFull(text, remedy="make room; writes go on by themselves")
        self._on_change()
