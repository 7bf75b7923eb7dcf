"""The node's plain numbers, by the names of interface.md section 4 without their prefix.

server/metrics.py exports them; what has a label is a mapping from the label's value.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from neumann.archive.archiver import Archiver
from neumann.errors import DiskFull
from neumann.runtime.member import Member
from neumann.runtime.metrics import Metrics
from neumann.runtime.views import voters_configured

_CONFLICT_NS = 60_000_000_000
"""A peer of another timeline sends heartbeats: who was not heard for a minute is gone, or has given way."""


def of_node(metrics: Metrics, serves: bool, reason: str, now_ns: int) -> dict[str, Any]:
    """What every node tells, a member or not. `now_ns` is monotonic."""
    conflict_ns = metrics.rejected_last_ns.get("timeline", now_ns - _CONFLICT_NS)
    return {
        "serving": {reason or "ok": int(serves)},
        "leader_changes_total": metrics.leader_changes,
        "proposals_total": dict(metrics.proposals),
        "put_seconds": metrics.put_seconds,
        "get_seconds": {"linearizable": metrics.get_seconds, "stale": metrics.stale_get_seconds},
        "wal_fsync_seconds": metrics.fsync_seconds,
        "apply_seconds": metrics.apply_seconds,
        "snapshot_duration_seconds": metrics.snapshot_seconds,
        "snapshot_failures_total": metrics.snapshot_failures,
        "snapshot_files_missing": metrics.snapshot_files_missing,
        "snapshot_published": metrics.usage.published,
        "snapshot_pinned_bytes": metrics.usage.pinned_bytes,
        "aside_bytes": metrics.usage.aside_bytes,
        "compaction_seconds": metrics.compaction_seconds,
        "compaction_written_bytes_total": metrics.compaction_written_bytes,
        "loop_stall_seconds": metrics.loop_stall_seconds,
        "snapshot_last_success_timestamp_seconds": metrics.snapshot_last_success_ns / 1e9,
        "divergence_total": metrics.divergence,
        "scrub_last_success_timestamp_seconds": metrics.scrub_last_success_ns / 1e9,
        "corruption_total": dict(metrics.corruption),
        "rejected_peers_total": dict(metrics.rejected_peers),
        "timeline_conflict": int(now_ns - conflict_ns < _CONFLICT_NS),
    }


def of_member(member: Member) -> dict[str, Any]:
    """Raft, log, store and snapshots of a running member."""
    own, raft, now = member.identity, member.raft, member.env.clock.monotonic_ns()
    state, wall = member.applier.state, member.env.clock.wall_ns()
    peers = member.peers.states
    node = (own.node_id, own.cluster_id.hex(), str(own.timeline), own.storage_id.hex())
    lag = {n: raft.last.index - p.match_index for n, p in raft.progress.items() if n != own.node_id}
    segments = member.wal.segments()
    return {
        "node_info": {node: 1},
        "feature_level": state.feature_level,
        "is_leader": int(raft.role == "leader"),
        "has_leader": int(bool(raft.leader)),
        "term": raft.term,
        "last_log_index": raft.last.index,
        "commit_index": raft.commit_index,
        "applied_index": member.applier.applied_index,
        "members": dict(Counter(m.role for m in raft.configuration.members)),
        "voters_wanted": voters_configured(member),
        "peer_lag_entries": lag,
        "peer_contact_age_seconds": {n: (now - s.heard_ns) / 1e9 for n, s in peers.items()},
        "clock_skew_seconds": {
            n: (s.status.clock_ns + now - s.heard_ns - wall) / 1e9 for n, s in peers.items()
        },
        "log_time_ahead_seconds": max(0, state.time_ns - wall) / 1e9,
        "voting_floor": raft.floor[1],
        "wal_bytes": member.wal.disk_bytes,
        "wal_segments": len(segments),
        "wal_first_index": segments[0].first_index,
        "store_bytes": member.store.disk_bytes,
        "store_tables": len(member.manifest.tables),
        "store_memtable_bytes": member.store.memtable_bytes,
        "store_cache_requests_total": {
            "hit": member.store.rows.hits + member.store.cache.hits,
            "miss": member.store.cache.misses,
        },
        "snapshot_last_index": member.snapshots.newest[0],
        "snapshot_in_progress": int(member.snapshots.in_progress),
        "writes_paused": int(state.pause is not None),
        "writes_paused_until_timestamp_seconds": state.pause.until_ns / 1e9 if state.pause else 0,
        "disk_free_bytes": member.space.free_bytes,
        "disk_full": int(isinstance(member.write_gate(), DiskFull)),
        "archive_enabled": int(state.archiving.on),
        "archive_last_index": state.archiving.through,
        "recoverable_until_timestamp_seconds": member.lag.archived_time_ns / 1e9,
    }


def of_archive(archiver: Archiver, member: Member) -> dict[str, Any]:
    """What became of the archive's attempts here, and how far it is behind."""
    status, lag = archiver.status, archiver.lag()
    return {
        "archive_files_total": status.files_total,
        "archive_failures_total": dict(status.failures),
        "archive_last_success_timestamp_seconds": status.last_success_ns / 1e9,
        "archive_last_failure_timestamp_seconds": status.last_failure_ns / 1e9,
        "archive_backlog_segments": lag.segments,
        "archive_backlog_bytes": lag.bytes,
        "archive_lag_entries": lag.entries,
        "archive_lag_seconds": lag.seconds,
        "archive_broken": int(member.lag.break_index > member.wal.base.index),
    }
