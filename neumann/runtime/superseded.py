"""Damaged files that this node does not need, and that no other member has: they go, or go aside.

Peers keep a table, a segment or a snapshot as long as they need it and no longer, so damage in what only this
node still keeps can't be mended (runtime/repair.py). It is not served either, and would be reported for ever.

    a table that only an older manifest names    dropped, with that manifest: the newest supersedes it
    an older manifest                            dropped
    a snapshot of this history, published        set aside whole: not listed, chosen or copied any more
      before the newest one
    a sealed segment                             dropped, with the log before it, where a published snapshot
                                                 has it, and the archive, if archiving is on (R7)

Everything else stays as it is and is asked for again: a newer file is needed, and what is of another history
or release in raft/snapshots/ a person has put there. Nothing goes while a pause holds: somebody copies the
directory. The scrub calls it; a file that somebody else removed meanwhile has gone, too.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable
from functools import partial

from neumann.env import Disk, Env, Lane
from neumann.errors import Corrupt, FormatTooNew
from neumann.format import names
from neumann.format.history import History
from neumann.format.names import Paths
from neumann.recovery import swap
from neumann.runtime.retaining import Retaining
from neumann.runtime.snapshots import Snapshots
from neumann.store.checkpoint import Checkpointer
from neumann.store.manifests import read_manifest

DROPPED, SET_ASIDE, NEEDED = "dropped", "set_aside", ""


class Superseded:
    """One member's; `io_lane` is where manifests are written, and snapshots published and pruned."""

    def __init__(
        self,
        env: Env,
        paths: Paths,
        io_lane: Lane,
        checkpointer: Checkpointer,
        snapshots: Snapshots,
        retaining: Retaining,
        *,
        is_paused: Callable[[], bool],
    ) -> None:
        self._disk = env.disk
        self._clock = env.clock
        self._paths = paths
        self._io_lane = io_lane
        self._checkpointer = checkpointer
        self._snapshots = snapshots
        self._retaining = retaining
        self._is_paused = is_paused

    async def let_go(self, path: str) -> str:
        """What became of this damaged file: DROPPED or SET_ASIDE; NEEDED where it stays."""
        if self._is_paused():
            return NEEDED
        directory, name = posixpath.split(path)
        if directory == self._paths.wal:
            return DROPPED if self._retaining.let_go(name) else NEEDED
        if directory != self._paths.store:
            return str(await self._io_lane.run(partial(self._aside, directory)))
        digest = names.parse_table(name)
        if digest is not None:
            return DROPPED if await self._checkpointer.let_go(digest) else NEEDED
        if (names.parse_manifest(name) or (0, 0)) >= self._snapshots.manifest.point[:2]:
            return NEEDED
        with contextlib.suppress(FileNotFoundError):
            await self._io_lane.run(partial(self._disk.unlink, path))
        return DROPPED

    def _aside(self, directory: str) -> str:
        disk, paths, newest = self._disk, self._paths, self._snapshots.published
        snapshot_id = posixpath.basename(directory)
        if newest is None or (names.parse_snapshot(snapshot_id) or newest.point) >= newest.point[:2]:
            return NEEDED
        if disk.exists(directory) and not _may_be_of(newest.history, disk, directory):
            return NEEDED
        aside = f"{paths.aside}/{swap.new_aside_id(disk, paths, self._clock.wall_ns())}"
        disk.make_dirs(aside)
        try:
            disk.rename(directory, f"{aside}/{snapshot_id}")
        except FileNotFoundError:
            disk.remove_tree(aside)
            return DROPPED
        disk.sync_dir(aside)
        disk.sync_dir(paths.snapshots)
        return SET_ASIDE


def _may_be_of(history: History, disk: Disk, directory: str) -> bool:
    """Whether a snapshot's manifest says that it is of this history, or is damaged and says nothing."""
    try:
        return read_manifest(disk, f"{directory}/{names.MANIFEST}").history == history
    except Corrupt:
        return True
    except (FileNotFoundError, FormatTooNew):
        return False
