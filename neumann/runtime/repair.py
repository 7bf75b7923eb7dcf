"""Damage to files that are the same everywhere is mended from a peer: tables by digest, segments by their
end.

What came is verified to its last bit before it takes the damaged file's place, durably, by a rename: a
segment by the point where the own log goes on (runtime/settled.py), as a peer may have another of its name.
Then published snapshots are linked to it, and open tables read from it. Who met the damage (a read, a merge,
the scrub) asks `mend` and goes on if it says True. One repair of a file at a time; one log line each.
Without a peer that has the file nothing is changed, nothing of it is served, and it is asked for again;
what becomes of one that no member has and that this node does not need says runtime/superseded.py.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeVar

from neumann.env import Disk, Env, Lane
from neumann.env.doors import DoneCallback
from neumann.errors import Corrupt, NeumannError, NotFound, StorageFailed, Unavailable
from neumann.format import names
from neumann.format.names import Paths
from neumann.raft import Raft
from neumann.runtime.metrics import Metrics
from neumann.runtime.settled import Settled
from neumann.snapshot import publish
from neumann.snapshot.fetch import Part, fetch_part
from neumann.store.store import Store
from neumann.store.table_reader import Table

log = logging.getLogger(__name__)

REMEDY = (
    "no peer that has this file could be reached: it is asked for again by the next read and the next scrub; "
    "neumann-admin rejoin fetches all of this node's state anew"
)
_REACH_TIMEOUT_S = 2.0
T = TypeVar("T")


class Mending(Enum):
    """How it ended. LATER: some member did not give it now. NOBODY: each other member says that it has no
    such file."""

    REPAIRED = 0
    LATER = 1
    NOBODY = 2


class _Asked(NamedTuple):
    """A file to mend: its kind, what to ask a peer for, and where it belongs."""

    kind: str
    method: str
    params: list[object]
    path: str


def _asked(paths: Paths, error: Corrupt) -> _Asked | None:
    """For the file that the error's detail names; None for one that is not the same everywhere. A merge names
    tables by where they lie in store/."""
    path = str(error.detail.get("path", ""))
    directory, name = posixpath.split(path)
    if names.parse_segment(name) is not None and directory == paths.wal:
        return _Asked("segment", "segment.read", [name], path)
    if names.parse_table(name) is not None and directory == paths.store:
        return _Asked("table", "table.read", [name], path)
    snapshot = posixpath.basename(directory)
    if names.parse_table(name) is not None and names.parse_snapshot(snapshot) is not None:
        return _Asked("table", "snapshot.read", [snapshot, name], path)
    return None


def is_of_table(paths: Paths, error: Corrupt) -> bool:
    """Whether the damaged file is a table, which a peer may have whatever this node's log says."""
    asked = _asked(paths, error)
    return asked is not None and asked.kind == "table"


