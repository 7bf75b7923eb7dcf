"""`wal-replay`: from an archive and a target to a data directory, or to the plan of it (section 8).

The steps: find what there is, plan, say so; then, unless it is a dry run: lock the directory, finish
what was interrupted, ask the configured peers whether their cluster is alive, replay in scratch/, read
the result whole, and swap it in under a journal. Nothing in place changes before the last step, and what
was there goes to aside/. Run again with the same words it finds its own record and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from neumann.archive import sources
from neumann.env.ahead import Ahead
from neumann.env.doors import Disk, Env, Net
from neumann.env.files import FULL, read_file
from neumann.errors import Corrupt, DiskFull, InUse, NeumannError, RefusedByState, Unavailable, WrongHistory
from neumann.format import names
from neumann.format import restored as restored_format
from neumann.format.checksum import digest
from neumann.format.ids import ID_BYTES
from neumann.format.names import Paths
from neumann.format.restored import Restored
from neumann.recovery import describe, swap, tables
from neumann.recovery.adopt import Adopted, install_base
from neumann.recovery.catalog import Catalog
from neumann.recovery.formation import read_identity
from neumann.recovery.plan import Plan, empty_start, make_plan
from neumann.recovery.replay import Piece, Progress, Replay
from neumann.recovery.survey import snapshots_in
from neumann.recovery.targets import Kind, Target
from neumann.recovery.walk import Start
from neumann.store.manifests import load_newest

_ASK_TIMEOUT_S = 2.0
_LEFT_OF_A_KILLED_RESTORE = frozenset({names.LOCK, names.SCRATCH, names.RESTORE_JOURNAL})


@dataclass(frozen=True, slots=True)
class Request:
    """What wal-replay was asked for. Places are absolute directories, `host:path` or
    `s3://`; "" for none.

    `to`: restore there instead of into `data_dir`, which is then only a place to look for snapshots.
    `jobs`: so many files of the log are fetched at once.
    """

    target: Target
    data_dir: str
    node_id: str
    address: str
    peers: Mapping[str, str] = field(default_factory=dict)
    repo: str = ""
    wal_dir: str = ""
    snapshot_dir: str = ""
    include_tail: str = ""
    timeline: str = ""
    to: str = ""
    block_bytes: int = 32 * 1024
    segment_bytes: int = 64 * 1024 * 1024
    index_jump: int | None = None
    as_new_cluster: bool = False
    start_paused: bool = False
    delta: bool = False
    again: bool = False
    jobs: int = 1


class Planned(NamedTuple):
    """A plan with what it was made from. `notes`: lines on what was passed over, and why."""

    request: Request
    catalog: Catalog
    plan: Plan
    notes: tuple[str, ...]
    set_aside_bytes: int
    needed_bytes: int
    free_bytes: int

    @property
    def fingerprint(self) -> bytes:
        """Names what is restored and nothing else: the cut, and whose it becomes."""
        timeline, index = self.plan.origin
        cluster_id = self.plan.cut.history.cluster_id.hex()
        flags = (self.request.as_new_cluster, self.request.start_paused)
        words = (cluster_id, str(timeline), index, *flags, self.request.node_id)
        return digest(repr(words).encode())

    def facts(self) -> dict[str, object]:
        """For JSON, and for `describe.plan_lines`."""
        return {
            **describe.plan_facts(self.catalog, self.plan),
            "sole_voter": self.request.node_id,
            "set_aside_bytes": self.set_aside_bytes,
            "needed_bytes": self.needed_bytes,
            "free_bytes": self.free_bytes,
            "notes": list(self.notes),
        }


class Report(NamedTuple):
    """What was done. `already`: nothing, because it had been done before; `end_index` is then where the
    log here ends, above the base where the node has gone on since."""

    restored: Restored
    adopted: Adopted | None
    entries: int
    seconds: float
    copied_bytes: int = 0
    end_index: int = 0

    @property
    def already(self) -> bool:
        """True if the directory held this very result."""
        return self.adopted is None

    @property
    def has_gone_on(self) -> bool:
        """True if the directory is not at the restored point any more."""
        return self.end_index > self.restored.base_index


def plan_restore(env: Env, request: Request) -> Planned:
    """Find out what a restore would do, reading every byte that it would use; changes nothing.

    Raises what make_plan raises, and NotFound for a missing place. Where the plan is not carried out,
    `catalog.rest()` ends the threads that fetched.
    """
    ahead = Ahead(env.places, request.jobs)
    try:
        return _plan(env, request, ahead)
    except BaseException:
        ahead.close()
        raise


def _plan(env: Env, request: Request, ahead: Ahead) -> Planned:
    disk = env.disk
    files = env.places
    source = sources.source(
        files, repo=request.repo, wal_dir=request.wal_dir, snapshot_dir=request.snapshot_dir
    )
    catalog = Catalog(files, source.wal_directory, sources.tail(files, request.include_tail), ahead)
    notes: list[str] = [f"{problem.error}" for problem in catalog.problems]
    starts, unused = snapshots_in(files, source.snapshot_directory)
    notes += unused
    clusters = catalog.cluster_ids() | {start.manifest.history.cluster_id for start in starts}
    starts += _local_snapshots(env, Paths(request.data_dir), clusters, notes)
    for start in starts:
        catalog.learn(start.manifest.history)
    while True:
        plan = make_plan(
            catalog,
            starts + empty_start(catalog, starts, request.block_bytes),
            request.target,
            request.timeline,
        )
        try:
            if plan.start.directory:
                tables.check(files, plan.start.directory, plan.start.manifest)
            break
        except (Corrupt, FileNotFoundError) as error:
            notes.append(f"snapshot {plan.start.manifest.snapshot_id} is damaged and not used: {error}")
            starts = [start for start in starts if start != plan.start._replace(position=(0, 0))]
    root = request.to or request.data_dir
    paths = Paths(root)
    notes += _of_the_tail(catalog, plan) + _of_what_was_left(catalog, plan)
    needed = plan.log_bytes + sum(ref.raw_bytes for ref in plan.start.manifest.tables)
    free = disk.free_bytes(_existing_parent(env, root))
    old = sum(swap.tree_bytes(disk, part) for part in (paths.raft, paths.store))
    return Planned(request, catalog, plan, tuple(notes), old, needed + request.segment_bytes, free)


def _of_the_tail(catalog: Catalog, plan: Plan) -> list[str]:
    """R6: only committed entries are archived; of those in a node's own log nobody knows."""
    taken = [use for use in plan.uses if catalog.is_tail(use.head)]
    if not taken:
        return []
    first, last = taken[0].after_index + 1, taken[-1].through_index
    return [f"entries {first}..{last} are from {catalog.tail}: they may never have been committed"]


