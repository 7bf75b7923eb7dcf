"""From a marker in the log to a snapshot on disk, published and pruned; the same on every node (R5).

A marker that says `snapshot` freezes the memtable at exactly its index. The flush may begin when the
node's own log is synced up to there (R16); the Checkpointer then makes the manifest durable in marker
order. What a leader reported for an index is compared with what this node made: who differs stops. A
member that has ended makes no snapshot, publishes none and prunes none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from neumann.config import SnapshotConfig
from neumann.env import Clock, Disk, Lane
from neumann.env.files import is_full
from neumann.format.frame import FrameHeader
from neumann.format.manifest import Manifest
from neumann.format.names import Paths
from neumann.format.special import Marker, Publish
from neumann.machine.state import MachineState
from neumann.runtime.metrics import Metrics
from neumann.snapshot import prune, publish
from neumann.store.checkpoint import Checkpointer
from neumann.store.memtable import Frozen
from neumann.store.store import Store
from neumann.wal import Log

log = logging.getLogger(__name__)

_KNOWN_MAX = 64
_DISK_FULL_RETRY_S = 2.0


class _Marked(NamedTuple):
    header: FrameHeader
    marker: Marker
    frozen: Frozen
    state: MachineState
    started_ns: int


class Known(NamedTuple):
    """A snapshot that was made here: its layout digest, and the log time of its marker."""

    digest: bytes
    time_ns: int


class Snapshots:
    """One member's snapshots. `newest` is the newest whose work is done, publishing included."""

    def __init__(
        self,
        disk: Disk,
        paths: Paths,
        store: Store,
        wal: Log,
        checkpointer: Checkpointer,
        io_lane: Lane,
        clock: Clock,
        metrics: Metrics,
        manifest: Manifest,
        digest: bytes,
        published: Manifest | None,
        *,
        durable_index: Callable[[], int],
        settings: Callable[[], SnapshotConfig],
        on_done: Callable[[Manifest], None],
        on_diverged: Callable[[str], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.newest: tuple[int, bytes] = (manifest.point.index, digest)
        self.manifest = manifest
        self.published = published
        self.published_ns = 0
        self.restore_points: list[tuple[str, int, int]] = []
        self._disk = disk
        self._paths = paths
        self._store = store
        self._wal = wal
        self._checkpointer = checkpointer
        self._io_lane = io_lane
        self._clock = clock
        self._metrics = metrics
        self._durable_index = durable_index
        self._settings = settings
        self._on_done = on_done
        self._on_diverged = on_diverged
        self._on_failure = on_failure
        self._known: dict[int, Known] = {manifest.point.index: Known(digest, manifest.time_ns)}
        self._reported: dict[int, bytes] = {}
        self._marked: deque[_Marked] = deque()
        self._started: dict[int, int] = {}
        self._made: deque[tuple[Manifest, bytes, Publish]] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._stopped = False
        metrics.snapshot_last_success_ns = max(metrics.snapshot_last_success_ns, manifest.time_ns)

    @property
    def published_index(self) -> int:
        """Index of the newest published snapshot: the log is kept from there on."""
        return self.published.point.index if self.published is not None else 0

    def pinned(self) -> list[bytes]:
        """Tables that stay in store/: of the newest published snapshot, so that whatever users delete in
        raft/snapshots/ can be linked again, and of all that wait to be published."""
        manifests = [*([self.published] if self.published else []), *(made[0] for made in self._made)]
        return [ref.digest for manifest in manifests for ref in manifest.tables]

    @property
    def in_progress(self) -> bool:
        """True while a marker's snapshot is not done."""
        return bool(self._started)

    def on_marker(self, header: FrameHeader, marker: Marker, state: MachineState) -> None:
        """A marker was applied."""
        if marker.name:
            self.restore_points.append((marker.name, header.first_index, header.time_ns))
        if marker.reported_index:
            self._compare(marker.reported_index, marker.reported_digest)
        if marker.snapshot and not self._stopped:
            now = self._clock.monotonic_ns()
            frozen = self._store.freeze(header.end, header.time_ns)
            self._started[header.first_index] = now
            self._marked.append(_Marked(header, marker, frozen, state.copy(), now))
            self._submit_durable()

    def durable(self) -> None:
        """The own log is synced further than before."""
        if self._marked:
            self._submit_durable()

    def _submit_durable(self) -> None:
        """`durable_index` is asked each time: a truncation lowers it."""
        while self._marked and self._marked[0].header.last_index <= self._durable_index():
            marked = self._marked.popleft()
            pieces = self._wal.locate(marked.frozen.first.index, marked.header.last_index)
            self._checkpointer.submit(marked.marker, marked.frozen, marked.state, pieces)

    def made(self, manifest: Manifest, digest: bytes, marker: Marker) -> None:
        """The manifest is durable and the store has adopted it."""
        self.manifest = manifest
        index = manifest.point.index
        self._known[index] = Known(digest, manifest.time_ns)
        for old in sorted(self._known)[:-_KNOWN_MAX]:
            del self._known[old]
        reported = self._reported.pop(index, None)
        if reported is not None:
            self._compare(index, reported)
        if self._stopped:
            return
        self._made.append((manifest, digest, marker.publish))
        if len(self._made) == 1:
            self._publish_next()

    def _publish_next(self) -> None:
        """Publish what is to be published, in the order of the markers, one at a time."""
        while self._made and not self._stopped:
            manifest, digest, publish_how = self._made[0]
            if publish_how is not Publish.NO:
                asked = publish_how is Publish.ASKED
                self._io_lane.submit(partial(self._publish, manifest, asked), self._publish_ended)
                return
            self._made.popleft()
            self._finish(manifest, digest)

    def _publish_ended(self, _: object, error: BaseException | None) -> None:
        """A full disk is waited for (R9)."""
        if self._stopped:
            return
        if error is not None:
            self._metrics.snapshot_failures += 1
            if not is_full(error):
                self._on_failure(error)
                return
            log.warning("a snapshot waits to be published: %s", error)
            self._retry = asyncio.get_running_loop().call_later(_DISK_FULL_RETRY_S, self._publish_next)
            return
        manifest, digest, _ = self._made.popleft()
        self.published = manifest
        self.published_ns = self._clock.monotonic_ns()
        self._finish(manifest, digest)
        self._publish_next()

    def _publish(self, manifest: Manifest, asked: bool) -> None:
        """In the lane, where it may have waited until the member ended."""
        if self._stopped:
            return
        publish.publish(self._disk, self._paths, manifest, asked=asked)
        if manifest.pause is not None:
            return
        own = self._settings()
        policy = prune.Policy(own.keep_newest, own.keep_hourly_days, own.keep_age_min_s)
        removed = prune.prune(self._disk, self._paths, policy, self._clock.wall_ns())
        for snapshot_id in removed:
            log.info("pruned the published snapshot %s", snapshot_id)

    async def audit(self) -> None:
        """Link again what users deleted from the newest published snapshot (design section 5).

        In the lane that publishes and prunes: none takes the other's work for debris.
        """
        published = self.published
        if published is None:
            return
        try:
            missing = await self._io_lane.run(partial(publish.audit, self._disk, self._paths, published))
        except OSError as error:
            log.warning("published snapshots can't be looked after: %s", error)
            return
        self._metrics.snapshot_files_missing += missing
        if missing:
            log.warning("%d files of snapshot %s were linked again", missing, published.snapshot_id)

    def stop(self) -> None:
        """Publish nothing more; the next start does what is left."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()

    def _finish(self, manifest: Manifest, digest: bytes) -> None:
        index = manifest.point.index
        self.newest = (index, digest)
        started = self._started.pop(index, None)
        if started is not None:
            self._metrics.snapshot_seconds.observe_ns(self._clock.monotonic_ns() - started)
        self._metrics.snapshot_last_success_ns = self._clock.wall_ns()
        self._on_done(manifest)

    def made_at(self, index: int) -> Known | None:
        """The snapshot that this node made at that marker, while it is remembered."""
        return self._known.get(index)

    def _compare(self, index: int, reported: bytes) -> None:
        own = self._known.get(index)
        if own is None:
            if index > self.newest[0]:
                self._reported[index] = reported
            return
        if own.digest != reported:
            self._on_diverged(
                f"snapshot {index} differs from the majority's: layout digest here {own.digest.hex()}, "
                f"reported {reported.hex()}"
            )
