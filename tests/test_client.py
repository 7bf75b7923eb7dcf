"""The client against servers that answer as they are told: what is asked again, and what is not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import neumann
from neumann.client.session import Session
from neumann.errors import (
    BackPressure,
    ConditionFailed,
    NeumannError,
    OutcomeUnknown,
    Paused,
    SessionExpired,
    TimelineChanged,
    Unavailable,
)
from neumann.format import command, rpc
from neumann.format.limits import SESSION_SERIALS_MAX
from neumann.machine.outcome import Outcome

Answer = Callable[[str], Any]
"""From a method's name: a result, a NeumannError to answer with, a future of either, or HANG_UP.
The write that opens a session is asked for as "open"."""

SESSION = (5, 0)
HANG_UP = object()

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

    def __init__(self, answer: Answer, open_ones: set[Peer], sent: list[tuple[int, int]]) -> None:
        self._answer = answer
        self._sent = sent
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
        for _, call_id, called, params in self._unpacker:
            method = called
            if called == "write":
                fields = command.decode(params[0])
                if fields[0] == command.OPEN:
                    method = "open"
                else:
                    self._sent.append((fields[4], fields[5]))
            self._tasks.add(asyncio.create_task(self._respond(call_id, method)))

    async def _respond(self, call_id: int, method: str) -> None:
        said = HELLO if method == "hello" else self._answer(method)
        if isinstance(said, asyncio.Future):
            said = await said
        if said is HANG_UP:
            self.transport.abort()
            return
        error, result = (rpc.error_to_wire(said), None) if isinstance(said, NeumannError) else (None, said)
        self.transport.write(rpc.pack((rpc.ANSWER, call_id, error, result)))


def writes(*answers: Any) -> Answer:
    """Sessions are opened; writes are answered so, one after the other."""
    left = iter(answers)
    return lambda method: SESSION if method == "open" else next(left)


@asynccontextmanager
async def server(answer: Answer, sent: list[tuple[int, int]] | None = None) -> AsyncIterator[str]:
    """Its address. `sent`: (session, serial) of each write that came."""
    told = [] if sent is None else sent
    peers: set[Peer] = set()
    listener = await asyncio.get_running_loop().create_server(
        lambda: Peer(answer, peers, told), "127.0.0.1", 0
    )
    async with listener:
        try:
            yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        finally:
            for peer in list(peers):
                peer.transport.abort()


async def test_what_was_surely_not_done_is_asked_again() -> None:
    answers = writes(Unavailable("no leader"), Unavailable("no leader"), (7, 0))
    async with server(answers) as address, neumann.connect(address) as db:
        assert await db.put("t", "k", 1) == 7


@pytest.mark.parametrize("error", [BackPressure("slow down"), Paused("by n1"), TimelineChanged("x")])
async def test_what_a_caller_has_to_decide_is_not_asked_again(error: NeumannError) -> None:
    async with server(writes(error)) as address, neumann.connect(address) as db:
        with pytest.raises(type(error)):
            await db.put("t", "k", 1)


@pytest.mark.parametrize(
    "lost", [HANG_UP, OutcomeUnknown("perhaps"), Unavailable("no leader"), Paused("by n1"), BackPressure("!")]
)
async def test_a_write_whose_outcome_is_unknown_is_sent_again_under_its_serial(lost: Any) -> None:
    """Behind a try that is open, a refusal is none: it says nothing of that try."""
    sent: list[tuple[int, int]] = []
    answers = writes((6, 0), HANG_UP, lost, (7, 0), (8, 0))
    async with server(answers, sent) as address, neumann.connect(address) as db:
        assert [await db.put("t", "k", 1) for _ in range(3)] == [6, 7, 8]
    assert sent == [(5, 1), (5, 2), (5, 2), (5, 2), (5, 3)]


async def test_a_write_is_unknown_only_when_its_time_is_over() -> None:
    async with (
        server(lambda method: SESSION if method == "open" else HANG_UP) as address,
        neumann.connect(address, timeout_s=0.3) as db,
    ):
        with pytest.raises(OutcomeUnknown, match=r"within 0\.3 s"):
            await db.put("t", "k", 1)


async def test_an_outcome_of_an_earlier_try_counts() -> None:
    answers = writes(HANG_UP, (7, Outcome.CONDITION_FAILED))
    async with server(answers) as address, neumann.connect(address) as db:
        with pytest.raises(ConditionFailed):
            await db.put("t", "k", 1, if_absent=True)


async def test_a_session_that_expired_between_two_commands_is_replaced() -> None:
    """The command was not sent before, so nothing was done: nobody needs to hear of it."""
    sent: list[tuple[int, int]] = []
    sessions = iter([(5, 0), (9, 0)])
    ends = iter([(6, 0), (8, Outcome.SESSION_EXPIRED), (10, 0)])
    answers = lambda method: next(sessions if method == "open" else ends)  # noqa: E731
    async with server(answers, sent) as address, neumann.connect(address) as db:
        assert [await db.put("t", "k", 1) for _ in range(2)] == [6, 10]
    assert sent == [(5, 1), (5, 2), (9, 1)]


async def test_a_session_that_expired_between_two_tries_is_told() -> None:
    """Nobody remembers whether the first try was done: it must not be sent as new."""
    answers = writes(HANG_UP, (8, Outcome.SESSION_EXPIRED), (11, 0))
    async with server(answers) as address, neumann.connect(address) as db:
        with pytest.raises(SessionExpired):
            await db.put("t", "k", 1)
        assert await db.put("t", "k", 1) == 11


async def test_writes_at_once_share_a_session_and_its_window() -> None:
    """Not more are open at a time than the cluster remembers."""
    sent: list[tuple[int, int]] = []
    held: list[asyncio.Future[Any]] = []

    def answer(method: str) -> Any:
        if method == "open":
            return SESSION
        held.append(asyncio.get_running_loop().create_future())
        return held[-1]

    async with server(answer, sent) as address, neumann.connect(address) as db:
        writing = [asyncio.create_task(db.put("t", f"{n}", n)) for n in range(SESSION_SERIALS_MAX + 5)]
        while len(sent) < SESSION_SERIALS_MAX:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        assert sorted(sent) == [(5, serial) for serial in range(1, SESSION_SERIALS_MAX + 1)]
        held[1].set_result((7, 0))
        await asyncio.sleep(0.02)
        assert len(sent) == SESSION_SERIALS_MAX, "the oldest is still open"
        held[0].set_result((6, 0))
        while len(sent) < SESSION_SERIALS_MAX + 2:
            await asyncio.sleep(0.005)
        writing[-1].cancel()
        while sum(task.done() for task in writing) < len(writing):
            for number, future in enumerate(held):
                if not future.done():
                    future.set_result((6 + number, 0))
            await asyncio.sleep(0.005)
    assert len(set(sent)) == len(sent) == SESSION_SERIALS_MAX + 4


async def test_a_turn_that_nobody_takes_goes_to_the_next() -> None:
    session = Session(5)
    serials = [await session.take() for _ in range(SESSION_SERIALS_MAX)]
    gone, waits = asyncio.create_task(session.take()), asyncio.create_task(session.take())
    await asyncio.sleep(0)
    session.end(serials[0])
    gone.cancel()
    assert await asyncio.wait_for(waits, 1) == SESSION_SERIALS_MAX + 1


async def test_an_own_session_is_left_alone() -> None:
    sent: list[tuple[int, int]] = []
    raw = command.with_session(command.encode_put("t", "k", b"\x01"), 77, 3)
    async with server(writes(HANG_UP, (7, 0)), sent) as address, neumann.connect(address) as db:
        assert await db.write(raw) == 7
    assert sent == [(77, 3), (77, 3)]


async def test_a_call_that_goes_elsewhere_leaves_the_others_their_answers() -> None:
    """Bug: a call that was refused closed the connection under all others, whose writes then ended as
    OutcomeUnknown although their answers were on the way."""
    held: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    reads = iter([Unavailable("no leader"), None])
    ends = iter([SESSION, (6, 0), held])
    async with (
        server(lambda method: next(reads) if method == "get" else next(ends)) as address,
        neumann.connect(address) as db,
    ):
        await db.put("t", "k", 0)
        writing = asyncio.create_task(db.put("t", "k", 1))
        await asyncio.sleep(0)  # so that it has been sent
        assert await db.get("t", "k") is None
        held.set_result((7, 0))
        assert await writing == 7


async def test_no_answer_is_unknown_only_for_a_write_that_was_sent() -> None:
    """Bug: a write was called unknown when the time ended while a leader was still looked for."""
    never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    async with server(lambda _: never) as address, neumann.connect(address, timeout_s=0.1) as db:
        with pytest.raises(Unavailable):
            await db.put("t", "k", 1)  # no session was opened
    answers = iter([SESSION, never, never])
    async with server(lambda _: next(answers)) as address, neumann.connect(address, timeout_s=0.1) as db:
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
    answers = writes(never, (7, 0))
    async with server(answers) as address, neumann.connect(address, timeout_s=0.2) as db:
        silent = db._link
        with pytest.raises(OutcomeUnknown):
            await db.put("t", "k", 1)
        assert await db.put("t", "k", 1) == 7
        assert db._link is not silent


async def test_connecting_waits_while_a_cluster_looks_for_a_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: during a failover a new client failed at once, since all pointed to the leader that was dead."""
    monkeypatch.setitem(HELLO, "leader", "n2")
    async with server(writes((7, 0))) as address:
        asyncio.get_running_loop().call_later(0.2, HELLO.__setitem__, "leader", "n1")
        async with neumann.connect(address) as db:
            assert await db.put("t", "k", 1) == 7
    monkeypatch.setitem(HELLO, "leader", "")
    async with server(writes()) as address:
        with pytest.raises(Unavailable, match="knows no leader"):
            async with neumann.connect(address, timeout_s=0.3):
                pass
