"""Messages to and from the other members: who may be believed, and the bytes of appends.

Requests go out on a connection that we dialled to the configured address; answers are believed only
from there, and only from the (node id, storage id) that the configuration names (design section 6); on a
leader also from a **successor**: another storage that answers at a member's address once the named one has
been silent for long. The core counts nothing that it says; runtime/membership.py gives it the place.
Messages of another cluster or timeline are counted, logged once a minute, and dropped (R11).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from neumann.env import Clock, Lane, Net
from neumann.errors import DiskFull, NeumannError
from neumann.format import message as message_format
from neumann.format.ids import Configuration, Incarnation, Member
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
from neumann.raft.quorum import majority
from neumann.runtime.metrics import Metrics
from neumann.runtime.repair import Repair
from neumann.wal import Log

log = logging.getLogger(__name__)

_LOG_AGAIN_NS = 60 * 1_000_000_000


SILENT_TIMEOUTS = 10
"""So many election timeouts a voter's storage is silent before another may take its place (section 6)."""


class PeerState(NamedTuple):
    """The newest that a member told of itself, when (monotonic), and which storage it is."""

    status: Status
    heard_ns: int
    storage_id: bytes


class Peers:
    """One member's view of the others. `step` hands a believed message to the core."""

    def __init__(
        self,
        identity: Identity,
        raft: Raft,
        wal: Log,
        net: Net,
        read_lane: Lane,
        repair: Repair,
        clock: Clock,
        metrics: Metrics,
        *,
        own_status: Callable[[], Status],
        step: Callable[[str, Message, Incarnation], None],
        silence_ns: int,
    ) -> None:
        self.silence_ns = silence_ns
        self.successors: dict[str, PeerState] = {}
        self._states: dict[str, PeerState] = {}
        self._states_index = raft.configuration_index
        self._leads_since_ns = 0
        self._identity = identity
        self._raft = raft
        self._wal = wal
        self._net = net
        self._read_lane = read_lane
        self._repair = repair
        self._clock = clock
        self._metrics = metrics
        self._own_status = own_status
        self._step = step
        self._reply_to: dict[str, Callable[[bytes], None]] = {}
        self._last_append: tuple[Append | None, bytes] = (None, b"")
        self._reading: dict[str, list[Append]] = {}
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
        """In the order of the core: nothing overtakes frames that are read for this address. The follower
        would refuse what it lacks, and all of it would be read and sent again, at each heartbeat."""
        known, payload = self._last_append
        reading = self._reading.get(address, ())
        oldest = next((one for one in reading if one.term == message.term), None)
        if message.last_index == message.prev_index:
            if oldest is not None and oldest.prev_index < message.prev_index:
                message = _moved(message, oldest)
            self._net.send(address, message_format.encode(self._envelope(message)))
        elif oldest is None and known == message:
            self._net.send(address, payload)
        elif oldest is None and self._wal.is_cached(message.prev_index):
            frames = self._wal.read(message.prev_index, message.last_index)
            payload = message_format.encode(self._envelope(message), frames)
            self._last_append = (message, payload)
            self._net.send(address, payload)
        else:
            self._send_cold(address, message)

    def _send_cold(self, address: str, message: Append) -> None:
        """A follower far behind: its frames are on the disk only. What rotted there is mended first."""
        reading = self._reading.setdefault(address, [])
        reading.append(message)

        def read() -> bytes:
            frames = self._wal.read_frames(message.prev_index, message.last_index)
            return b"".join(frame.data for frame in frames)

        def done(frames: bytes | None, error: BaseException | None) -> None:
            reading.remove(message)
            if error is not None or frames is None:
                log.warning("entries behind %d can't be sent: %s", message.prev_index, error)
                return
            self._net.send(address, message_format.encode(self._envelope(message), frames))

        self._repair.submit(self._read_lane, read, done)

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
        node_id, storage_id, status = envelope.node_id, envelope.storage_id, envelope.status
        member = self._raft.configuration.member(node_id)
        is_named = member is not None and member.storage_id == storage_id
        if member is None or member.address != address or not (is_named or self._succeeds(member, envelope)):
            self._refuse("storage_id", f"{node_id} at {address} is not the member of that name")
            return
        if is_named:
            self.successors.pop(node_id, None)
        if status is not None:
            state = PeerState(status, self._clock.monotonic_ns(), storage_id)
            (self.states if is_named else self.successors)[node_id] = state
        start_number = status.start_number if status is not None else 0
        self._step(node_id, envelope.message, Incarnation(storage_id, start_number))

    def _succeeds(self, member: Member, envelope: Envelope) -> bool:
        """Whether this leader serves another storage than the named one at a member's address."""
        if self._raft.role != "leader" or not isinstance(envelope.message, AppendReply):
            return False
        return not member.storage_id or self.is_silent(member.node_id)

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
        now = self._clock.monotonic_ns()
        self._metrics.reject_peer(reason, now)
        if now - self._logged_ns.get(reason, -_LOG_AGAIN_NS) >= _LOG_AGAIN_NS:
            self._logged_ns[reason] = now
            log.warning("refused a peer's message: %s", text)

    # --- what they told --------------------------------------------------------------------------

    def began(self) -> None:
        """This node leads: silence counts from now on."""
        self.successors.clear()
        self._leads_since_ns = self._clock.monotonic_ns()

    @property
    def states(self) -> dict[str, PeerState]:
        """Node id -> what it told of itself, of the storages that the configuration names now."""
        if self._states_index != self._raft.configuration_index:
            self._states_index = self._raft.configuration_index
            told = [*self._states.items(), *self.successors.items()]
            named = {m.node_id: m.storage_id for m in self._raft.configuration.members}
            self._states = {n: s for n, s in told if named.get(n) == s.storage_id}
            self.successors = {
                n: s for n, s in self.successors.items() if n in named and n not in self._states
            }
        return self._states

    def silent_ns(self, node_id: str) -> int:
        """How long this leader has not heard the storage that the configuration names."""
        state = self.states.get(node_id)
        since_ns = max(self._leads_since_ns, state.heard_ns if state is not None else 0)
        return self._clock.monotonic_ns() - since_ns

    def is_silent(self, node_id: str) -> bool:
        """Whether that is long enough for a successor."""
        return self.silent_ns(node_id) >= self.silence_ns

    def voters_clock_ns(self, within_ns: int) -> int | None:
        """The median of the voters' clocks heard lately, the lower of two; None for a sole voter."""
        voters = self._raft.voters
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

    def without_room(self, free_bytes_min: int) -> DiskFull | None:
        """Why no majority of the voters could take a write, by the free bytes that they told; None if one
        could. The own disk is judged elsewhere, and who was never heard is not counted."""
        voters = self._raft.voters
        told = {v: self.states[v].status.free_bytes for v in voters if v in self.states}
        full = {voter: free for voter, free in told.items() if free < free_bytes_min}
        if len(voters) - len(full) >= majority(len(voters)):
            return None
        listed = ", ".join(f"{voter} ({free} bytes free)" for voter, free in sorted(full.items()))
        return DiskFull(
            f"no majority of the voters has room: {listed}, and {free_bytes_min} are kept free",
            remedy="make room there; writes go on by themselves",
        )

    def snapshot_holders(self, index: int, digest: bytes) -> tuple[list[str], list[str]]:
        """Other members that reported exactly this snapshot, and those that reported a newer one: these may
        have made this one on the way, or installed behind it."""
        newest = {node_id: state.status for node_id, state in self.states.items()}
        exact = [n for n, s in newest.items() if (s.snapshot_index, s.snapshot_digest) == (index, digest)]
        return exact, [n for n, s in newest.items() if s.snapshot_index > index]

    def majority_snapshot(self, own: tuple[int, bytes], configuration: Configuration) -> tuple[int, bytes]:
        """(index, digest) of the newest snapshot that a majority of the voters reported, or (0, b"")."""
        needed = majority(len(configuration.voters))
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


def _moved(heartbeat: Append, to: Append) -> Append:
    """The same without frames, at the point that `to`, of the same term, continues."""
    return heartbeat._replace(
        prev_index=to.prev_index, prev_term=to.prev_term, prev_chain=to.prev_chain, last_index=to.prev_index
    )
