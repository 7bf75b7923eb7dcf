"""Reads every file of the store and the log again and again, so that damage is found before it is needed.

A pass reads tables, manifests, sealed segments and published snapshots, each byte of them, in a lane of its
own and no faster than [store] scrub_bytes_per_s (0: only when asked). A table that a manifest names and that
is not there is damage too, and so is a file that can't be read: neither ends the pass. What is damaged is
mended from a peer (runtime/repair.py), the newest manifests from memory; what nobody has and this node does
not need is let go (runtime/superseded.py), but not what can't be read: the file itself may be good. A pass
begins a while after the start, at once where the start had to pass over damage, then every hour, sooner
after one that left damage behind, and when somebody asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from neumann.config import Config
from neumann.env import Env
from neumann.env.files import read_file, write_durable
from neumann.errors import Corrupt, FormatTooNew
from neumann.format import manifest as manifest_format
from neumann.format import names
from neumann.format.names import Paths
from neumann.format.times import time_text
from neumann.runtime.metrics import Metrics
from neumann.runtime.repair import REMEDY, Mending, Repair
from neumann.runtime.settled import Settled
from neumann.runtime.snapshots import Snapshots
from neumann.runtime.superseded import Superseded
from neumann.store.store import Store
from neumann.store.table_reader import Table
from neumann.wal import Log
from neumann.wal.front import read_front

log = logging.getLogger(__name__)

FIRST_PASS_S = 60.0
PASS_S = 3600.0
AGAIN_S = 60.0
_STEP_BYTES = 256 * 1024
_LISTED_MAX = 20


@dataclass(slots=True)
class Progress:
    """The pass under way, or the last one. `scope`: kind -> [files, bytes] that were read; `not_read`:
    segments that are written to still; `damage`: the first things that were found, and what became of
    each; `unrepaired` counts what still lies there damaged."""

    running: bool = False
    begun_ns: int = 0
    expected_bytes: int = 0
    scope: dict[str, list[int]] = field(default_factory=dict)
    not_read: list[str] = field(default_factory=list)
    found: int = 0
    unrepaired: int = 0
    damage: list[dict[str, object]] = field(default_factory=list)


class Scrubbed(Protocol):
    """What of a member is looked after."""

    env: Env
    config: Config
    paths: Paths
    store: Store
    wal: Log
    settled: Settled
    snapshots: Snapshots
    repair: Repair
    superseded: Superseded
    metrics: Metrics

    def fail(self, error: BaseException) -> None: ...


class Scrub:
    """One member's. `start` it; `ask` begins a pass now. `is_urgent`: the start had to pass over damage."""

    def __init__(self, member: Scrubbed, *, is_urgent: bool) -> None:
        self.progress = Progress()
        self._member = member
        self._disk = member.env.disk
        self._lane = member.env.lane("scrub")
        self._paths = member.paths
        self._wal = member.wal
        self._repair = member.repair
        self._metrics = member.metrics
        self._wait_s = 0.0 if is_urgent else FIRST_PASS_S
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def _bytes_per_s(self) -> int:
        return self._member.config.store.scrub_bytes_per_s

    def start(self) -> None:
        """Begin to look after the files."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._member.fail(error)

    def halt(self) -> None:
        """Look no more: nothing is let go or set aside by a member that has ended."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """The same, and wait until nothing runs any more."""
        self.halt()
        if self._task is not None:
            await asyncio.wait([self._task])
        self._lane.close()

    def ask(self) -> None:
        """Begin a pass now, unless one is under way."""
        if not self.progress.running:
            self._begin()
            self._asked.set()

    def _begin(self) -> None:
        self.progress = Progress(running=True, begun_ns=self._member.env.clock.wall_ns())

    def describe(self) -> dict[str, Any]:
        """For GET /admin/verify."""
        now, last_ns = self.progress, self._metrics.scrub_last_success_ns
        scope = {kind: {"files": files, "bytes": size} for kind, (files, size) in now.scope.items()}
        return {
            "running": now.running,
            "begun": time_text(now.begun_ns, 9) if now.begun_ns else None,
            "files": sum(read["files"] for read in scope.values()),
            "bytes": sum(read["bytes"] for read in scope.values()),
            "expected_bytes": now.expected_bytes,
            "scope": scope,
            "not_read": list(now.not_read),
            "damaged": now.found,
            "unrepaired": now.unrepaired,
            "damage": list(now.damage),
            "bytes_per_s": self._bytes_per_s(),
            "last_success": time_text(last_ns) if last_ns else None,
        }

    async def _run(self) -> None:
        while True:
            is_asked = await self._wait()
            if not is_asked and self._wait_s and not self._bytes_per_s():
                continue
            try:
                await self._pass()
            except OSError as error:
                log.warning("the scrub could not read everything: %s", error)
                self._note(_unread(self._paths.root, error), error.filename or self._paths.root, "unrepaired")
            finally:
                self.progress.running = False
            self._wait_s = AGAIN_S if self.progress.unrepaired else PASS_S
            if not self.progress.unrepaired:
                self._metrics.scrub_last_success_ns = self._member.env.clock.wall_ns()

    async def _wait(self) -> bool:
        """Until the next pass is due; True if somebody asks for it, or did before this one was started."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                await self._asked.wait()
        is_asked = self._asked.is_set()
        self._asked.clear()
        return is_asked

    async def _pass(self) -> None:
        if not self.progress.running:
            self._begin()
        self.progress.expected_bytes = await self._lane.run(self._expected_bytes)
        # The newest first: where a file before the log's base ends is said by the one behind it.
        for name in reversed(await self._list(self._paths.wal)):
            path = f"{self._paths.wal}/{name}"
            if await self._lane.run(partial(self._member.settled.is_settled, name)):
                await self._check("log", path, partial(self._read_segment, path))
            elif not self._member.settled.was_dropped(name):
                self.progress.not_read.append(f"{path}: not sealed and committed yet")
        await self._take_front()
        manifests: list[str] = []
        for name in await self._list(self._paths.store):
            path = f"{self._paths.store}/{name}"
            if names.parse_table(name):
                await self._check("tables", path, partial(self._read_table, path))
            elif names.parse_manifest(name):
                manifests.append(path)
                await self._check(
                    "manifests", path, partial(self._read_manifest, path), self._rewrite_manifest
                )
        await self._check_named(manifests)
        for snapshot in filter(names.parse_snapshot, await self._list(self._paths.snapshots)):
            await self._check_snapshot(f"{self._paths.snapshots}/{snapshot}")

    async def _check_snapshot(self, directory: str) -> None:
        """Its tables are links to those in store/, where they were read, or were copied by somebody."""
        store = self._paths.store
        inodes = await self._lane.run(
            lambda: {0, *(self._inode(f"{store}/{name}") for name in self._disk.list(store))}
        )
        for name in await self._list(directory):
            path = f"{directory}/{name}"
            if name == names.MANIFEST:
                await self._check(
                    "manifests", path, partial(self._read_manifest, path), self._rewrite_manifest
                )
            elif names.parse_table(name) and await self._lane.run(partial(self._inode, path)) not in inodes:
                await self._check("tables", path, partial(self._read_table, path))
        newest = self._member.snapshots.published
        if newest is not None and newest.snapshot_id != posixpath.basename(directory):
            is_at_rest = await self._lane.run(partial(self._is_at_rest, directory))
            await self._check_named([f"{directory}/{names.MANIFEST}"], may_go=is_at_rest)

    async def _check_named(self, manifests: list[str], *, may_go: bool = True) -> None:
        """That the tables which these name are there. Those of the newest published snapshot are linked again
        every minute (snapshot/publish.py)."""
        told: set[str] = set()
        for manifest in manifests:
            for path in await self._lane.run(partial(self._missing, manifest)):
                if path not in told and await self._lane.run(partial(self._disk.exists, manifest)):
                    told.add(path)
                    damage = Corrupt(f"{path}: is missing, and {manifest} names it")
                    await self._found(damage, path, None, may_go=may_go)

    def _missing(self, manifest: str) -> list[str]:
        try:
            found = manifest_format.decode(read_file(self._disk, manifest), manifest)
        except (OSError, Corrupt, FormatTooNew):
            return []  # was found when it was read
        if found.history != self._member.store.manifest.history:
            return []  # a person has put it there
        directory = posixpath.dirname(manifest)
        paths = [f"{directory}/{names.table_name(ref.digest)}" for ref in found.tables]
        return [path for path in paths if not self._disk.exists(path)]

    def _is_at_rest(self, directory: str) -> bool:
        """False while somebody may be copying into it, or deleting it."""
        try:
            changed_ns = self._disk.stat(directory).modified_ns
        except FileNotFoundError:
            return False
        return self._member.env.clock.wall_ns() - changed_ns > PASS_S * 1e9

    def _expected_bytes(self) -> int:
        """About what a pass reads: the log and the store; what lies in snapshots/ is mostly linked there."""
        size = 0
        for directory in (self._paths.wal, self._paths.store):
            for name in self._disk.list(directory):
                with contextlib.suppress(FileNotFoundError):
                    size += self._disk.stat(f"{directory}/{name}").size_bytes
        return size

    def _inode(self, path: str) -> int:
        """0 for a file that has gone away."""
        try:
            return self._disk.stat(path).inode
        except FileNotFoundError:
            return 0

    async def _list(self, directory: str) -> list[str]:
        return list(await self._lane.run(partial(self._disk.list, directory)))

    async def _check(
        self,
        kind: str,
        path: str,
        read: Callable[[], Iterator[int]],
        rewrite: Callable[[str], bool] | None = None,
    ) -> None:
        """Read one file at the bounded rate; mend it where it is damaged. One that is gone was dropped."""
        scope = self.progress.scope.setdefault(kind, [0, 0])
        try:
            await self._read(read, scope)
        except FileNotFoundError:
            return
        except OSError as error:
            await self._found(_unread(path, error), path, rewrite, may_go=False)
        except FormatTooNew as error:
            await self._found(Corrupt(error.message), path, rewrite)
        except Corrupt as error:
            await self._found(error, path, rewrite)
        else:
            scope[0] += 1

    async def _found(
        self, damage: Corrupt, path: str, rewrite: Callable[[str], bool] | None, *, may_go: bool = True
    ) -> None:
        damage.detail = damage.detail | {"path": path}
        try:
            outcome = await self._outcome(damage, path, rewrite, may_go=may_go)
        except OSError as error:
            log.error("%s; mending it failed: %s", damage.message, error)
            outcome = "unrepaired"
        self._note(damage, path, outcome)

    def _note(self, damage: Corrupt, path: str, outcome: str) -> None:
        self.progress.found += 1
        self.progress.unrepaired += outcome == "unrepaired"
        if len(self.progress.damage) < _LISTED_MAX:
            self.progress.damage.append(
                {
                    "path": path,
                    "error": damage.message,
                    "offset": damage.detail.get("offset"),
                    "first_index": damage.detail.get("first_index"),
                    "outcome": outcome,
                    "remedy": damage.remedy or REMEDY if outcome == "unrepaired" else "nothing is left to do",
                }
            )

    async def _outcome(
        self, damage: Corrupt, path: str, rewrite: Callable[[str], bool] | None, *, may_go: bool
    ) -> str:
        """Mended ("repaired"), let go ("dropped", "set_aside"), or "unrepaired"."""
        if rewrite is None:
            kind = "segment" if path.startswith(self._paths.wal) else "table"
            mending = await self._repair.attempt(damage)
            if mending is not Mending.NOBODY:
                return "repaired" if mending is Mending.REPAIRED else "unrepaired"
        else:
            kind = "manifest"
            if await self._lane.run(partial(rewrite, path)):
                self._metrics.damaged(kind, "repaired")
                log.error("%s; written anew", damage.message)
                return "repaired"
            self._metrics.damaged(kind, "unrepaired")
        if may_go and (outcome := await self._member.superseded.let_go(path)):
            self._metrics.damaged(kind, outcome)
            log.error("%s; nobody has it, and nobody needs it: %s", damage.message, outcome.replace("_", " "))
            return outcome
        return "unrepaired"

    async def _read(self, read: Callable[[], Iterator[int]], scope: list[int]) -> None:
        steps = await self._lane.run(read)
        while True:
            size, is_done = await self._lane.run(partial(_step, steps))
            scope[1] += size
            rate = self._bytes_per_s()
            if rate and size:
                await asyncio.sleep(size / rate)
            if is_done:
                return

    def _read_table(self, path: str) -> Iterator[int]:
        table = Table(self._disk, path, None)
        if names.table_name(table.ref.digest) != path.rpartition("/")[2]:
            raise Corrupt(f"{path}: holds another table, {table.ref.name}")
        return table.verifying()

    def _read_manifest(self, path: str) -> Iterator[int]:
        data = read_file(self._disk, path)
        manifest_format.decode(data, path)
        return iter((len(data),))

    def _read_segment(self, path: str) -> Iterator[int]:
        return iter((self._member.settled.read(path.rpartition("/")[2], path).bytes,))

    def _rewrite_manifest(self, path: str) -> bool:
        """The newest manifest, and that of the newest published snapshot, are known here."""
        snapshot = names.parse_snapshot(path.split("/")[-2])
        wanted = names.parse_manifest(path.rpartition("/")[2]) or snapshot
        for known in (self._member.store.manifest, self._member.snapshots.published):
            if known is not None and (known.point.index, known.point.term) == wanted:
                write_durable(self._disk, path, manifest_format.encode(known))
                return True
        return False

    async def _take_front(self) -> None:
        """What the start passed over is taken into the log again, once it is good."""
        oldest = self._wal.oldest()
        paths = self._paths
        front = await self._lane.run(partial(read_front, self._disk, paths.wal, self._wal.timeline, oldest))
        if front and self._wal.oldest() is oldest and self._wal.take_front(front):
            log.info("the log begins behind entry %d again", self._wal.base.index)


def _unread(path: str, error: OSError) -> Corrupt:
    return Corrupt(f"{path}: can't be read: {error.strerror or error}")


def _step(steps: Iterator[int]) -> tuple[int, bool]:
    """(bytes read, whether it was the end)."""
    size = 0
    for taken in steps:
        size += taken
        if size >= _STEP_BYTES:
            return size, False
    return size, True