def _of_what_was_left(catalog: Catalog, plan: Plan) -> list[str]:
    """`latest` follows the newest timeline, also where nothing was written on it since it was restored."""
    timeline, index = plan.origin
    if plan.target.kind is not Kind.LATEST or timeline == plan.cut.history.timeline:
        return []
    end = max((catalog.scan(h, bodies=False).last.index for h in catalog.segments(timeline)), default=0)
    if end <= index:
        return []
    own = plan.cut.history.timeline
    return [
        f"nothing was written on timeline {own}; {timeline}, left at {index}, goes on: --timeline {timeline}"
    ]


async def restore(env: Env, planned: Planned, progress: Progress | None = None) -> Report:
    """Carry out a plan. InUse: the directory, or the cluster, is alive; nothing was changed then. However it
    ends, so do the threads that fetched."""
    try:
        return await _restore(env, planned, progress)
    finally:
        planned.catalog.rest()


async def _restore(env: Env, planned: Planned, progress: Progress | None) -> Report:
    request, disk = planned.request, env.disk
    started_ns = env.clock.monotonic_ns()
    paths = Paths(request.to or request.data_dir)
    if request.to:
        _check_new(disk, paths, names.OURS)
    if planned.needed_bytes > planned.free_bytes:
        raise DiskFull(
            f"{paths.root} has {planned.free_bytes} bytes free and {planned.needed_bytes} are needed"
        )
    disk.make_dirs(paths.root)
    release = disk.lock(paths.lock)
    try:
        if swap.finish_or_undo(disk, paths.root):
            planned = _plan_again(env, planned)
        done = read_restored(env, paths)
        if done is not None and done.fingerprint == planned.fingerprint and not request.again:
            return Report(done, None, 0, 0.0, end_index=_end_of_log(disk, paths))
        if request.to:
            _check_new(disk, paths, _LEFT_OF_A_KILLED_RESTORE)
        _check_own_cluster(env, paths, planned)
        if not request.to and not request.as_new_cluster:
            await refuse_living_cluster(env.net, request.peers, planned.plan.cut.history.cluster_id)
        try:
            adopted, entries, copied = _restore_into(env, paths, planned, progress)
        except (NeumannError, OSError) as error:
            if disk.exists(paths.journal):
                raise  # the swap has begun: the next start, or this command again, finishes it
            with contextlib.suppress(OSError):
                disk.remove_tree(swap.new_state(paths).root)
            raise _why(error, paths) from error
    finally:
        release()
    restored = read_restored(env, paths)
    assert restored is not None
    seconds = (env.clock.monotonic_ns() - started_ns) / 1e9
    return Report(restored, adopted, entries, seconds, copied)


