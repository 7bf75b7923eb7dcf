"""MessagePack-RPC on a real node: what strangers may send, and what everybody hears back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from neumann.format import command, limits, rpc
from neumann.format import message as message_format
from neumann.format.message import Append, AppendReply, Envelope, Status, TimeoutNow, VoteRequest
from neumann.machine.outcome import Outcome
from neumann.runtime.node import Node
from neumann.server import rpc as rpc_server
from tests.runtime.nodes import config_of, one_node, put, unhandled_errors

ANSWER_TIMEOUT_S = 10.0


class Wire:
    """One connection, spoken byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._unpacker = rpc.new_unpacker()

    def send(self, *plain: object) -> None:
        """Messages as they are."""
        self.send_bytes(b"".join(rpc.pack(one) for one in plain))

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        """Until the kernel has taken it, or the server has hung up."""
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def answer(self) -> Any:
        """The next message; None when the server has closed the connection."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while True:
                for found in self._unpacker:
                    return found
                try:
                    data = await self._reader.read(1 << 16)
                except ConnectionResetError:
                    return None
                if not data:
                    return None
                self._unpacker.feed(data)

    async def ask(self, method: object, params: object) -> Any:
        """(error, result) of one request."""
        self.send((rpc.REQUEST, 7, method, params))
        answer = await self.answer()
        assert answer is not None and answer[:2] == (rpc.ANSWER, 7)
        return answer[2:]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node alone; nothing may be left for the event loop to complain of."""
    async with one_node(config_of(tmp_path)) as running:
        with unhandled_errors() as told:
            yield running
        assert not told


Dial = Callable[[], Awaitable[Wire]]


@pytest.fixture
async def dial(node: Node) -> AsyncIterator[Dial]:
    """`await dial()` connects to the node."""
    host, _, port = node.config.node.listen.rpartition(":")
    wires: list[Wire] = []

    async def connect() -> Wire:
        wires.append(Wire(*await asyncio.open_connection(host, int(port))))
        return wires[-1]

    yield connect
    for wire in wires:
        await wire.close()


async def test_an_id_that_is_no_integer_is_refused(dial: Dial) -> None:
    """An id nested deeper than MessagePack can be packed raised while answers were sent, in the middle
    of applying: the answers of everybody else were lost."""
    wire = await dial()
    nested = b"\x91" * 600 + b"\xc0"
    wire.send_bytes(b"\x94\x00" + nested + rpc.pack("write") + rpc.pack((put("a"),)))
    answer = await wire.answer()
    assert answer[2][0] == "bad_input" and "id" in answer[2][1]
    assert await wire.answer() is None
    assert (await (await dial()).ask("write", (put("b"),)))[0] is None


@pytest.mark.parametrize(
    "sent", [{}, 5, "raft", [], [9], [0, 1], [2, "raft", []], [1, 1, None, None], [0, 1, "get", {}]]
)
async def test_what_is_no_request_ends_the_connection_with_a_line(dial: Dial, sent: object) -> None:
    """A map raised an error that nobody expected, and the client got no answer."""
    wire = await dial()
    wire.send(sent)
    answer = await wire.answer()
    assert answer[2][0] == "bad_input"
    assert await wire.answer() is None


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("write", ()),
        ("write", ("text",)),
        ("write", (put("a"), 17, -1)),
        ("write", (put("a"), 17, 1, 1)),
        ("get", ("t",)),
        ("get", (1, 2, False)),
        ("get", ("t", None, True)),
        ("nothing", ()),
        (3, ()),
        ("scan", ("t", "", "", "", 0, False, False)),
        ("hello", (99, None, None, None)),
        ("announce", ("n9", b"s", "h:1")),
        ("snapshot.read", ("../..", "passwd", 0, 10)),
        ("segment.read", ("../vote", 0, 10)),
        ("admin.pause", ({},)),
        ("admin.pause", ({"owner": "me", "max_s": float("nan"), "reason": ""},)),
        ("admin.snapshot", ({"timeout_s": "soon"},)),
        ("admin.snapshot", ({"timeout_s": float("nan")},)),
        ("admin.restore_point", ({"name": ""},)),
        ("admin.nothing", ({},)),
    ],
)
async def test_every_request_is_answered(dial: Dial, method: object, params: object) -> None:
    """Parameters of a wrong type ended the task that should have answered, and the client waited."""
    wire = await dial()
    error, result = await wire.ask(method, params)
    assert result is None or result.get("accepted") is False
    assert result is not None or error[0] in ("bad_input", "too_large", "format_too_new")
    assert (await wire.ask("get", ("t", "a", False))) == (None, None)


def _peer_messages(node: Node) -> list[bytes]:
    assert node.member is not None
    own = node.member.identity
    status = Status(1, "now", None, 1, 0, b"", -1, 7)  # type: ignore[arg-type]
    wrong: list[Any] = [
        VoteRequest("x", None, 0, False, False),  # type: ignore[arg-type]
        VoteRequest(-5, 0, 0, False, True),
        Append(9, "x", 0, 0, 0, 0, 0),  # type: ignore[arg-type]
        TimeoutNow([]),  # type: ignore[arg-type]
        AppendReply(1, True, 1, 1, 1),
    ]
    envelopes = [Envelope(own.cluster_id, own.timeline, "n2", b"s" * 16, one, status) for one in wrong]
    good = message_format.encode(
        Envelope(own.cluster_id, own.timeline, "n2", b"s" * 16, VoteRequest(1, 0, 0, True, False))
    )
    return [
        b"",
        b"\xc1",
        msgpack.packb(17),
        msgpack.packb({}),
        good[:-1],
        good[:-1] + b"\xc0",
        *map(message_format.encode, envelopes),
    ]


