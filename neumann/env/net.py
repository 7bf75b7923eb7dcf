"""The real network between peers: one dialled connection to each address, messages best effort.

The listening side is server/rpc.py. Answers to what we sent come back on the connection we dialled, so
they come from the configured address and from nowhere else (design section 6).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, cast

import msgpack

from neumann.config import split_address
from neumann.env.doors import PeerHandler
from neumann.errors import OutcomeUnknown, Unavailable
from neumann.format import rpc

_OUTBOX_BYTES_MAX = 64 * 1024 * 1024
_REDIAL_S = 0.1
_DIAL_TIMEOUT_S = 2.0
_UNACKNOWLEDGED_S = 5
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_S * 1000),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _UNACKNOWLEDGED_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
)
"""A connection whose other end says nothing is given up, and dialled again: by itself the kernel goes on
for minutes, longer than a partition lasts."""


class _Link(asyncio.Protocol):
    """The dialled connection to one address, dialled again when it is needed and down."""

    def __init__(self, address: str, handler: PeerHandler | None) -> None:
        self.address = address
        self.handler = handler
        self._transport: asyncio.Transport | None = None
        self._unpacker = rpc.new_unpacker()
        self._dialling: asyncio.Task[None] | None = None
        self._waiting: list[bytes] = []
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._next_id = 1
        self._closed = False

    def send(self, data: bytes) -> None:
        transport = self._transport
        if transport is not None:
            if transport.get_write_buffer_size() < _OUTBOX_BYTES_MAX:
                transport.write(data)
            return
        self._waiting = [data]
        self._dial()

    async def call(self, method: str, params: list[object], timeout_s: float) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._transport is None:
            self._dial()
            assert self._dialling is not None
            await asyncio.wait([self._dialling], timeout=max(0.0, deadline - loop.time()))
            if self._transport is None:
                raise Unavailable(f"{self.address} can't be reached", remedy="is that node running?")
        call_id, self._next_id = self._next_id, self._next_id + 1
        future: asyncio.Future[Any] = loop.create_future()
        self._calls[call_id] = future
        self._transport.write(rpc.pack([rpc.REQUEST, call_id, method, params]))
        try:
            async with asyncio.timeout(max(0.0, deadline - loop.time())):
                return await future
        except TimeoutError:
            raise OutcomeUnknown(f"{self.address} did not answer {method} within {timeout_s:g} s") from None
        finally:
            self._calls.pop(call_id, None)

    def close(self) -> None:
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _dial(self) -> None:
        if self._dialling is None and not self._closed:
            self._dialling = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        """Dial once, each address of the name in turn: the peer may listen at one of them alone. The name is
        looked up without a limit: a lookup can't be ended, and a second one beside it would only take
        another of the few threads that look up."""
        host, port = split_address(self.address)
        try:
            with contextlib.suppress(OSError):  # of the lookup
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
                for place in dict.fromkeys(str(target[0]) for *_, target in found):
                    if await self._reaches(place, port):
                        return
            await asyncio.sleep(_REDIAL_S)
        finally:
            self._dialling = None

    async def _reaches(self, place: str, port: int) -> bool:
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: self, place, port)
        except (OSError, TimeoutError):
            # uvloop closes a connection that came about as we gave up, and doesn't tell its protocol.
            self.connection_lost(None)
            return False
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        for option in _SOCKET_OPTIONS:
            self._transport.get_extra_info("socket").setsockopt(*option)
        self._unpacker = rpc.new_unpacker()
        self._transport.set_write_buffer_limits(high=_OUTBOX_BYTES_MAX)
        for data in self._waiting:
            self._transport.write(data)
        self._waiting = []

    def data_received(self, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
            for message in self._unpacker:
                self._take(message)
        except (ValueError, TypeError, IndexError, msgpack.UnpackException):
            assert self._transport is not None
            self._transport.abort()

    def _take(self, message: Any) -> None:
        if message[0] == rpc.NOTIFICATION:
            if message[1] == "raft" and self.handler is not None:
                self.handler.on_reply(self.address, message[2][0])
            return
        future = self._calls.pop(message[1], None) if message[0] == rpc.ANSWER else None
        if future is None or future.done():
            return
        if message[2] is not None:
            future.set_exception(rpc.error_from_wire(message[2]))
        else:
            future.set_result(message[3])

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(OutcomeUnknown(f"the connection to {self.address} broke"))


class RealNet:
    """See doors.Net."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}
        self._handler: PeerHandler | None = None

    def bind(self, handler: PeerHandler) -> None:
        self._handler = handler
        for link in self._links.values():
            link.handler = handler

    def send(self, address: str, payload: bytes) -> None:
        self._link(address).send(rpc.pack([rpc.NOTIFICATION, "raft", [payload]]))

    async def call(self, address: str, method: str, params: list[object], timeout_s: float) -> Any:
        return await self._link(address).call(method, params, timeout_s)

    async def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _link(self, address: str) -> _Link:
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = _Link(address, self._handler)
        return link
