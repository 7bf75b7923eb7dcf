"""What peers say to each other: the values that raft/ speaks in, and their bytes on the wire.

A peer message is a MessagePack array

    [cluster_id, counter, random, from_node, from_storage, kind, fields, status, frames]

where `frames` is a bin of whole frames (Append only, else empty) and `status` is what a follower tells
of itself in its answers (Status), nil in requests. Requests (VoteRequest, Append, SnapshotOffer,
TimeoutNow) travel on a connection that the sender dialled; the answers (VoteReply, AppendReply) come
back on that same connection, and are believed from nowhere else (design section 6).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from neumann.errors import BadInput, Corrupt
from neumann.format import frame as frame_format
from neumann.format.fields import build, checked, types_of
from neumann.format.frame import Frame
from neumann.format.ids import Timeline


class VoteRequest(NamedTuple):
    """RequestVote, or its pre-vote form (raft paper 5.2, thesis 9.6).

    `transfer`: the leader itself asked for this election, so a voter that hears from it may answer.
    """

    term: int
    last_index: int
    last_term: int
    pre: bool
    transfer: bool


class VoteReply(NamedTuple):
    """`term` is the voter's; a granted pre-vote repeats the term that was asked for.

    `candidate`: the storage id whose request this answers. Two storages of one node id may stand in the
    same term, and the newer connection gets the answers of both.
    """

    term: int
    granted: bool
    pre: bool
    candidate: bytes


class Append(NamedTuple):
    """AppendEntries and heartbeat in one (raft paper figure 2).

    (prev_index, prev_term, prev_chain) must be the end of a frame of the receiver. A leader's core
    says with `last_index` which frames go out (== prev_index: none); the runtime attaches their bytes,
    and the receiver finds them in `frames`. `round` counts the leader's heartbeat rounds for ReadIndex
    and check-quorum; the answer repeats it.
    """

    term: int
    prev_index: int
    prev_term: int
    prev_chain: int
    commit_index: int
    round: int
    last_index: int
    frames: tuple[Frame, ...] = ()


class AppendReply(NamedTuple):
    """`ok`: durable up to (match_index, match_term). Else: the leader may try again behind match_index,
    the last index before the conflict or the log's end, whose term is match_term."""

    term: int
    ok: bool
    match_index: int
    match_term: int
    round: int


class SnapshotOffer(NamedTuple):
    """The follower is behind the leader's log: it shall fetch this published snapshot.

    Answered with AppendReply once it is installed; with ok=False while it is being fetched.
    """

    term: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    snapshot_term: int
    chain: int
    round: int


class TimeoutNow(NamedTuple):
    """Leadership transfer: campaign at once (thesis 3.10)."""

    term: int


Message = VoteRequest | VoteReply | Append | AppendReply | SnapshotOffer | TimeoutNow
_KINDS: tuple[type, ...] = (VoteRequest, VoteReply, Append, AppendReply, SnapshotOffer, TimeoutNow)
_NUMBER = {cls: number for number, cls in enumerate(_KINDS)}
_APPEND_FIELDS = 7
"""What of an Append travels in `fields`: all but its frames."""
_FIELD_TYPES = tuple(types_of(cls)[:_APPEND_FIELDS] for cls in _KINDS)
_ENVELOPE_TYPES = (bytes, int, int, str, bytes, int, bytes)


class Status(NamedTuple):
    """What a member tells of itself in its answers (design section 6).

    `busy`: a snapshot or a merge is under way in the background.
    """

    start_number: int
    clock_ns: int
    free_bytes: int
    feature_level: int
    snapshot_index: int
    snapshot_digest: bytes
    applied_index: int
    busy: bool


class Envelope(NamedTuple):
    """A peer message with who sent it and of which history."""

    cluster_id: bytes
    timeline: Timeline
    node_id: str
    storage_id: bytes
    message: Message
    status: Status | None = None


def encode(envelope: Envelope, frames: bytes = b"") -> bytes:
    """The bytes of a peer message; `frames` are the bytes that an Append carries."""
    message = envelope.message
    fields = message[:_APPEND_FIELDS] if isinstance(message, Append) else message
    packed: bytes = msgpack.packb(
        (
            envelope.cluster_id,
            *envelope.timeline,
            envelope.node_id,
            envelope.storage_id,
            _NUMBER[type(message)],
            fields,
            envelope.status,
            frames,
        ),
        use_bin_type=True,
    )
    return packed


def decode(data: bytes) -> Envelope:
    """The message in those bytes. BadInput: no such message; Corrupt: its frames are damaged."""
    try:
        plain: tuple[Any, ...] = msgpack.unpackb(data, use_list=False, raw=False)
        cluster_id, counter, random, node_id, storage_id, number, fields, status, frames = plain
        checked((cluster_id, counter, random, node_id, storage_id, number, frames), _ENVELOPE_TYPES)
        message = _KINDS[number](*checked(fields, _FIELD_TYPES[number]))
        told = None if status is None else build(Status, status)
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise BadInput(f"not a peer message: {error}") from error
    if isinstance(message, Append):
        message = message._replace(frames=_frames_of(message, frames))
    elif frames:
        raise BadInput("not a peer message: only an append carries frames")
    return Envelope(cluster_id, Timeline(counter, random), node_id, storage_id, message, told)


def _frames_of(message: Append, data: bytes) -> tuple[Frame, ...]:
    run = frame_format.decode_run(data)
    first_index, parent = message.prev_index + 1, message.prev_chain
    if run and (run[0].header.first_index, run[0].header.parent) != (first_index, parent):
        raise Corrupt("the frames of an append do not continue from its prev")
    if message.last_index != (run[-1].header.last_index if run else message.prev_index):
        raise Corrupt("the frames of an append do not end at its last index")
    return run
