"""What a node tells of itself: cluster-info, cluster-status, stats and the numbers for metrics.

All answers are plain, JSON-able dictionaries; digests in hex, moments as ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Any

from neumann.archive.archiver import Archiver
from neumann.format.ids import voters_wanted
from neumann.format.manifest import Manifest
from neumann.format.times import time_text
from neumann.raft.quorum import majority
from neumann.runtime.archive_operations import HELD, HELD_REMEDY
from neumann.runtime.member import Member

_SECOND_NS = 1_000_000_000
_FRESH_TIMEOUTS = 3
_FAILURES_MAX = 3
_LAG_TIMEOUTS_MAX, _ARCHIVE_TIMEOUT_S_MIN = 3, 20.0


def cluster_info(member: Member, rows: int) -> dict[str, Any]:
    """Ids, timeline history, members, the newest snapshot, entries and rows."""
    manifest = member.manifest
    history = manifest.history
    return {
        "cluster_id": history.cluster_id.hex(),
        "timeline": str(history.timeline),
        "node_id": member.identity.node_id,
        "storage_id": member.identity.storage_id.hex(),
        "leader": member.raft.leader,
        "term": member.raft.term,
        "history": [
            {
                "timeline": str(record.timeline),
                "parent": str(record.parent) if record.parent else None,
                "fork_index": record.fork_index,
                "fork_time": time_text(record.fork_time_ns) if record.fork_time_ns else None,
                "base_index": record.base_index,
                "created": time_text(record.time_ns),
                "reason": record.reason,
            }
            for record in history.records
        ],
        "members": [
            {
                "node_id": m.node_id,
                "address": m.address,
                "role": m.role,
                "storage_id": m.storage_id.hex(),
            }
            for m in member.raft.configuration.members
        ],
        "snapshot": snapshot_info(manifest, member.snapshots.newest[1]),
        "commit_index": member.raft.commit_index,
        "applied_index": member.applier.applied_index,
        "last_index": member.raft.last.index,
        "time": time_text(member.applier.state.time_ns),
        "rows": rows,
        "feature_level": manifest.feature_level,
    }


def snapshot_info(manifest: Manifest, digest: bytes) -> dict[str, Any]:
    """One snapshot in the words of `POST /admin/snapshot`."""
    return {
        "id": manifest.snapshot_id,
        "index": manifest.point.index,
        "term": manifest.point.term,
        "time": time_text(manifest.time_ns) if manifest.time_ns else None,
        "digest": digest.hex(),
    }


def members(member: Member) -> list[dict[str, Any]]:
    """One line a member, as this node knows it; the leader knows best."""
    raft, now = member.raft, member.env.clock.monotonic_ns()
    own, successors = member.identity.node_id, member.peers.successors
    lines: list[dict[str, Any]] = []
    for m in raft.configuration.members:
        progress = raft.progress.get(m.node_id)
        state = member.peers.states.get(m.node_id)
        match = raft.durable_index if m.node_id == own else None
        if progress is not None and progress.counts:
            match = progress.match_index
        free = member.space.free_bytes if m.node_id == own else state.status.free_bytes if state else None
        heard = 0.0 if m.node_id == own else (now - state.heard_ns) / 1e9 if state else None
        lines.append(
            {
                "node_id": m.node_id,
                "role": "leader" if m.node_id == raft.leader else m.role,
                "address": m.address,
                "storage_id": m.storage_id.hex(),
                "joined": bool(m.storage_id),
                "successor": successors[m.node_id].storage_id.hex() if m.node_id in successors else None,
                "match": match,
                "lag_entries": raft.last.index - match if match is not None else None,
                "contact_age_s": round(heard, 3) if heard is not None else None,
                "free_bytes": free,
            }
        )
    return lines


def verdict(member: Member, archiver: Archiver | None) -> tuple[str, str]:
    """("SAFE" | "DEGRADED" | "DOWN", why), as the leader sees it: everything that makes the cluster less
    safe than it is configured to be, and what a write survives all the same."""
    if not member.leads:
        return "DOWN", "no leader that could commit"
    voters = member.raft.configuration.voters
    silent = sorted({*voters} - heard_lately(member))
    replaced = [v for v in silent if v in member.peers.successors]
    lost = [v for v in silent if v not in replaced]
    wanted = voters_configured(member)
    troubles = [
        f"{', '.join(replaced)} lost its disk, and the new one catches up" if replaced else "",
        f"not heard from {', '.join(lost)} lately" if lost else "",
        f"{len(voters)} of {wanted} voters" if len(voters) < wanted else "",
        archive_trouble(member, archiver) if archiver is not None else "",
        str(member.write_gate() or ""),
    ]
    spare = max(0, len(voters) - len(silent) - majority(len(voters)))
    survives = f"a write now survives the loss of {spare} of {len(voters)} nodes"
    found = [trouble for trouble in troubles if trouble]
    return "DEGRADED" if found else "SAFE", "; ".join([*found, survives])


def heard_lately(member: Member) -> set[str]:
    """This leader, and the members that answered it within three election timeouts; who gives its state up
    (runtime/leaving.py) has not."""
    now = member.env.clock.monotonic_ns()
    fresh_ns = _FRESH_TIMEOUTS * member.config.raft.election_timeout_ms * 1_000_000
    heard = {n for n, state in member.peers.states.items() if now - state.heard_ns <= fresh_ns}
    answered = {n for n, progress in member.raft.progress.items() if progress.incarnation is not None}
    return (heard & answered) | {member.identity.node_id}


def voters_configured(member: Member) -> int:
    """How many voters the members, and the configured nodes that have not joined yet, should have."""
    own, configuration = member.config.node, member.raft.configuration
    wanted = {*own.peers, own.id, *(m.node_id for m in configuration.members)}
    return voters_wanted(len(wanted - {*configuration.removed} - {*configuration.held}))


def status(member: Member, archiver: Archiver | None = None) -> dict[str, Any]:
    """cluster-status, from the leader's own knowledge; less of the archive where there is no archiver."""
    word, reason = verdict(member, archiver)
    raft, state = member.raft, member.applier.state
    return {
        "verdict": word,
        "reason": reason,
        "node_id": member.identity.node_id,
        "cluster_id": member.identity.cluster_id.hex(),
        "timeline": str(member.identity.timeline),
        "leader": raft.leader,
        "term": raft.term,
        "commit_index": raft.commit_index,
        "applied_index": member.applier.applied_index,
        "voters_wanted": voters_configured(member),
        "members": members(member),
        "archive": {"on": state.archiving.on, "through": state.archiving.through}
        if archiver is None
        else archive(member, archiver),
        "paused": None
        if state.pause is None
        else {
            "owner": state.pause.owner,
            "until": time_text(state.pause.until_ns),
            "reason": state.pause.reason,
        },
    }


