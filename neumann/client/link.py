"""One connection to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import msgpack

from neumann.errors import NeumannError, OutcomeUnknown, Unavailable
from neumann.format import rpc


class Link(asyncio.Protocol):
    """Requests go out as they come, answers find their futures. `transport` is None when it is down."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._unpacker = rpc.new_unpacker()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._outbox: list[bytes] = []
        self._next_id = 1
        self._is_retired = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._fail(OutcomeUnknown("the connection broke before the answer came"))

    def _fail(self, error: NeumannError) -> None:
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(error)

    def data_received(self, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
            for _, call_id, error, result in self._unpacker:
                future = self._calls.pop(call_id, None)
                if future is None or future.done():
                    continue
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(rpc.error_from_wire(error))
            if self._is_retired and not self._calls:
                self.close()
        except (ValueError, TypeError, msgpack.UnpackException):
            self._fail(OutcomeUnknown("the server sent what is no MessagePack-RPC"))
            self.close()

    def call(self, method: str, params: Sequence[object]) -> asyncio.Future[Any]:
        """Ask; all requests of one turn of the loop leave in one write."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self.transport is None:
            future.set_exception(Unavailable("not connected"))
            return future
        call_id, self._next_id = self._next_id, self._next_id + 1
        self._calls[call_id] = future
        if not self._outbox:
            loop.call_soon(self._flush)
        self._outbox.append(rpc.pack((rpc.REQUEST, call_id, method, params)))
        return future

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if self.transport is not None:
            self.transport.write(b"".join(outbox))

    def retire(self) -> None:
        """Close it when what was asked has been answered; nothing new is asked here."""
        self._is_retired = True
        if not self._calls:
            self.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()