def _why(error: NeumannError | OSError, paths: Paths) -> NeumannError | OSError:
    """A failure before anything in place was touched, in words that tell what to do."""
    if isinstance(error, FileNotFoundError):
        return Unavailable(
            f"{error.filename} was there when this was planned, and is gone; {paths.root} is unchanged",
            remedy="run it again: it plans anew with what is there",
        )
    if isinstance(error, OSError) and error.errno in FULL:
        return DiskFull(f"{paths.root}: {error.strerror}; what was there is unchanged", remedy="make room")
    return error


def _check_new(disk: Disk, paths: Paths, allowed: frozenset[str]) -> None:
    """RefusedByState where --to names a directory that holds anything else. What a restore that was killed
    has left is no obstacle to the same one, and what one has finished is for its record to tell."""
    if not allowed.issuperset(disk.list(paths.root)):
        raise RefusedByState(f"--to {paths.root} is not empty", remedy="name a new directory")


def _end_of_log(disk: Disk, paths: Paths) -> int:
    """The last index of the log here, as far as it can be read."""
    catalog = Catalog(disk, paths.wal)
    return max((catalog.scan(head, bodies=False).last.index for head in catalog.heads[-1:]), default=0)


async def refuse_living_cluster(net: Net, peers: Mapping[str, str], cluster_id: bytes) -> None:
    """InUse if one of these peers serves this cluster. Who does not answer does not block."""

    async def ask(node_id: str, address: str) -> str:
        try:
            said = await net.call(address, "who", [], _ASK_TIMEOUT_S)
        except NeumannError:
            return ""
        is_alive = bytes(said["cluster_id"]) == cluster_id and bool(said["serves"])
        return f"{node_id} at {address}" if is_alive else ""

    alive = [who for who in await asyncio.gather(*(ask(*peer) for peer in sorted(peers.items()))) if who]
    if alive:
        raise InUse(
            f"cluster {cluster_id.hex()} is alive: {', '.join(alive)} serves it",
            remedy="stop it on all nodes first, or restore --to another directory",
        )


def read_restored(env: Env, paths: Paths) -> Restored | None:
    """What this directory's state was restored from, or None. A damaged record is none."""
    path = paths.restored
    try:
        return restored_format.decode(read_file(env.disk, path), path)
    except (FileNotFoundError, Corrupt):
        return None


