"""Segments that a new leader's log lacks and the archive too: brought from a peer, or known to be gone.

A leader that was installed from a snapshot may begin behind archived-through. Every voter is asked for
the sealed segment that holds the first missing entry. Who has it gives it, and it is verified whole; it is
gone only where every voter has answered that it has none. A voter that is silent may have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from neumann.archive.archiver import Brought
from neumann.env.files import read_file
from neumann.errors import Corrupt, OutcomeUnknown, Unavailable, WrongHistory
from neumann.format import names
from neumann.format.ids import VOTER
from neumann.format.ids import Member as Peer
from neumann.runtime.member import Member
from neumann.snapshot.install import fetch_segment
from neumann.snapshot.segment_file import scan
from neumann.wal import SegmentInfo

_ASK_TIMEOUT_S = 5.0


def find(member: Member, cluster_id: bytes, timeline: str, index: int) -> list[object]:
    """Answer a leader: [name, bytes, first index, last index] of the first sealed, committed segment
    that ends at or behind `index`, or [] if there is none. WrongHistory for another log's leader."""
    own = member.identity
    if (own.cluster_id, str(own.timeline)) != (cluster_id, timeline):
        raise WrongHistory(f"this node is of cluster {own.cluster_id.hex()} timeline {own.timeline}")
    for segment in sealed(member, index - 1):
        return [segment.name, segment.bytes, segment.first_index, segment.last_index]
    return []


def sealed(member: Member, after_index: int) -> Sequence[SegmentInfo]:
    """Sealed segments, committed and durable to their last entry, that end behind after_index."""
    reached = min(member.raft.commit_index, member.raft.durable_index)
    return [s for s in member.wal.segments() if s.sealed and after_index < s.last_index <= reached]


async def bring(member: Member, lane: Any, first: int, last: int) -> Brought:
    """Look for entry `first`, of which the own log, behind `last`, has nothing. Corrupt or Unavailable:
    a peer has it, and it could not be brought."""
    own = member.identity
    peers = [m for m in member.raft.configuration.members if m.node_id != own.node_id]
    answers = await asyncio.gather(*(_ask(member, peer, first) for peer in peers))
    silent = [p.node_id for p, a in zip(peers, answers, strict=True) if a is None and p.role == VOTER]
    found = [(p, *a) for p, a in zip(peers, answers, strict=True) if a]
    for peer, name, size, begin, end in found:
        if begin <= first:
            path = f"{member.paths.scratch}/{name}"
            disk = member.env.disk
            await lane.run(partial(disk.make_dirs, member.paths.scratch))
            await fetch_segment(member.env.net, peer.address, disk, lane, path, name, size)
            await lane.run(partial(_check, member, path, name, end))
            return Brought(path, name, end)
    if silent:
        return Brought(silent=tuple(silent))
    return Brought(gone_through=min([last, *(begin - 1 for _, _, _, begin, _ in found)]))


async def _ask(member: Member, peer: Peer, first: int) -> tuple[str, int, int, int] | tuple[()] | None:
    """What the peer has; None if it does not say."""
    own = member.identity
    params: list[object] = [own.cluster_id, str(own.timeline), first]
    try:
        answer = await member.env.net.call(peer.address, "segment.find", params, _ASK_TIMEOUT_S)
    except (Unavailable, OutcomeUnknown):
        return None
    match answer:
        case (str() as name, int() as size, int() as begin, int() as end) if names.parse_segment(name) == (
            own.timeline,
            begin,
        ):
            return name, size, begin, end
        case () | []:
            return ()
    raise Corrupt(f"{peer.node_id} answered segment.find with {answer!r:.80}")


def _check(member: Member, path: str, name: str, end: int) -> None:
    """That the file is the named segment of this log, and goes together with the own one."""
    found, own = scan(read_file(member.env.disk, path), path, bodies=True), member.identity
    is_own = (found.header.cluster_id, found.header.timeline) == (own.cluster_id, own.timeline)
    base = member.wal.base
    if not is_own or found.last.index != end or (found.last.index == base.index and found.last != base):
        raise Corrupt(f"{path}: what a peer sent as {name} is not of this log")
