"""The pipeline behind snapshot markers: a frozen memtable becomes a table, and a manifest names it.

Markers are worked off in their order, one at a time:

    flush job  ->  own merge awaited, if the marker installs it  ->  manifest built and made durable
               ->  store adopts it  ->  `on_snapshot`  ->  files nobody needs unlinked  ->  next merge begun

What a manifest says never depends on when a job ends (compaction.py); only how long it takes to be made
does. So a slow node falls behind and not apart. Everything here runs on the event loop; jobs run in the
helper process, and disk work in the lane.

A job whose helper died, or that met damage which a peer's copy mended, is run again; on a full disk the
pipeline waits for room. Anything else ends it: `on_failure` is told once, and no snapshot is made any more.
A member that ends stops it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from neumann.env import Disk, Jobs, Lane
from neumann.env.files import is_full, remove_temporaries
from neumann.errors import Corrupt, DiskFull, StorageFailed
from neumann.format import names
from neumann.format.manifest import Compaction, Manifest, TableRef, layout_digest
from neumann.format.special import Marker
from neumann.machine.state import MachineState
from neumann.store import jobs as store_jobs
from neumann.store.compaction import drops_tombstones, installs, next_manifest
from neumann.store.manifests import drop_naming, kept_manifests, remove_old, write_manifest
from neumann.store.memtable import Frozen
from neumann.store.store import Store
from neumann.store.table_reader import Table

ATTEMPTS_MAX = 3
RETRY_S = 0.5
DISK_FULL_RETRY_S = 2.0

Piece = tuple[str, int, int]
"""Part of a segment: (path, offset, length)."""
OnSnapshot = Callable[[Manifest, bytes, Marker], None]
"""A snapshot is durable: its manifest, its layout digest, its marker."""


class _Work(NamedTuple):
    marker: Marker
    frozen: Frozen
    state: MachineState
    pieces: Sequence[Piece]


class _Merge(NamedTuple):
    compaction: Compaction
    task: asyncio.Task[TableRef | None]


class Checkpointer:
    """One of each Store. What is submitted before `start` has cleared away waits for it."""

    def __init__(
        self,
        disk: Disk,
        jobs: Jobs,
        lane: Lane,
        store: Store,
        on_snapshot: OnSnapshot,
        on_failure: Callable[[Exception], None],
        pinned: Callable[[], list[bytes]] = list,
        mend: Callable[[Corrupt], Awaitable[bool]] | None = None,
        on_merged: Callable[[float, int], None] = lambda _seconds, _bytes: None,
    ) -> None:
        self._disk = disk
        self._jobs = jobs
        self._lane = lane
        self._store = store
        self._on_snapshot = on_snapshot
        self._on_failure = on_failure
        self._pinned = pinned
        self._mend = mend
        self._on_merged = on_merged
        self._waiting: deque[_Work] = deque()
        self._pipeline: asyncio.Task[None] | None = None
        self._merge: _Merge | None = None
        self._cleared = asyncio.Event()
        self._has_ended = False

    @property
    def is_busy(self) -> bool:
        """Whether a snapshot or a merge is under way."""
        return bool(self._waiting) or (self._merge is not None and not self._merge.task.done())

    @property
    def finished_compaction(self) -> int:
        """The marker that chose the compaction in flight, once its own merge is done: the leader's next
        marker may name it. 0 for none."""
        compaction, merge = self._store.manifest.compaction, self._merge
        is_done = merge is not None and merge.compaction == compaction and merge.task.done()
        return compaction.chosen_index if compaction and is_done and not self._has_ended else 0

    async def start(self) -> None:
        """Clear away what a crash left, and go on with the compaction that is in flight."""
        await self._lane.run(partial(self._clear_away, self._pinned()))
        self._cleared.set()
        self._begin_merge()

    def submit(self, marker: Marker, frozen: Frozen, state: MachineState, pieces: Sequence[Piece]) -> None:
        """Make the snapshot of a marker. `state` is a copy of the machine's at the marker, `pieces` the
        log from behind frozen.first up to frozen.point; the log keeps them until the snapshot is made.
        """
        assert marker.snapshot and state.applied == frozen.point
        if self._has_ended:
            return
        self._waiting.append(_Work(marker, frozen, state, pieces))
        if self._pipeline is None or self._pipeline.done():
            self._pipeline = asyncio.create_task(self._work_off())

    async def let_go(self, digest: bytes) -> bool:
        """Unlink a table that only older manifests name, if any does, and these, also where it is missing;
        False where it is needed, or a job may have written it for the next one."""
        merge, disk, directory = self._merge, self._disk, self._store.directory
        if self.is_busy or self._has_ended:
            return False
        output = merge.task.result() if merge else None
        needed = {ref.digest for ref in (*self._store.manifest.tables, *([output] if output else []))}
        if digest in needed or digest in self._pinned():
            return False

        def unlink() -> bool:
            if not drop_naming(disk, directory, digest):
                return False
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(posixpath.join(directory, names.table_name(digest)))
            return True

        return bool(await self._lane.run(unlink))

    async def drain(self) -> None:
        """Wait until every snapshot that was submitted is made, or the pipeline has failed."""
        if self._pipeline is not None:
            await asyncio.wait([self._pipeline])

    def stop(self) -> None:
        """Stop where it is, and take nothing more: the log has what is not in a snapshot yet."""
        self._has_ended = True
        for task in self._running():
            task.cancel()

    async def close(self) -> None:
        """The same, and wait until nothing runs any more."""
        self.stop()
        if running := self._running():
            await asyncio.wait(running)

    def _running(self) -> list[asyncio.Task[Any]]:
        tasks = [self._pipeline, self._merge.task if self._merge else None]
        return [task for task in tasks if task is not None and not task.done()]

    async def _work_off(self) -> None:
        try:
            await self._cleared.wait()  # what a job has written by then would be cleared away too
            while self._waiting and not self._has_ended:
                await self._checkpoint(self._waiting[0])
                self._waiting.popleft()
        except Exception as error:
            self._fail(error)

    async def _checkpoint(self, work: _Work) -> None:
        before = self._store.manifest
        assert work.frozen.first == before.point, "markers are worked off in order, each once"
        flushed = await self._flush(work, before.block_bytes)
        merged = None
        if installs(before, work.marker):
            assert self._merge is not None and self._merge.compaction == before.compaction
            merged = await self._merge.task
            self._merge = None
        manifest = next_manifest(before, work.state, work.marker, flushed, merged)

        def make_durable() -> tuple[Table, ...]:
            write_manifest(self._disk, self._store.directory, manifest)
            return self._store.open_tables(manifest)

        self._store.adopt(manifest, await self._on_disk(make_durable))
        self._on_snapshot(manifest, layout_digest(manifest), work.marker)
        if self._has_ended:
            return  # it differs from the majority's (R5): what came before it stays
        if self._merge is None or self._merge.task.done():
            output = self._merge.task.result() if self._merge else None
            keep = [*([output.digest] if output else []), *self._pinned()]
            await self._on_disk(partial(self._unlink_unneeded, keep))
        self._begin_merge()

    async def _flush(self, work: _Work, block_bytes: int) -> TableRef | None:
        frozen = work.frozen
        if not frozen.rows:
            return None
        params = {
            "directory": self._store.directory,
            "block_bytes": block_bytes,
            "pieces": list(work.pieces),
            "first": frozen.first.index + 1,
            "last": frozen.point.index,
            "skipped": frozen.skipped,
        }
        return await self._job(store_jobs.FLUSH, params)

    def _begin_merge(self) -> None:
        """Begin with the compaction of the manifest, unless that is what runs already."""
        manifest = self._store.manifest
        if manifest.compaction is None or self._merge is not None or self._has_ended:
            return
        params = {
            "directory": self._store.directory,
            "block_bytes": manifest.block_bytes,
            "inputs": [digest.hex() for digest in manifest.compaction.inputs],
            "drop_tombstones": drops_tombstones(manifest),
        }
        task = asyncio.create_task(self._merging(params))
        task.add_done_callback(self._merge_ended)
        self._merge = _Merge(manifest.compaction, task)

    async def _merging(self, params: Mapping[str, object]) -> TableRef | None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        output = await self._job(store_jobs.MERGE, params)
        self._on_merged(loop.time() - began_s, output.raw_bytes if output else 0)
        return output

    def _merge_ended(self, task: asyncio.Task[TableRef | None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._fail(error)

    async def _job(self, function: str, params: Mapping[str, object]) -> TableRef | None:
        """Run a job that writes a table, again where its helper died, the disk was full, or a file that it
        reads was damaged and has been mended; those of each file count apart, as many may be damaged."""
        attempts: Counter[object] = Counter()
        while True:
            try:
                fields = (await self._jobs.run(function, params))["table"]
            except DiskFull:
                await asyncio.sleep(DISK_FULL_RETRY_S)
            except StorageFailed:
                attempts["helper"] += 1
                if attempts["helper"] == ATTEMPTS_MAX:
                    raise
                await asyncio.sleep(RETRY_S)
            except Corrupt as error:
                damaged = error.detail.get("path")
                attempts[damaged] += 1
                if attempts[damaged] == ATTEMPTS_MAX or not self._mend or not await self._mend(error):
                    raise
            else:
                return TableRef(*fields) if fields else None

    async def _on_disk(self, work: Callable[[], Any]) -> Any:
        """Do small disk work in the lane, again where the disk was full."""
        while True:
            try:
                return await self._lane.run(work)
            except OSError as error:
                if not is_full(error):
                    raise StorageFailed(f"a snapshot could not be written: {error}") from error
                await asyncio.sleep(DISK_FULL_RETRY_S)

    def _clear_away(self, keep: list[bytes]) -> None:
        remove_temporaries(self._disk, self._store.directory)
        self._unlink_unneeded(keep)

    def _unlink_unneeded(self, keep: list[bytes]) -> None:
        """Old manifests, and the tables that neither a kept manifest nor `keep` names.

        Nothing while writes are paused: somebody may be copying the directory.
        """
        if self._store.manifest.pause is not None:
            return
        directory = self._store.directory
        remove_old(self._disk, directory)
        kept = kept_manifests(self._disk, directory)
        self._store.collect({ref.digest for manifest in kept for ref in manifest.tables} | {*keep})

    def _fail(self, error: Exception) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._on_failure(error)