def archive_trouble(member: Member, archiver: Archiver) -> str:
    """Why the archive is not as it should be, "" if it is: judged by what it lacks and never by "the task
    runs" (design section 7). One failure that the next attempt mends is none."""
    own = member.config.wal
    if not member.applier.state.archiving.on:
        return f"{HELD}: {HELD_REMEDY}" if own.archive_command and archiver.is_held else ""
    if not own.archive_command:
        return "archiving is on, and the leader has no archive_command"
    status, lag = archiver.status, archiver.lag()
    if status.failures_in_a_row >= _FAILURES_MAX:
        return f"the archive has failed {status.failures_in_a_row} times in a row: {status.last_error}"
    bound_s = _LAG_TIMEOUTS_MAX * max(own.archive_timeout, _ARCHIVE_TIMEOUT_S_MIN)
    if own.archive_timeout and lag.seconds > bound_s:
        why = status.last_error or "archive_command does not end"
        return f"the archive is {lag.seconds:.0f} s behind (archive_timeout {own.archive_timeout} s): {why}"
    return ""


def archive(member: Member, archiver: Archiver) -> dict[str, Any]:
    """State of the archive, from lag and never from "the task runs" (design section 7)."""
    archiving, status, lag = member.applier.state.archiving, archiver.status, archiver.lag()
    trouble, reached_ns = archive_trouble(member, archiver), member.lag.archived_time_ns
    return {
        "on": archiving.on,
        "state": "off" if not archiving.on else "trouble" if trouble else "archiving",
        "trouble": trouble,
        "command": member.config.wal.archive_command,
        "through": archiving.through,
        "backlog_segments": lag.segments,
        "backlog_bytes": lag.bytes,
        "lag_seconds": round(lag.seconds, 3),
        "lag_entries": lag.entries,
        "broken": member.lag.break_index > member.wal.base.index,
        "files_total": status.files_total,
        "failures": dict(status.failures),
        "failures_in_a_row": status.failures_in_a_row,
        "recoverable_until": time_text(reached_ns) if reached_ns else None,
        "recoverable_age_s": round(max((member.env.clock.wall_ns() - reached_ns) / 1e9, lag.seconds), 3)
        if reached_ns
        else None,
        "last_file": status.last_file,
        "last_error": status.last_error,
        "last_success": time_text(status.last_success_ns) if status.last_success_ns else None,
        "last_failure": time_text(status.last_failure_ns) if status.last_failure_ns else None,
    }