class Repair:
    """One node's. `peers()` are the addresses to ask, `reopen(digest)` is told of a replaced table;
    `settled` knows which segments may be asked for: none without it."""

    def __init__(
        self,
        env: Env,
        lane: Lane,
        paths: Paths,
        metrics: Metrics,
        peers: Callable[[], list[str]],
        reopen: Callable[[bytes], None],
        settled: Settled | None = None,
    ) -> None:
        self._env = env
        self._lane = lane
        self._paths = paths
        self._metrics = metrics
        self._peers = peers
        self._reopen = reopen
        self._settled = settled
        self._running: dict[str, asyncio.Task[Mending]] = {}
        self._told: set[str] = set()
        self._waiting: set[asyncio.Task[bool]] = set()
        self._stopped = False

    async def mend(self, error: Corrupt) -> bool:
        """True once the file that the error's detail names has been replaced by a good one."""
        return await self.attempt(error) is Mending.REPAIRED

    async def attempt(self, error: Corrupt) -> Mending:
        """The same, and why not. Unavailable if the node stops meanwhile."""
        asked = _asked(self._paths, error)
        if asked is None or self._stopped or not self._is_wanted(asked):
            return Mending.LATER
        task = self._running.get(asked.path)
        if task is None:
            mending = self._mend(asked, error.message)
            task = self._running[asked.path] = asyncio.get_running_loop().create_task(mending)
            task.add_done_callback(lambda _: self._running.pop(asked.path, None))
        await asyncio.wait([task])
        if task.cancelled():
            raise _stopping()
        return task.result()

    async def reading(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives; again where it met damage that could be mended, once for each file."""
        mended: set[object] = set()
        while True:
            try:
                return await read()
            except Corrupt as error:
                path = error.detail.get("path")
                if path in mended or not await self.mend(error):
                    raise Corrupt(error.message, remedy=REMEDY, detail=error.detail) from error
                mended.add(path)

    def submit(self, lane: Lane, work: Callable[[], Any], done: DoneCallback) -> None:
        """`lane.submit(work, done)`, and again where `work` met damage that could be mended, once for each
        file. `done` is called once, however the mending ends."""
        paths: set[object] = set()

        def ended(result: Any, error: BaseException | None) -> None:
            if isinstance(error, Corrupt) and not self._stopped and error.detail.get("path") not in paths:
                task = asyncio.get_running_loop().create_task(self.mend(error))
                self._waiting.add(task)
                task.add_done_callback(partial(mended, error))
            else:
                done(result, error)

        def mended(damage: Corrupt, task: asyncio.Task[bool]) -> None:
            self._waiting.discard(task)
            if task.cancelled():
                done(None, _stopping())
            elif (error := task.exception()) is not None:
                done(None, error)
            elif task.result():
                paths.add(damage.detail.get("path"))
                lane.submit(work, ended)
            else:
                done(None, damage)

        lane.submit(work, ended)

    async def stop(self) -> None:
        """Give up what is under way, and tell who waits; what was fetched stays in scratch/."""
        self._stopped = True
        tasks = [*self._running.values(), *self._waiting]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._lane.close()

    async def _mend(self, asked: _Asked, what: str) -> Mending:
        outcome, why = Mending.NOBODY, []
        for address in self._peers():
            try:
                await self._fetch(asked, address)
            except (NeumannError, OSError) as error:
                if not self._is_wanted(asked):
                    return Mending.LATER
                why.append(f"{address}: {error}")
                if not isinstance(error, NotFound):
                    outcome = Mending.LATER
                continue
            self._metrics.damaged(asked.kind, "repaired")
            self._told.discard(asked.path)
            log.error("mended %s with the copy of %s: %s", asked.path, address, what)
            return Mending.REPAIRED
        self._metrics.damaged(asked.kind, "unrepaired")
        if asked.path not in self._told:
            self._told.add(asked.path)
            log.error("%s; it can't be mended now (%s)", what, "; ".join(why) or "there is no peer")
        return outcome

    async def _fetch(self, asked: _Asked, address: str) -> None:
        """A read, a flush or an apply may wait for it: one byte, asked once, tells of a peer that is away."""
        disk, directory = self._env.disk, f"{self._paths.scratch}/repair"
        await self._env.net.call(address, asked.method, [*asked.params, 0, 1], _REACH_TIMEOUT_S)
        await self._lane.run(partial(disk.make_dirs, directory))
        name = posixpath.basename(asked.path)
        verify = partial(_check_table if asked.kind == "table" else self._check_segment, disk, name)
        part = Part(asked.method, asked.params, None, f"{directory}/{name}", verify)
        async for _ in fetch_part(self._env.net, address, disk, self._lane, part):
            pass
        replace = partial(self._replace, part.path, asked.path)
        if asked.kind == "table" or self._settled is None:
            await self._lane.run(replace)
        elif self._is_wanted(asked):
            await self._settled.lane.run(replace)  # what is dropped from now on is unlinked behind it
        else:
            await self._lane.run(partial(disk.unlink, part.path))
            raise NotFound(f"{asked.path} was dropped from the log meanwhile")

    def _replace(self, source: str, target: str) -> None:
        disk, directory = self._env.disk, posixpath.dirname(target)
        disk.rename(source, target)
        disk.sync_dir(directory)
        digest = names.parse_table(posixpath.basename(target))
        if digest is not None and directory == self._paths.store:
            publish.relink(disk, self._paths, posixpath.basename(target))
            self._reopen(digest)

    def _is_wanted(self, asked: _Asked) -> bool:
        name, settled = posixpath.basename(asked.path), self._settled
        return asked.kind == "table" or (settled is not None and settled.is_settled(name))

    def _check_segment(self, _: Disk, name: str, path: str) -> None:
        assert self._settled is not None
        if self._settled.end(name) is None:
            raise Corrupt(f"{path}: nothing says yet where {name} ends: the one behind it is damaged")
        self._settled.read(name, path)


def repair_of(
    env: Env,
    paths: Paths,
    metrics: Metrics,
    raft: Raft,
    store: Store,
    settled: Settled,
    silent_ns: Callable[[str], int] = lambda _: 0,
) -> Repair:
    """A member's: it asks all other members, the leader first, then those heard last; `silent_ns(node_id)`
    is how long one has not been heard."""

    def peers() -> list[str]:
        others = [m for m in raft.configuration.members if m.node_id != raft.node_id]
        others.sort(key=lambda m: (m.node_id != raft.leader, silent_ns(m.node_id)))
        return [m.address for m in others]

    return Repair(env, env.lane("repair"), paths, metrics, peers, store.reopen, settled)


def _check_table(disk: Disk, name: str, path: str) -> None:
    table = Table(disk, path, None)
    table.verify()
    if names.table_name(table.ref.digest) != name:
        raise Corrupt(f"{path}: is another table than {name}")


def _stopping() -> Unavailable:
    return Unavailable("this node is stopping", remedy="try again")


def as_error(error: BaseException) -> NeumannError:
    """What a client is told of a read that failed."""
    if isinstance(error, Corrupt):
        return Corrupt(error.message, remedy=error.remedy or REMEDY, detail=error.detail)
    return error if isinstance(error, NeumannError) else StorageFailed(f"this row can't be read: {error}")
