"""The client against servers that answer as they are told: what is asked again, and what is not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import neumann
from neumann.errors import BackPressure, NeumannError, OutcomeUnknown, TimelineChanged, Unavailable
from neumann.format import rpc

Answer = Callable[[str], Any]
"""From a method's name: a result, a NeumannError to answer with, or a future of either."""

HELLO = {
    "cluster_id": bytes(16),
    "timeline": "1-00",
    "node_id": "n1",
    "leader": "n1",
    "members": {"n1": "127.0.0.1:1"},
    "limits": {"query_timeout_s": 1.0},
}


class Peer(asyncio.Protocol):
    """A connection to the leader of a cluster of one, which answers what a test says."""

    def __init__(self, answer: Answer, open_ones: set[Peer]) -> None:
        self._answer = answer
        self._open_ones = open_ones
        self._unpacker = rpc.new_unpacker()
        self._tasks: set[asyncio.Task[None]] = set()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._open_ones.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._unpacker.feed(data)
        for _, call_id, method, _ in self._unpacker:
            self._tasks.add(asyncio.create_task(self._respond(call_id, method)))

    async def _respond(self, call_id: int, method: str) -> None:
        said = HELLO if method == "hello" else self._answer(method)
        if isinstance(said, asyncio.Future):
            said = await said
        error, result = (rpc.error_to_wire(said), None) if isinstance(said, NeumannError) else (None, said)
        self.transport.write(rpc.pack((rpc.ANSWER, call_id, error, result)))


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """Its address."""
    peers: set[Peer] = set()
    listener = await asyncio.get_running_loop().create_server(lambda: Peer(answer, peers), "127.0.0.1", 0)
    async with listener:
        try:
            yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        finally:
            for peer in list(peers):
                peer.transport.abort()


async def test_what_was_surely_not_done_is_asked_again() -> None:
    answers = iter([Unavailable("no leader"), Unavailable("no leader"), (7, 0)])
    async with server(lambda _: next(answers)) as address, neumann.connect(address) as db:
        assert await db.put("t", "k", 1) == 7


@pytest.mark.parametrize(
    "error", [BackPressure("slow down"), OutcomeUnknown("perhaps"), TimelineChanged("x")]
)
async def test_what_a_caller_has_to_decide_is_not_asked_again(error: NeumannError) -> None:
    answers = iter([error])
    async with server(lambda _: next(answers)) as address, neumann.connect(address) as db:
        with pytest.raises(type(error)):
            await db.put("t", "k", 1)


async def test_a_call_that_goes_elsewhere_leaves_the_others_their_answers() -> None:
    """Bug: a call that was refused closed the connection under all others, whose writes then ended as
    OutcomeUnknown although their answers were on the way."""
    held: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    reads = iter([Unavailable("no leader"), None])
    async with (
        server(lambda method: held if method == "write" else next(reads)) as address,
        neumann.connect(address) as db,
    ):
        writing = asyncio.create_task(db.put("t", "k", 1))
        await asyncio.sleep(0)  # so that it has been sent
        assert await db.get("t", "k") is None
        held.set_result((7, 0))
        assert await writing == 7


async def test_no_answer_is_unknown_only_for_a_write_that_was_sent() -> None:
    """Bug: a write was called unknown when the time ended while a leader was still looked for."""
    never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    async with server(lambda _: never) as address, neumann.connect(address, timeout_s=0.1) as db:
        with pytest.raises(OutcomeUnknown):
            await db.put("t", "k", 1)
        with pytest.raises(Unavailable):
            await db.get("t", "k")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable):
            await neumann.connect(address, timeout_s=0.1).put("t", "k", 1)


async def test_a_server_that_went_silent_is_left() -> None:
    """Bug: the connection to a leader whose machine had died without a word was kept, and every call on it
    waited in vain, long after another node led."""
    never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answers = iter([never, (7, 0)])
    async with server(lambda _: next(answers)) as address, neumann.connect(address, timeout_s=0.2) as db:
        silent = db._link
        with pytest.raises(OutcomeUnknown):
            await db.put("t", "k", 1)
        assert await db.put("t", "k", 1) == 7
        assert db._link is not silent