def _plan_again(env: Env, planned: Planned) -> Planned:
    """An interrupted swap was finished, so snapshots of the data directory may lie elsewhere now."""
    again = plan_restore(env, planned.request)
    again.catalog.rest()
    if again.fingerprint != planned.fingerprint:
        raise Unavailable("a swap that had been interrupted was finished first", remedy="run it again")
    return again


def _restore_into(
    env: Env, paths: Paths, planned: Planned, progress: Progress | None
) -> tuple[Adopted, int, int]:
    """The new state in place of the old; entries replayed, and bytes of tables copied."""
    request, plan, disk = planned.request, planned.plan, env.disk
    fresh = swap.new_state(paths)
    manifest = plan.start.manifest
    disk.make_dirs(fresh.store)
    copied = 0
    if plan.start.directory:
        reuse = _local_tables(disk, Paths(request.data_dir)) if request.delta and not request.to else []
        copied = tables.bring(
            disk, plan.start.directory, fresh.store, manifest.tables, paths.root, env.places, reuse
        )
    replay = Replay(disk, fresh.store, manifest, plan.line)
    pieces = [
        Piece(
            use.head.path,
            partial(planned.catalog.read, use.head),
            use.number,
            use.after_index,
            use.through_index,
        )
        for use in plan.uses
    ]
    planned.catalog.expect(use.head for use in plan.uses)
    try:
        reached = replay.run(pieces, plan.cut.history, progress)
    finally:
        planned.catalog.rest()
    if reached.point.index != plan.cut.index:
        raise Corrupt(f"the replay ended at {reached.point.index} where {plan.cut.index} was planned")
    adopted = install_base(
        disk,
        paths,
        reached,
        fingerprint=planned.fingerprint,
        highest_term=plan.highest_term,
        node_id=request.node_id,
        address=request.address,
        clock=env.clock,
        entropy=env.entropy,
        segment_bytes=request.segment_bytes,
        reason=f"restored to {plan.target.text}",
        purpose="restore",
        jump=request.index_jump,
        new_cluster_id=env.entropy.token(ID_BYTES) if request.as_new_cluster else None,
        start_paused=request.start_paused,
    )
    return adopted, replay.entries, copied


def _local_tables(disk: Disk, paths: Paths) -> list[str]:
    """Directories of this node that hold tables."""
    published = [f"{paths.snapshots}/{name}" for name in disk.list(paths.snapshots)]
    return [paths.store, *published]


def _local_snapshots(env: Env, paths: Paths, clusters: set[bytes], notes: list[str]) -> list[Start]:
    """Published ones and the store's, in the data directory, as far as they are of the source's cluster."""
    found, unused = snapshots_in(env.disk, paths.snapshots)
    notes += unused
    try:
        stored = load_newest(env.disk, paths.store)
    except NeumannError as error:
        notes.append(f"{paths.store} is not used: {error}")
        stored = None
    if stored is not None:
        found.append(Start(stored, paths.store, "store"))
    own = [start for start in found if not clusters or start.manifest.history.cluster_id in clusters]
    if len(own) < len(found):
        notes.append(f"{len(found) - len(own)} snapshots in {paths.root} are of another cluster: not used")
    return own


def _check_own_cluster(env: Env, paths: Paths, planned: Planned) -> None:
    """Whoever restores over a member of another cluster has mixed something up."""
    if not env.disk.exists(paths.vote) or not env.disk.exists(paths.identity):
        return
    own = read_identity(env.disk, paths)
    cluster_id = planned.plan.cut.history.cluster_id
    if own.cluster_id != cluster_id and not planned.request.as_new_cluster:
        raise WrongHistory(
            f"{paths.root} is a member of cluster {own.cluster_id.hex()}, and the archive is of "
            f"{cluster_id.hex()}",
            remedy=f"neumann-admin rejoin --data-dir {paths.root} sets its state aside; or use --to DIR",
        )


def _existing_parent(env: Env, path: str) -> str:
    while not env.disk.exists(path):
        path = path.rpartition("/")[0] or "/"
    return path
