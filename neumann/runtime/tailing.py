"""Committed frames for who follows the log from outside: wal-receive. Nothing uncommitted leaves (R6)."""

from __future__ import annotations

import asyncio
from typing import Any

from neumann.errors import BadInput, NotFound, Unavailable, WrongHistory
from neumann.format import history as history_format
from neumann.format.ids import LogPoint
from neumann.runtime.member import Member

_BYTES_MAX = 4 * 1024 * 1024
_FRAMES_MAX = 4096
_WAIT_S_MAX = 10.0
_LOOK_AGAIN_S = 0.01


def describe(member: Member) -> list[object]:
    """[history as it is archived, [index, term, chain] that the log begins behind]."""
    return [history_format.encode(member.manifest.history), list(member.wal.base)]


async def read(
    member: Member,
    lane: Any,
    cluster_id: bytes,
    timeline: str,
    after: int,
    chain: int,
    bytes_max: int,
    wait_s: float,
) -> list[object]:
    """[commit index, this node's clock in ns, frames] behind the frame end `after`, whose chain value is
    given; where there is none yet, wait a little. WrongHistory: it is another log. NotFound: dropped.
    Unavailable: the member ended meanwhile."""
    own = member.identity
    if (own.cluster_id, str(own.timeline)) != (cluster_id, timeline):
        raise WrongHistory(
            f"this is cluster {own.cluster_id.hex()} timeline {own.timeline}, and timeline {timeline} of "
            f"{cluster_id.hex()} was asked for",
            remedy="it was restored, or is another one: run wal-receive again",
        )
    if not 0 < bytes_max <= _BYTES_MAX or not 0 <= wait_s <= _WAIT_S_MAX:
        raise BadInput(f"{bytes_max} bytes within {wait_s} s: more than {_BYTES_MAX}, or {_WAIT_S_MAX:g} s")
    deadline = asyncio.get_running_loop().time() + wait_s
    while _reached(member) <= after and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_LOOK_AGAIN_S)
    if member.failure is not None:
        raise Unavailable(f"this node does not serve: {member.failure}", remedy="another member has the log")
    reached, data = _reached(member), b""
    if reached > after:
        last = _run_end(member, LogPoint(after, 0, chain), reached, bytes_max)
        data = await lane.run(lambda: member.wal.read(after, last))
    return [reached, member.env.clock.wall_ns(), data]


def _reached(member: Member) -> int:
    """Committed, and durable here."""
    return min(member.raft.commit_index, member.raft.durable_index)


def _run_end(member: Member, after: LogPoint, reached: int, bytes_max: int) -> int:
    """The end of a run of whole frames behind `after`, none of them above `reached`."""
    log = member.raft.log
    if after.index < member.wal.base.index:
        raise NotFound(
            f"the log begins at {member.wal.base.index + 1}, and {after.index + 1} was asked for",
            remedy="it was dropped: begin another archive, with a snapshot",
        )
    found = log.end_at(after.index)
    if found is None or found.chain != after.chain:
        raise WrongHistory(f"the log here does not go on from what is archived through {after.index}")
    return min(log.run_after(after.index, bytes_max, _FRAMES_MAX).last_index, reached)