async def test_peer_messages_that_are_none_change_nothing(node: Node, dial: Dial) -> None:
    member = node.member
    assert member is not None
    term = member.raft.term
    for payload in _peer_messages(node):
        wire = await dial()
        wire.send((rpc.NOTIFICATION, "raft", (payload,)))
        assert (await wire.ask("write", (put("a"),)))[0] is None
    assert member.leads and member.raft.term == term and not node.failed.done()


async def test_a_message_that_does_not_end_is_refused_at_the_limit(dial: Dial) -> None:
    """Only the undecoded rest of a message was limited: one of many small parts was taken without end."""
    wire = await dial()
    part = rpc.pack(b"x" * 10_000)
    count = 2 * limits.RPC_MESSAGE_BYTES_MAX // len(part)
    wire.send_bytes(b"\x94\x00\x07" + rpc.pack("nothing") + b"\xdd" + count.to_bytes(4, "big"))
    for _ in range(count):
        wire.send_bytes(part)
        await wire.drain()
    answer = await wire.answer()  # none, where the kernel met its end first
    assert answer is None or str(limits.RPC_MESSAGE_BYTES_MAX) in answer[2][1]


async def test_requests_that_are_worked_on_at_once_are_limited(dial: Dial) -> None:
    """A connection could begin any number of scans; each was a task."""
    wire = await dial()
    count = 3000
    wire.send(*((rpc.REQUEST, i, "scan", ("t", "", "", "", 1, False, True)) for i in range(count)))
    answers = [await wire.answer() for _ in range(count)]
    assert sorted(answer[1] for answer in answers) == list(range(count))
    assert {answer[2][0] for answer in answers if answer[2] is not None} == {"back_pressure"}
    assert sum(answer[2] is None for answer in answers) >= 1000


async def test_clients_that_take_all_connections_do_not_lock_peers_out(tmp_path: Path) -> None:
    """Who came above the limit was cut off without a word, a peer too: clients could take the quorum."""
    config = config_of(tmp_path)
    config = replace(config, limits=replace(config.limits, connections_max=2))
    host, _, port = config.node.listen.rpartition(":")
    async with one_node(config):
        wires = [Wire(*await asyncio.open_connection(host, int(port))) for _ in range(3)]
        for wire in wires[:2]:
            assert (await wire.ask("get", ("t", "a", False)))[0] is None
        error, _ = await wires[2].ask("get", ("t", "a", False))
        assert error[0] == "back_pressure" and "connections_max" in error[1]
        assert (await wires[2].ask("who", ()))[1]["node_id"] == "n1"
        for method in ("announce", "leave", "table.read", "segment.read", "segment.find", "snapshot.read"):
            error, _ = await wires[2].ask(method, ())
            assert error[0] == "bad_input", f"a peer may ask {method}, with other params"
        wires[2].send((rpc.NOTIFICATION, "raft", (b"",)))
        assert (await wires[2].ask("write", (put("a"),)))[0] is None
        for wire in wires:
            await wire.close()


async def test_a_connection_that_comes_to_a_closed_server_is_closed_too(node: Node) -> None:
    """One that was accepted in the moment of the close was left open, and nobody answered on it."""
    loop, server = asyncio.get_running_loop(), rpc_server.RpcServer(node)
    await server.close()
    accepted, dialled = socket.socketpair()
    with dialled:
        dialled.setblocking(False)
        await loop.connect_accepted_socket(lambda: rpc_server._Connection(server), accepted)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            assert await loop.sock_recv(dialled, 1) == b""


async def test_a_command_in_a_session_is_done_once(dial: Dial) -> None:
    """Session and serial stand in the command, or beside it."""
    wire = await dial()
    error, (session, outcome) = await wire.ask("write", [command.encode_open()])
    assert error is None and outcome == Outcome.APPLIED
    raw = put("k", 1)
    first = await wire.ask("write", [raw, session, 1])
    assert first == (None, (session + 1, Outcome.APPLIED))
    await wire.ask("write", [put("k", 2)])
    for params in ([raw, session, 1], [command.with_session(raw, session, 1)]):
        assert await wire.ask("write", params) == first
    _, row = await wire.ask("get", ["t", "k", False])
    assert row[1] == session + 2
    _, (_, outcome) = await wire.ask("write", [raw, 10**9, 1])
    assert outcome == Outcome.SESSION_EXPIRED


NO_SESSIONS = [(1, 0), (0, 1), (-1, 1), ("1", 1), (True, 1), (1, 1.0), (1, 1, 1), (1,)]


@pytest.mark.parametrize("params", NO_SESSIONS, ids=repr)
async def test_what_is_no_session_changes_nothing(dial: Dial, params: Any) -> None:
    wire = await dial()
    error, _ = await wire.ask("write", [put("k", 1), *params])
    assert error[0] == "bad_input"
    assert (await wire.ask("get", ["t", "k", False])) == (None, None)
