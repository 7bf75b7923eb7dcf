"""MessagePack-RPC on port 7878, for clients and peers (interface.md, section 7; format/rpc.py).

The hot path: one pass over what a read brought collects all writes and all gets of a connection, they
go to the node as two runs, and the answers of a batch leave as one write. There is no task, future or
object for a request (design section 12). Other methods run as tasks.

Bad bytes end the connection; a bad request is answered with an error. Nothing is decoded beyond the
size limit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

import msgpack

from neumann.config import split_address
from neumann.errors import (
    BackPressure,
    BadInput,
    FormatTooNew,
    InUse,
    NeumannError,
    TimelineChanged,
    WrongHistory,
)
from neumann.format import limits, rpc
from neumann.format.command import row_key, with_session
from neumann.runtime.leader_index import METHOD as READ_INDEX
from neumann.runtime.node import FORWARDED_WRITE, Node
from neumann.runtime.sinks import Version

log = logging.getLogger(__name__)

_UNREAD_BYTES_MAX = 64 * 1024 * 1024
_TASKS_MAX = 1000
_SPARE_CONNECTIONS = 64
"""Above limits.connections_max, for peers only: clients never lock them out."""
_PEERS_ASK = frozenset(
    {"who", "announce", "leave", READ_INDEX, "snapshot.describe", "snapshot.read", "table.read"}
    | {"segment.read", "segment.find"}
)
_BATCH_HEADERS = ((16, 1), (65_536, 3))


class RpcServer:
    """The listening socket and its connections."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.connections: set[_Connection] = set()
        self.is_closed = False
        self._server: asyncio.Server | None = None

    async def listen(self, address: str) -> None:
        """Bind; InUse if the port is taken, BadInput if there is no such address."""
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Connection(self), host, port)
        except OSError as error:
            raise InUse(
                f"can't listen at {address}: {error.strerror}", remedy="is a server running?"
            ) from error

    async def close(self) -> None:
        """Stop listening and end all connections."""
        self.is_closed = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()


async def serve(node: Node, listen: str) -> RpcServer:
    """Begin to answer RPC for this node."""
    server = RpcServer(node)
    await server.listen(listen)
    return server


