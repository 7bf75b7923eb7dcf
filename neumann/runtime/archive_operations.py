"""What an operator asks of the archive: archive-flush, archive-check, archive-stop.

Each runs on the leader, as those of operations.py do. Archiving is the cluster's state, in the log, and
not a node's setting (R7): an empty archive_command pauses it and keeps the log, `stop` ends it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from neumann.archive.archiver import Archiver
from neumann.errors import BadInput, OutcomeUnknown, RefusedByState, Unavailable
from neumann.format import limits, names
from neumann.format.special import Break
from neumann.format.times import time_text
from neumann.runtime.member import Member
from neumann.runtime.operations import applied, needs_leader, restore_point, still_leads

_LOOK_AGAIN_S = 0.01

HELD = "this cluster was made from another one's backup, and archives nothing before that is asked for"
HELD_REMEDY = "give archive_command a place of its own, then neumann-admin archive-check --begin"


async def flush(member: Member, archiver: Archiver, timeout_s: float) -> dict[str, Any]:
    """Seal the open segment and wait until the archive has it."""
    await _begun(member, archiver, timeout_s)
    term = member.raft.term
    index = member.duties.propose_marker(seal=True)
    await applied(member, index, term)
    await _archived(member, archiver, index, term, timeout_s)
    return {"sealed": index, "archived_through": member.applier.state.archiving.through}


async def check(member: Member, archiver: Archiver, timeout_s: float, *, begin: bool) -> dict[str, Any]:
    """Name a restore point, seal, and wait until the file with it is archived. Who can read the archive
    looks into `file` there: the exit code of archive_command is all that is known here. `begin`: also in a
    cluster that was made from another one's backup, which archives nothing before that is said once."""
    needs_leader(member)
    if begin and member.config.wal.archive_command:
        archiver.begin()
    await _begun(member, archiver, timeout_s)
    term = member.raft.term
    point = await restore_point(member, f"archive-check-{time_text(member.env.clock.wall_ns(), 9)}")
    index = int(point["index"])
    first = next(s.first_index for s in member.wal.segments() if s.first_index <= index <= s.last_index)
    await _archived(member, archiver, index, term, timeout_s)
    return {
        **point,
        "file": names.segment_name(member.identity.timeline, first),
        "cluster_id": member.identity.cluster_id.hex(),
        "archived_through": member.applier.state.archiving.through,
    }


async def name_point(member: Member, name: str, wait_s: float) -> dict[str, Any]:
    """A restore point; where there is an archive, wait so long for it. `archived`: it has the point."""
    point = await restore_point(member, name)
    index, term, state = int(point["index"]), member.raft.term, member.applier.state
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (wait_s if state.archiving.on and member.config.wal.archive_command else 0.0)
    while state.archiving.through < index and loop.time() < deadline:
        still_leads(member, term, f"the archiving of restore point {name}")
        await asyncio.sleep(_LOOK_AGAIN_S)
    return {**point, "archived": state.archiving.on and state.archiving.through >= index}


async def stop(member: Member, reason: str) -> dict[str, Any]:
    """End archiving with a named break. From then on the log is kept for the archive no more."""
    needs_leader(member)
    if not reason or len(reason.encode()) > limits.RESTORE_POINT_BYTES_MAX:
        raise BadInput(f"{reason!r} is no reason", remedy="say why in 1 to 128 bytes; it stands in the log")
    if member.config.wal.archive_command:
        raise RefusedByState(
            f"{member.identity.node_id} leads with an archive_command: archiving would begin again at once",
            remedy='set archive_command = "" on each node and restart it (the log is kept), then again',
        )
    if not member.applier.state.archiving.on:
        raise RefusedByState("archiving is not on", remedy="nothing is to be stopped")
    index = await member.proposer.submit_special(Break(0, 0, reason))
    return {"index": index, "archived_through": member.applier.state.archiving.through, "reason": reason}


async def _archived(member: Member, archiver: Archiver, index: int, term: int, timeout_s: float) -> None:
    """Wait until the log says that everything up to `index` is archived."""
    try:
        async with asyncio.timeout(timeout_s):
            while member.applier.state.archiving.through < index:
                still_leads(member, term, f"the archiving of entry {index}")
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError:
        through = member.applier.state.archiving.through
        why = archiver.status.last_error or "archive_command has not ended yet"
        raise OutcomeUnknown(
            f"archived through {through} of {index} after {timeout_s:g} s; {why}",
            remedy="it goes on; neumann-admin cluster-status shows how far it is",
        ) from None


async def _begun(member: Member, archiver: Archiver, timeout_s: float) -> None:
    """Refuse where nobody archives. A leader with a command switches archiving on: wait for that. What has
    failed is tried again at once."""
    needs_leader(member)
    is_on = member.applier.state.archiving.on
    if not member.config.wal.archive_command:
        what = "archiving is paused" if is_on else "archiving is not on"
        raise RefusedByState(
            f"{what}: {member.identity.node_id} leads and has no archive_command",
            remedy="set [wal] archive_command on every node",
        )
    if archiver.is_held:
        raise RefusedByState(f"archiving is held: {HELD}", remedy=HELD_REMEDY)
    archiver.retry()
    term = member.raft.term
    try:
        async with asyncio.timeout(timeout_s):
            while not member.applier.state.archiving.on:
                still_leads(member, term, "archiving")
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError:
        raise Unavailable("archiving has not begun yet", remedy="try again") from None
