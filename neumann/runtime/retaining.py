"""Drops what nobody needs of a member's log (R7; wal/retention.py decides how far).

The log is dropped behind every snapshot. Not while a pause holds: it is copied. Not by a leader with an
archive command before the entry that switches archiving on: that is on its way, and names where this log
begins.
"""

from __future__ import annotations

from typing import Protocol

from neumann.archive.archiver import is_held
from neumann.config import Config
from neumann.env import Env, Lane
from neumann.format import names
from neumann.format.manifest import Manifest
from neumann.format.names import Paths
from neumann.raft import Raft
from neumann.runtime.applier import Applier
from neumann.runtime.snapshots import Snapshots
from neumann.wal import Drop, Log
from neumann.wal.retention import retain, unneeded_through


class Retained(Protocol):
    """Whose log it is."""

    env: Env
    config: Config
    paths: Paths
    wal: Log
    raft: Raft
    applier: Applier
    snapshots: Snapshots
    manifest: Manifest

    @property
    def leads(self) -> bool: ...

    def fail(self, error: BaseException) -> None: ...


class Retaining:
    """One member's; `lane` is the log's."""

    def __init__(self, member: Retained, lane: Lane) -> None:
        self._member = member
        self._lane = lane

    def drop(self) -> None:
        """Drop what no snapshot, archive or follower needs."""
        if self._is_kept():
            return
        wal, keep = self._member.wal, self._member.config.wal.retain_entries
        through = retain(wal.segments(), *self._needs(), retain_entries=keep)
        dropped = wal.drop_before(through) if through > wal.base.index else None
        if dropped is not None:
            self._unlink(dropped)

    def let_go(self, name: str) -> bool:
        """Drop the log up to the end of this segment, for followers too: no member has a whole copy of it.
        False if a snapshot or the archive needs it."""
        wal, parsed = self._member.wal, names.parse_segment(name)
        following = next(
            (s.first_index for s in wal.segments() if parsed and s.first_index > parsed[1]), None
        )
        if following is None or following - 1 > unneeded_through(*self._needs()) or self._is_kept():
            return False
        self._unlink(wal.let_go(following - 1))
        return True

    def _is_kept(self) -> bool:
        member, state = self._member, self._member.applier.state
        is_off = not state.archiving.on and not is_held(member.manifest.history, state.archiving)
        begins = is_off and member.leads and bool(member.config.wal.archive_command)
        return state.pause is not None or begins

    def _needs(self) -> tuple[int, int | None]:
        """(newest published snapshot, archived through; None: archiving is off)."""
        member, archiving = self._member, self._member.applier.state.archiving
        snapshot_index = min(member.manifest.point.index, member.snapshots.published_index)
        return snapshot_index, archiving.through if archiving.on else None

    def _unlink(self, dropped: Drop) -> None:
        member = self._member
        member.raft.compact_to(member.wal.base)
        self._lane.submit(dropped.run, lambda _, error: member.fail(error) if error else None)