class _Connection(asyncio.Protocol):
    """One client's or peer's connection; the Sink of its requests."""

    def __init__(self, server: RpcServer) -> None:
        self._server = server
        self._node = server.node
        self._transport: asyncio.Transport | None = None
        self._unpacker = rpc.new_unpacker()
        self._message_bytes = 0
        self._is_spare = False
        self._answers: list[tuple[int, int, object, object]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # --- in --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        spare = len(self._server.connections) - self._node.config.limits.connections_max
        if self._server.is_closed or spare >= _SPARE_CONNECTIONS:  # closed: since it was accepted
            cast(asyncio.Transport, transport).abort()
            return
        self._is_spare = spare >= 0
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_UNREAD_BYTES_MAX)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.connections.discard(self)
        for task in self._tasks:
            task.cancel()

    def pause_writing(self) -> None:
        """A client that sends and does not read is not waited for."""
        log.warning("a client does not read its answers: the connection is closed")
        self.abort()

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        write_ids: list[int] = []
        commands: list[bytes] = []
        get_ids: list[int] = []
        rows: list[str] = []
        self._message_bytes += len(data)
        try:
            self._unpacker.feed(data)
            for message in self._unpacker:
                self._message_bytes = len(data)
                kind = message[0] if type(message) is tuple else None
                if kind == rpc.REQUEST:
                    _, call_id, method, params = message
                    if type(call_id) is not int or type(params) is not tuple:
                        raise BadInput("a request has an integer as id and an array of params")
                    if self._is_spare:
                        self._other(call_id, method, params)
                    elif method == "write" and len(params) == 1 and type(params[0]) is bytes:
                        write_ids.append(call_id)
                        commands.append(params[0])
                    elif method == "write" and len(params) == 3 and type(params[0]) is bytes:
                        self._write_in_session(write_ids, commands, call_id, *params)
                    elif method == "get" and len(params) == 3 and _is_plain_get(*params):
                        get_ids.append(call_id)
                        rows.append(row_key(params[0], params[1]))
                    elif method == FORWARDED_WRITE:
                        self._node.submit_forwarded(self, call_id, params)
                    else:
                        self._other(call_id, method, params)
                elif kind == rpc.NOTIFICATION and message[1:2] == ("raft",):
                    (payload,) = message[2]
                    self._is_spare = False
                    self._node.on_message(payload, self._reply)
                else:
                    raise BadInput("neither a request nor a peer's message")
            if self._message_bytes > limits.RPC_MESSAGE_BYTES_MAX:
                raise BadInput(f"a message of more than {limits.RPC_MESSAGE_BYTES_MAX} bytes")
        except (ValueError, TypeError, IndexError, msgpack.UnpackException, NeumannError) as error:
            self._refuse_connection(error)
            return
        if write_ids:
            self._node.submit_writes(self, write_ids, commands)
        if get_ids:
            self._node.submit_gets(self, get_ids, rows, stale=False)

    def _write_in_session(
        self,
        write_ids: list[int],
        commands: list[bytes],
        call_id: int,
        raw: bytes,
        session: object,
        serial: object,
    ) -> None:
        """A command whose session and serial stand beside it."""
        try:
            if type(session) is not int or type(serial) is not int:
                raise BadInput("session and serial are integers")
            commands.append(with_session(raw, session, serial))
            write_ids.append(call_id)
        except BadInput as error:
            self.failed((call_id,), error)
            self.flush()

    def _refuse_connection(self, error: Exception) -> None:
        text = f"this is no MessagePack-RPC of ours: {error}"
        self._answers.append((rpc.ANSWER, 0, rpc.error_to_wire(BadInput(text)), None))
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def _reply(self, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.write(rpc.pack((rpc.NOTIFICATION, "raft", (payload,))))

    # --- out: the Sink of writes and gets --------------------------------------------------------

    def wrote(self, ids: Sequence[int], first_index: int, outcomes: Sequence[int] | None) -> None:
        if outcomes is None:
            self._answers += [(1, i, None, (index, 0)) for index, i in enumerate(ids, first_index)]
        else:
            pairs = zip(ids, outcomes, strict=True)
            self._answers += [(1, i, None, (index, o)) for index, (i, o) in enumerate(pairs, first_index)]

    def got(self, ids: Sequence[int], rows: Sequence[Version | None]) -> None:
        self._answers += [
            (1, i, None, row if row is not None and row[0] is not None else None)
            for i, row in zip(ids, rows, strict=True)
        ]

    def failed(self, ids: Sequence[int], error: NeumannError) -> None:
        plain = rpc.error_to_wire(error)
        self._answers += [(1, i, plain, None) for i in ids]

    def flush(self) -> None:
        answers, self._answers = self._answers, []
        if self._transport is None or not answers:
            return
        packed = rpc.pack(answers)
        count = len(answers)
        cut = next((size for limit, size in _BATCH_HEADERS if count < limit), 5)
        self._transport.write(packed[cut:])

    # --- everything else -------------------------------------------------------------------------

    def _other(self, call_id: int, method: str, params: Sequence[Any]) -> None:
        if self._is_spare and method not in _PEERS_ASK:
            most = self._node.config.limits.connections_max
            text = f"this node has {most} connections, which is limits.connections_max"
            self.failed((call_id,), BackPressure(text, remedy="close some, or raise the limit"))
            self.flush()
            return
        if len(self._tasks) >= _TASKS_MAX:
            text = f"{len(self._tasks)} requests of this connection are being worked on already"
            self.failed((call_id,), BackPressure(text, remedy="wait for answers before sending more"))
            self.flush()
            return
        task = asyncio.get_running_loop().create_task(self._answer(call_id, method, params))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, call_id: int, method: str, params: Sequence[Any]) -> None:
        """Whatever happens, there is an answer."""
        try:
            packed = rpc.pack((rpc.ANSWER, call_id, None, await self._perform(method, params)))
        except NeumannError as error:
            packed = rpc.pack((rpc.ANSWER, call_id, rpc.error_to_wire(error), None))
        except Exception as error:
            log.exception("%s failed", method)
            told = NeumannError(f"{method} failed on this node: {error!r}", remedy="see the node's log")
            packed = rpc.pack((rpc.ANSWER, call_id, rpc.error_to_wire(told), None))
        if self._transport is not None:
            self._transport.write(packed)

    async def _perform(self, method: str, params: Sequence[Any]) -> Any:
        match method, params:
            case "hello", (int() as version, _, cluster_id, timeline):
                return _hello(self._node, version, cluster_id, timeline)
            case "get", (str() as table, str() as key, True):
                return await self._node.get(table, key, stale=True)
            case "write", _:
                raise BadInput("the params of write are a bin, the command, and perhaps session and serial")
            case "get", _:
                raise BadInput("the params of get are table and key, strings, and whether it may be stale")
        return await self._node.call(method, params)


def _is_plain_get(table: object, key: object, stale: object) -> bool:
    return type(table) is str and type(key) is str and stale is False


def _hello(node: Node, version: int, cluster_id: object, timeline: object) -> dict[str, Any]:
    """Who this is; refuses a client that pinned another cluster or timeline (R11)."""
    if version != rpc.PROTOCOL_VERSION:
        text = f"protocol version {version}; this server speaks {rpc.PROTOCOL_VERSION}"
        raise FormatTooNew(text, remedy="use a client of this server's release")
    member = node.member
    if member is None:
        raise node.not_serving()
    own = member.identity
    if cluster_id is not None and cluster_id != own.cluster_id:
        raise WrongHistory(
            f"this is cluster {own.cluster_id.hex()}, and the client belongs to another",
            remedy="check the addresses",
        )
    if timeline is not None and timeline != str(own.timeline):
        raise TimelineChanged(
            f"the cluster is on timeline {own.timeline} now, and the client knew {timeline}",
            remedy="it was restored: connect anew, and check what was read before",
        )
    raft, bounds = member.raft, node.config.limits
    return {
        "cluster_id": own.cluster_id,
        "timeline": str(own.timeline),
        "node_id": own.node_id,
        "leader": raft.leader,
        "members": {m.node_id: m.address for m in raft.configuration.members},
        "limits": {
            "key_bytes_max": bounds.key_bytes_max,
            "value_bytes_max": bounds.value_bytes_max,
            "batch_rows_max": bounds.batch_rows_max,
            "query_timeout_s": bounds.query_timeout_s,
        },
    }
