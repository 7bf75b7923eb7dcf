"""The client's side of a session (machine/sessions.py): serials, and which of them are still open.

The cluster remembers the outcomes of the last SESSION_SERIALS_MAX serials. So no serial is taken while one
that is as far back has not ended: a command could be forgotten before it is sent again.
"""

from __future__ import annotations

import asyncio
from collections import deque

from neumann.format.limits import SESSION_SERIALS_MAX


class Session:
    """One open session of the cluster; `id` is the index that opened it."""

    def __init__(self, session_id: int) -> None:
        self.id = session_id
        self._next = 1
        self._open: dict[int, None] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> int:
        """The next serial, as soon as there is room for it. It stays open until `end`."""
        while not self._has_room():
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # it may have been this one's turn
                raise
        serial, self._next = self._next, self._next + 1
        self._open[serial] = None
        return serial

    def end(self, serial: int) -> None:
        """Nobody sends this serial any more."""
        del self._open[serial]
        self._wake()

    def _wake(self) -> None:
        room = SESSION_SERIALS_MAX - (self._next - next(iter(self._open), self._next))
        while self._waiting and room > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1

    def _has_room(self) -> bool:
        return self._next - next(iter(self._open), self._next) < SESSION_SERIALS_MAX
