"""Messages to and from the other members: who may be believed, and the bytes of appends.

Requests go out on a connection that we dialled to the configured address; answers are believed only
from there, and only from the (node id, storage id) that the configuration names (design section 6).
Messages of another cluster or timeline are counted, logged once a minute, and dropped (R11).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from neumann.env import Clock, Lane, Net
from neumann.errors import NeumannError
from neumann.format import message as message_format
from neumann.format.ids import Configuration, Incarnation
from neumann.format.message import (
    Append,
    AppendReply,
    Envelope,
    Message,
    Status,
    VoteReply,
)
from neumann.format.state import Identity
from neumann.raft import Raft
from neumann.runtime.metrics import Metrics
from neumann.wal import Log

log = logging.getLogger(__name__)

_LOG_AGAIN_NS = 60 * 1_000_000_000


class PeerState(NamedTuple):
    """The newest that a member told of itself, and when (monotonic)."""

    status: Status
    heard_ns: int


class Peers:
    """One member's view of the others. `step` hands a believed message to the core."""

    def __init__(
        self,
        identity: Identity,
        raft: Raft,
        wal: Log,
        net: Net,
        read_lane: Lane,
        clock: Clock,
        metrics: Metrics,
        *,
        own_status: Callable[[], Status],
        step: Callable[[str, Message, Incarnation], None],
    ) -> None:
        self.states: dict[str, PeerState] = {}
        self._identity = identity
        self._raft = raft
        self._wal = wal
        self._net = net
        self._read_lane = read_lane
        self._clock = clock
        self._metrics = metrics
        self._own_status = own_status
        self._step = step
        self._reply_to: dict[str, Callable[[bytes], None]] = {}
        self._last_append: tuple[Append | None, bytes] = (None, b"")
        self._logged_ns: dict[str, int] = {}

    # --- out -------------------------------------------------------------------------------------

    def send(self, node_id: str, message: Message) -> None:
        """Send, best effort. An append's frames are read from the log."""
        if isinstance(message, AppendReply | VoteReply):
            reply = self._reply_to.get(node_id)
            if reply is not None:
                reply(message_format.encode(self._envelope(message, self._own_status())))
            return
        member = self._raft.configuration.member(node_id)
        if member is None:
            return
        if isinstance(message, Append):
            self._send_append(member.address, message)
        else:
            self._net.send(member.address, message_format.encode(self._envelope(message)))

    def _send_append(self, address: str, message: Append) -> None:
        known, payload = self._last_append
        if known == message:
            self._net.send(address, payload)
        elif message.last_index == message.prev_index:
            self._net.send(address, message_format.encode(self._envelope(message)))
        elif self._wal.is_cached(message.prev_index):
            frames = self._wal.read(message.prev_index, message.last_index)
            payload = message_format.encode(self._envelope(message), frames)
            self._last_append = (message, payload)
            self._net.send(address, payload)
        else:
            self._send_cold(address, message)

    def _send_cold(self, address: str, message: Append) -> None:
        """A follower far behind: its frames are on the disk only."""

        def done(frames: bytes | None, error: BaseException | None) -> None:
            if error is not None or frames is None:
                log.warning("entries behind %d can't be sent: %s", message.prev_index, error)
                return
            self._net.send(address, message_format.encode(self._envelope(message), frames))

        self._read_lane.submit(lambda: self._wal.read(message.prev_index, message.last_index), done)

    def _envelope(self, message: Message, status: Status | None = None) -> Envelope:
        own = self._identity
        return Envelope(own.cluster_id, own.timeline, own.node_id, own.storage_id, message, status)

    # --- in --------------------------------------------------------------------------------------

    def on_request(self, payload: bytes, reply: Callable[[bytes], None]) -> None:
        """A message that a peer sent on a connection it dialled."""
        envelope = self._believed(payload)
        if envelope is None or isinstance(envelope.message, AppendReply | VoteReply):
            return
        self._reply_to[envelope.node_id] = reply
        self._step(envelope.node_id, envelope.message, Incarnation(envelope.storage_id))

    def on_reply(self, address: str, payload: bytes) -> None:
        """An answer that came back on the connection we dialled to `address`."""
        envelope = self._believed(payload)
        if envelope is None or not isinstance(envelope.message, AppendReply | VoteReply):
            return
        member = self._raft.configuration.member(envelope.node_id)
        if member is None or member.address != address or member.storage_id != envelope.storage_id:
            self._refuse("storage_id", f"{envelope.node_id} at {address} is not the member of that name")
            return
        status = envelope.status
        if status is not None:
            self.states[envelope.node_id] = PeerState(status, self._clock.monotonic_ns())
        start_number = status.start_number if status is not None else 0
        self._step(envelope.node_id, envelope.message, Incarnation(envelope.storage_id, start_number))

    def _believed(self, payload: bytes) -> Envelope | None:
        try:
            envelope = message_format.decode(payload)
        except NeumannError as error:
            self._refuse("malformed", str(error))
            return None
        own = self._identity
        if envelope.cluster_id != own.cluster_id:
            self._refuse(
                "cluster",
                f"{envelope.node_id} is of cluster {envelope.cluster_id.hex()}, this node of "
                f"{own.cluster_id.hex()}; take one of them out of the other's peers",
            )
            return None
        if envelope.timeline != own.timeline:
            self._refuse(
                "timeline",
                f"{envelope.node_id} is on timeline {envelope.timeline}, this node on {own.timeline}; "
                "on the node that shall give way: neumann-admin rejoin",
            )
            return None
        return envelope

    def _refuse(self, reason: str, text: str) -> None:
        self._metrics.reject_peer(reason)
        now = self._clock.monotonic_ns()
        if now - self._logged_ns.get(reason, -_LOG_AGAIN_NS) >= _LOG_AGAIN_NS:
            self._logged_ns[reason] = now
            log.warning("refused a peer's message: %s", text)

    # --- what they told --------------------------------------------------------------------------

    def voters_clock_ns(self, within_ns: int) -> int | None:
        """The median of the voters' clocks heard lately, the lower of two; None for a sole voter."""
        voters = self._raft.configuration.voters
        if len(voters) < 2:
            return None
        now, wall = self._clock.monotonic_ns(), self._clock.wall_ns()
        clocks = [wall]
        for voter in voters:
            state = self.states.get(voter)
            if voter != self._identity.node_id and state and now - state.heard_ns <= within_ns:
                clocks.append(state.status.clock_ns + (now - state.heard_ns))
        clocks.sort()
        return clocks[(len(clocks) - 1) // 2]

    def snapshot_holders(self, index: int, digest: bytes) -> list[str]:
        """Other members that reported exactly this snapshot, or a newer one."""
        return [
            node_id
            for node_id, state in self.states.items()
            if state.status.snapshot_index > index
            or (state.status.snapshot_index == index and state.status.snapshot_digest == digest)
        ]

    def majority_snapshot(self, own: tuple[int, bytes], configuration: Configuration) -> tuple[int, bytes]:
        """(index, digest) of the newest snapshot that a majority of the voters reported, or (0, b"")."""
        needed = len(configuration.voters) // 2 + 1
        reported = [own]
        for voter in configuration.voters:
            state = self.states.get(voter)
            if voter != self._identity.node_id and state is not None:
                reported.append((state.status.snapshot_index, state.status.snapshot_digest))
        best = (0, b"")
        for candidate in reported:
            if candidate[0] > best[0] and reported.count(candidate) >= needed:
                best = candidate
        return best
