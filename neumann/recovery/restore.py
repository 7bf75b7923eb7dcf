"""`wal-replay`: carries out a plan of recovery/prepare.py, or finds that it is carried out (section 8).

The steps: lock the directory, finish what was interrupted, ask the configured peers whether their cluster
is alive, replay in scratch/, read the result whole, and swap it in under a journal. Nothing in place changes
before the last step, and what was there goes to aside/. Run again with the same words it finds its own
record and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from neumann.env.doors import Disk, Env, Net
from neumann.env.files import FULL, read_file
from neumann.errors import Corrupt, DiskFull, InUse, NeumannError, RefusedByState, Unavailable, WrongHistory
from neumann.format import names
from neumann.format import restored as restored_format
from neumann.format.ids import ID_BYTES
from neumann.format.names import Paths
from neumann.format.restored import Restored
from neumann.format.times import time_text
from neumann.recovery import swap, tables
from neumann.recovery.adopt import Adopted, install_base
from neumann.recovery.catalog import Catalog
from neumann.recovery.formation import read_identity
from neumann.recovery.prepare import Planned, plan_with
from neumann.recovery.replay import Piece, Progress, Replay
from neumann.store.manifests import load_newest

_ASK_TIMEOUT_S = 2.0
_LEFT_OF_A_KILLED_RESTORE = frozenset({names.LOCK, names.SCRATCH, names.RESTORE_JOURNAL})


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


async def restore(env: Env, planned: Planned, progress: Progress | None = None) -> Report:
    """Carry out a plan. InUse: the directory, or the cluster, is alive; nothing was changed then. However it
    ends, so do the threads that fetched."""
    try:
        return await _restore(env, planned, progress)
    finally:
        planned.ahead.close()


async def _restore(env: Env, planned: Planned, progress: Progress | None) -> Report:
    request, disk = planned.request, env.disk
    started_ns = env.clock.monotonic_ns()
    paths = Paths(request.to or request.data_dir)
    if request.to:
        _check_new(disk, paths, names.OURS)
    disk.make_dirs(paths.root)
    release = disk.lock(paths.lock)
    try:
        if swap.finish_or_undo(disk, paths.root):
            planned = _plan_again(env, planned)
        done = read_restored(env, paths)
        if done is not None and done.fingerprint == planned.fingerprint and not request.again:
            return Report(done, None, 0, 0.0, end_index=_end_of(disk, paths, done, bool(request.to)))
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


def _end_of(disk: Disk, paths: Paths, done: Restored, is_to: bool) -> int:
    """Where the log of what was restored here ends now. RefusedByState where not all of that is here: what is
    left may have gone on since, so it is not restored over unasked."""
    catalog = Catalog(disk, paths.wal)
    if what := _missing(disk, paths, catalog, done):
        anew = "name a new directory" if is_to else "--again restores it anew, and sets aside what is left"
        raise RefusedByState(
            f"{paths.root} was brought to this point at {time_text(done.made_ns)}, and is not whole: {what}",
            remedy=anew,
        )
    return catalog.scan(catalog.segments(done.timeline)[-1], bodies=False).last.index


def _missing(disk: Disk, paths: Paths, catalog: Catalog, done: Restored) -> str:
    """What a node could not start without; "" for nothing."""
    if not disk.exists(paths.vote):
        return f"{paths.vote} is missing"
    try:
        manifest = load_newest(disk, paths.store)
    except Corrupt as error:
        return error.message
    if manifest is None:
        return f"{paths.store} holds no state"
    if manifest.history.timeline != done.timeline:
        return f"{paths.store} is of timeline {manifest.history.timeline}, and not of {done.timeline}"
    log = catalog.segments(done.timeline)
    if not log or log[0].previous.index > manifest.point.index:
        return f"{paths.wal} does not hold the log behind index {manifest.point.index}"
    return ""


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
    again = plan_with(env, planned.request, planned.ahead)
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
        reuse = tables.reusable(disk, Paths(request.data_dir)) if request.delta and not request.to else []
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
    reached = replay.run(pieces, plan.cut.history, progress)
    if reached.point.index != plan.cut.index:
        raise Corrupt(f"the replay ended at {reached.point.index} where {plan.cut.index} was planned")
    adopted = install_base(
        disk,
        paths,
        reached,
        fingerprint=planned.fingerprint,
        highest_term=plan.highest_term,
        newest_ns=plan.newest_time_ns,
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
