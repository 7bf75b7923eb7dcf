"""What belongs to one node alone: identity, vote, sync mark, divergence (design section 4, last part).

They lie in small files under raft/ and never in raft/snapshots/ or store/, so a backup does not clone
them. `vote` and `sync-mark` are two-slot files (format/record.py).
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from neumann.errors import Corrupt
from neumann.format import record
from neumann.format.fields import build, checked
from neumann.format.ids import Timeline

_VOTE_MAGIC = b"NEUVOT01"
_MARK_MAGIC = b"NEUMRK01"
_IDENTITY_MAGIC = b"NEUIDT01"
_DIVERGED_MAGIC = b"NEUDIV01"

T = TypeVar("T", bound=tuple[object, ...])


class Identity(NamedTuple):
    """Who this data directory is. Written once; without a vote record beside it, it is debris."""

    cluster_id: bytes
    timeline: Timeline
    node_id: str
    storage_id: bytes


class Vote(NamedTuple):
    """Term, vote and floor in one record, and how often this directory was started.

    `voted_for` is a node id or "" for nobody, `voted_storage` the storage id of that candidate: if a
    replaced member's old disk comes back, it is not who got the vote. The floor is the (term, index) of
    the last frame that may have been acknowledged before damage was set aside; (0, 0) for none.
    """

    term: int = 0
    voted_for: str = ""
    voted_storage: bytes = b""
    floor_term: int = 0
    floor_index: int = 0
    start_number: int = 0


class SyncMark(NamedTuple):
    """What fdatasync has surely covered: never ahead of it, at most about 20 ms behind.

    `segment_first` and `offset` say where the frame that ends at (index, term, chain) ends. The newest
    durable manifest stands beside it. `clean` is set by an orderly stop: then the log ends here.
    """

    segment_first: int
    offset: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    term: int
    chain: int
    manifest_index: int
    manifest_term: int
    clean: bool = False


class Diverged(NamedTuple):
    """This replica was found different from the others (R5): it neither serves nor votes until a rejoin."""

    text: str
    found_ns: int


def encode_diverged(diverged: Diverged) -> bytes:
    """The note's bytes."""
    return record.encode(_DIVERGED_MAGIC, list(diverged))


def decode_diverged(data: bytes, where: str) -> Diverged:
    """The note in those bytes; Corrupt names `where`."""
    try:
        return build(Diverged, record.decode(_DIVERGED_MAGIC, data, where))
    except ValueError as error:
        raise Corrupt(f"{where}: does not tell of a divergence: {error}") from error


def encode_identity(identity: Identity) -> bytes:
    """The identity file's bytes."""
    cluster_id, timeline, node_id, storage_id = identity
    return record.encode(_IDENTITY_MAGIC, [cluster_id, list(timeline), node_id, storage_id])


def decode_identity(data: bytes, where: str) -> Identity:
    """The identity in those bytes; Corrupt names `where`."""
    try:
        fields = checked(record.decode(_IDENTITY_MAGIC, data, where), (bytes, tuple, str, bytes))
        cluster_id, timeline, node_id, storage_id = fields
        return Identity(cluster_id, build(Timeline, timeline), node_id, storage_id)
    except ValueError as error:
        raise Corrupt(f"{where}: not an identity: {error}") from error


def encode_vote_slot(sequence: int, vote: Vote) -> bytes:
    """One slot of the vote file."""
    return record.encode_slot(_VOTE_MAGIC, (sequence, *vote))


def decode_vote(data: bytes, where: str) -> tuple[int, Vote]:
    """(sequence, vote) of the newest readable slot; Corrupt if none is."""
    return _slot_value(record.decode_slots(_VOTE_MAGIC, data, where), Vote, where)


def decode_vote_slot(data: bytes, slot: int, where: str) -> tuple[int, Vote]:
    """The same of one slot of the file; Corrupt if any byte of it is wrong."""
    return _slot_value(record.decode_slot(_VOTE_MAGIC, data, slot, where), Vote, where)


def encode_mark_slot(sequence: int, mark: SyncMark) -> bytes:
    """One slot of the sync mark file."""
    return record.encode_slot(_MARK_MAGIC, (sequence, *mark))


def decode_mark(data: bytes, where: str) -> tuple[int, SyncMark]:
    """(sequence, mark) of the newest readable slot; Corrupt if none is."""
    return _slot_value(record.decode_slots(_MARK_MAGIC, data, where), SyncMark, where)


def decode_mark_slot(data: bytes, slot: int, where: str) -> tuple[int, SyncMark]:
    """The same of one slot of the file; Corrupt if any byte of it is wrong."""
    return _slot_value(record.decode_slot(_MARK_MAGIC, data, slot, where), SyncMark, where)


def _slot_value(payload: tuple[object, ...], cls: type[T], where: str) -> tuple[int, T]:
    sequence, *fields = payload
    try:
        return checked((sequence,), (int,))[0], build(cls, tuple(fields))
    except ValueError as error:
        raise Corrupt(f"{where}: holds something else: {error}") from error
