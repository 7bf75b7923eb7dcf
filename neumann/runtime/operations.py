"""What an operator asks of a leader: snapshot, pause and resume, restore point.

Each runs on the leader; runtime/node.py forwards to it. What is asked of the archive is in
archive_operations.py. A request is answered only by an entry that was proposed after it came, and a caller
who goes away cancels nothing (design section 9).
"""

from __future__ import annotations

import asyncio
from typing import Any

from neumann.errors import BadInput, NeumannError, NotFound, OutcomeUnknown, RefusedByState, Unavailable
from neumann.format import limits
from neumann.format import manifest as manifest_format
from neumann.format.manifest import layout_digest
from neumann.format.special import Pause, Resume
from neumann.format.times import time_text
from neumann.raft.quorum import majority
from neumann.runtime.member import Member

_LOOK_AGAIN_S = 0.01
_ASK_TIMEOUT_S = 2.0
_SECOND_NS = 1_000_000_000


async def snapshot(member: Member, timeout_s: float) -> dict[str, Any]:
    """A published snapshot on a majority; OutcomeUnknown with its id when time runs out."""
    needs_leader(member)
    term = member.raft.term
    index = member.duties.propose_marker(snapshot=True, asked=True)
    snapshot_id = f"{index}-{term}"
    member.pump()
    needed = majority(len(member.raft.configuration.voters))
    held: dict[str, bool] = {}
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                still_leads(member, term, f"snapshot {snapshot_id}")
                made = member.snapshots.made_at(index)
                if member.snapshots.newest[0] >= index and made is not None:
                    await look_for_holders(member, index, snapshot_id, made.digest, held)
                    holders = [node_id for node_id, holds in held.items() if holds]
                    voters = [h for h in holders if h in member.raft.configuration.voters]
                    if len(voters) + 1 >= needed:
                        break
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError:
        raise OutcomeUnknown(
            f"snapshot {snapshot_id} is not on a majority after {timeout_s:g} s; it goes on",
            remedy=f"look for {snapshot_id} in neumann-admin snapshot-list",
            detail={"id": snapshot_id},
        ) from None
    return {
        "id": snapshot_id,
        "index": index,
        "term": term,
        "time": time_text(made.time_ns),
        "digest": made.digest.hex(),
        "durable_on": sorted([member.identity.node_id, *holders]),
    }


async def look_for_holders(
    member: Member, index: int, snapshot_id: str, digest: bytes, held: dict[str, bool]
) -> None:
    """Note in `held` who has this very snapshot: by what it reported, or, where it has a newer one by now,
    by what it answers: a member that installed a newer one never had this."""
    exact, newer = member.peers.snapshot_holders(index, digest)
    held.update(dict.fromkeys(exact, True))
    for node_id in newer:
        known = member.raft.configuration.member(node_id)
        if node_id in held or known is None:
            continue
        asked = member.env.net.call(known.address, "snapshot.describe", [snapshot_id], _ASK_TIMEOUT_S)
        try:
            match await asked:
                case {"manifest": bytes() as data}:
                    found = manifest_format.decode(data, f"the answer of {node_id}")
                    held[node_id] = layout_digest(found) == digest
        except NotFound:
            held[node_id] = False
        except NeumannError:
            continue  # asked again until the caller's time ends


async def pause_writes(
    member: Member, owner: str, max_s: float, reason: str, timeout_s: float
) -> dict[str, Any]:
    """Pause client writes; returns when every reachable member has applied it."""
    needs_leader(member)
    if not 0 < max_s <= limits.PAUSE_MAX_S:
        raise BadInput(f"a pause of {max_s:g} s", remedy=f"more than 0 and at most {limits.PAUSE_MAX_S:g}")
    until_ns = member.proposer.now_ns() + int(max_s * _SECOND_NS)
    index = await member.proposer.submit_special(Pause(owner, until_ns, reason))
    laggards = await _applied_everywhere(member, index, timeout_s)
    names = [m.node_id for m in member.raft.configuration.members]
    return {
        "index": index,
        "until": time_text(until_ns),
        "applied_by": [n for n in names if n not in laggards],
        "laggards": laggards,
    }


async def resume_writes(member: Member) -> dict[str, Any]:
    """End the pause; RefusedByState if it had ended before."""
    needs_leader(member)
    pause = member.applier.state.pause
    if pause is None:
        raise RefusedByState(
            "no pause holds: it had expired, or somebody resumed before",
            remedy="what was copied meanwhile may hold later writes: verify it, or pause and copy again",
        )
    index = await member.proposer.submit_special(Resume("asked"))
    return {"index": index, "unchanged_since": member.applier.pause_index}


async def restore_point(member: Member, name: str) -> dict[str, Any]:
    """A named moment in the log; its segment is sealed so that it goes to the archive at once."""
    needs_leader(member)
    if not name or len(name.encode()) > limits.RESTORE_POINT_BYTES_MAX:
        raise BadInput(f"{name!r} is no name for a restore point", remedy="1 to 128 bytes")
    if any(known == name for known, _, _ in member.snapshots.restore_points):
        raise RefusedByState(f"a restore point {name!r} is in the log already", remedy="choose another name")
    term = member.raft.term
    index = member.duties.propose_marker(seal=True, name=name)
    await applied(member, index, term)
    time_ns = next(time for _, at, time in member.snapshots.restore_points if at == index)
    return {"name": name, "index": index, "time": time_text(time_ns, 9)}


async def applied(member: Member, index: int, term: int) -> None:
    """Wait until the entry that was created at `index` in `term` is applied."""
    member.pump()
    while member.applier.applied_index < index:
        still_leads(member, term, f"entry {index}")
        await asyncio.sleep(_LOOK_AGAIN_S)
    still_leads(member, term, f"entry {index}")


async def _applied_everywhere(member: Member, index: int, timeout_s: float) -> list[str]:
    """Members that, when time runs out, have not told that they applied `index` and that their
    background work has ended."""
    others = [m.node_id for m in member.raft.configuration.members if m.node_id != member.identity.node_id]
    deadline_ns = member.env.clock.monotonic_ns() + int(min(timeout_s, 10.0) * _SECOND_NS)
    while True:
        states = {n: member.peers.states.get(n) for n in others}
        late = [n for n, s in states.items() if s is None or s.status.applied_index < index or s.status.busy]
        now = member.env.clock.monotonic_ns()
        silent_ns = 3 * member.config.raft.election_timeout_ms * 1_000_000
        hopeful = [n for n in late if (s := states[n]) is not None and now - s.heard_ns < silent_ns]
        is_busy = member.checkpointer.is_busy or member.snapshots.in_progress
        if not (hopeful or is_busy) or now >= deadline_ns:
            return late
        await asyncio.sleep(_LOOK_AGAIN_S)


def needs_leader(member: Member) -> None:
    """Unavailable unless this node leads."""
    if not member.leads:
        raise Unavailable("this node does not lead", remedy="try again: a leader is being found")


def still_leads(member: Member, term: int, what: str) -> None:
    """In a later term, led by this node again, another entry may stand in that place."""
    if not member.leads or member.raft.term != term:
        why = str(member.failure or member.raft.left_because)
        raise OutcomeUnknown(
            f"this node stopped leading while {what} was on its way{': ' + why if why else ''}",
            remedy="look, then try again",
        )
