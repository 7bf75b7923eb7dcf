"""What a leader does unasked: markers, seals, the end of a pause (design section 4), its members.

Looked at after each change of the log and at each tick of the leader; each duty is one small function
that either proposes one special entry or nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from neumann.config import Config
from neumann.env import Clock
from neumann.format.limits import FEATURE_LEVEL
from neumann.format.special import Marker, Publish, Resume
from neumann.raft import Raft
from neumann.runtime.applier import Applier
from neumann.runtime.membership import Membership
from neumann.runtime.peers import Peers
from neumann.runtime.proposer import Proposer
from neumann.runtime.snapshots import Snapshots
from neumann.store.checkpoint import Checkpointer
from neumann.wal import Log

log = logging.getLogger(__name__)

_SECOND_NS = 1_000_000_000


class Duties:
    """One leader's duties; `began` resets them with each leadership."""

    def __init__(
        self,
        config: Callable[[], Config],
        clock: Clock,
        raft: Raft,
        wal: Log,
        proposer: Proposer,
        applier: Applier,
        peers: Peers,
        snapshots: Snapshots,
        checkpointer: Checkpointer,
        membership: Membership,
        archiving_wanted: Callable[[], bool],
    ) -> None:
        self._config = config
        self._clock = clock
        self._raft = raft
        self._wal = wal
        self._proposer = proposer
        self._applier = applier
        self._peers = peers
        self._snapshots = snapshots
        self._checkpointer = checkpointer
        self._membership = membership
        self._archiving_wanted = archiving_wanted
        self.began()

    def began(self) -> None:
        """This node became leader: nothing is on its way yet."""
        self._marker_index = 0
        self._resume_index = 0
        self._publish_ns = 0
        self._membership.began()
        self._sealed_ns = self._clock.monotonic_ns()
        self._snapshot_ns = self._clock.monotonic_ns()

    def look(self, *, ticked: bool = False) -> None:
        """Do what is due; what depends on time only at a tick. Called while the member leads."""
        if ticked:
            self._end_pause()
            self._membership.look()
        if self._marker_index <= self._applier.applied_index:
            self._mark(ticked)

    # --- markers ---------------------------------------------------------------------------------

    def _mark(self, ticked: bool) -> None:
        """At most one marker on its way, so that what is due is judged on an applied state."""
        if self._applier.state.pause is not None:
            return
        if self._snapshot_due():
            self.propose_marker(snapshot=True)
        elif ticked and self._seal_due():
            self.propose_marker(seal=True)

    def propose_marker(
        self, *, snapshot: bool = False, seal: bool = False, name: str = "", asked: bool = False
    ) -> int:
        """Create a marker's frame now; its index."""
        publish = Publish.NO
        if snapshot:
            due_ns = self._config().snapshot.publish_interval_s * _SECOND_NS
            published_ns = max(self._publish_ns, self._snapshots.published_ns)
            quiet = self._clock.monotonic_ns() - published_ns >= due_ns or self._snapshots.published is None
            publish = Publish.ASKED if asked else Publish.PERIODIC if quiet else Publish.NO
        paused = self._applier.state.pause is not None
        reported = self._peers.majority_snapshot(self._snapshots.newest, self._raft.configuration)
        marker = Marker(
            seal=seal or publish is not Publish.NO,
            snapshot=snapshot,
            name=name,
            reported_index=reported[0],
            reported_digest=reported[1],
            publish=publish,
            compaction=self._checkpointer.finished_compaction if snapshot and not paused else 0,
            feature_level=self._feature_level(),
        )
        now = self._clock.monotonic_ns()
        if snapshot:
            self._snapshot_ns = now
        if marker.publish:
            self._publish_ns = now
        if marker.seal:
            self._sealed_ns = now
        self._marker_index = self._proposer.propose_now(marker)
        return self._marker_index

    def _feature_level(self) -> int:
        """Raised when every member announces a higher one, was heard within a second, and so runs now."""
        current, now = self._applier.state.feature_level, self._clock.monotonic_ns()
        levels = [FEATURE_LEVEL]
        for member in self._raft.configuration.members:
            if member.node_id != self._raft.node_id:
                state = self._peers.states.get(member.node_id)
                is_near = state is not None and now - state.heard_ns <= _SECOND_NS
                levels.append(state.status.feature_level if state is not None and is_near else 0)
        level = max(current, min(levels))
        if level > current:
            log.info("all members know feature level %d: the cluster goes over to it", level)
        return level

    def _snapshot_due(self) -> bool:
        own, applier = self._config().snapshot, self._applier
        if self._snapshots.published is None and not self._snapshots.in_progress:
            return True  # nobody could join or catch up
        if applier.rows_since_snapshot >= own.interval_entries:
            return True
        if applier.bytes_since_snapshot >= own.interval_bytes:
            return True
        aged = self._clock.monotonic_ns() - self._snapshot_ns >= own.interval_s * _SECOND_NS
        return aged and applier.rows_since_snapshot > 0

    def _seal_due(self) -> bool:
        if self._wal.open_segment_bytes >= self._config().wal.segment_bytes_max:
            return True
        if not self._archiving_wanted():
            return False
        idle_ns = self._clock.monotonic_ns() - self._sealed_ns
        if self._applier.unsealed_entries:
            is_due = 0 < self._config().wal.archive_timeout * _SECOND_NS <= idle_ns
        else:
            is_due = idle_ns >= self._config().wal.archive_idle_interval_s * _SECOND_NS
        return is_due and not self._waits_for_archive()

    def _waits_for_archive(self) -> bool:
        """A sealed segment is not archived yet: another one would only stand behind it, and cost a run of
        archive_command. So what an archive gets at once grows with its slowness, and its lag does not: it
        stays below twice the time of a run, above archive_timeout. What counts against a bound in bytes is
        sealed all the same."""
        archiving, bound = self._applier.state.archiving, self._config().wal.archive_backlog_bytes_max
        if 0 < bound <= self._wal.open_segment_bytes:
            return False
        return archiving.on and self._wal.sealed_through > max(archiving.through, self._wal.base.index)

    # --- the rest --------------------------------------------------------------------------------

    def _end_pause(self) -> None:
        pause = self._applier.state.pause
        if pause is None or self._resume_index > self._applier.applied_index:
            return
        if self._proposer.now_ns() >= pause.until_ns:
            log.warning("the pause by %s has reached its limit; writes go on", pause.owner)
            self._resume_index = self._proposer.propose_now(Resume("expired"))
