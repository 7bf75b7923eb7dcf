"""PURE: how much of the log may be dropped (R7)."""

from __future__ import annotations

from collections.abc import Sequence

from neumann.wal.segment import SegmentInfo


def unneeded_through(snapshot_index: int, archived_through: int | None) -> int:
    """The index up to which nobody needs this node's log: it is in the newest published snapshot, and, where
    archiving is on (None: off), archived."""
    return snapshot_index if archived_through is None else min(snapshot_index, archived_through)


def retain(
    segments: Sequence[SegmentInfo],
    snapshot_index: int,
    archived_through: int | None,
    retain_entries: int,
    pinned_index: int | None = None,
) -> int:
    """The index up to which the log may be dropped: the end of a sealed segment, or before the first.

    Never past the newest published snapshot, never past archived_through where archiving is on (None:
    off), never past pinned_index (somebody still reads what follows it), and always so that at least
    `retain_entries` entries stay. The open segment stays.
    """
    assert segments and retain_entries >= 0
    needed_by_nobody = unneeded_through(snapshot_index, archived_through)
    limit = min(needed_by_nobody, segments[-1].last_index - retain_entries)
    if pinned_index is not None:
        limit = min(limit, pinned_index)
    dropped = segments[0].first_index - 1
    for segment in segments[:-1]:
        if not segment.sealed or segment.last_index > limit:
            break
        dropped = segment.last_index
    return dropped
