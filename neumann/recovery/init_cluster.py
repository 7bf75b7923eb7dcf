"""`neumann-admin init-cluster --bootstrap`: a person says that this node begins a cluster (section 6).

a vote, and this node alone      nothing: it was initialised before (the command repeats harmlessly)
a vote otherwise                 refused; with --new-timeline its state, the log's tail too, goes on
                                 as a new timeline: the exit from a lost majority
data without a vote              adopted as a new timeline
nothing, and a peer has a vote   refused: it would be a second cluster beside the one that it belongs to
nothing                          a NEW, EMPTY cluster
what is not ours                 refused; a backup that was unpacked one level too deep is named
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import NamedTuple

from neumann.env.doors import Disk, Env
from neumann.env.files import read_file
from neumann.errors import Corrupt, InUse, NeumannError, NotFound, RefusedByState
from neumann.format import names, state
from neumann.format.ids import ID_BYTES, LogPoint
from neumann.format.manifest import Manifest, layout_digest
from neumann.format.names import Paths
from neumann.format.times import time_text
from neumann.recovery import lineage, swap, tables
from neumann.recovery.adopt import Adopted, adopt, find_data, install_base, newest_data
from neumann.recovery.catalog import Catalog
from neumann.recovery.formation import LOST_MAJORITY, empty_base, write_member
from neumann.recovery.replay import Piece, Replay
from neumann.recovery.restore import refuse_living_cluster
from neumann.snapshot.segment_file import End
from neumann.store.manifests import load_newest
from neumann.wal.slots import TwoSlotFile

_NESTED = "var/lib/neumann"


class Begun(Enum):
    """What init-cluster did."""

    CREATED = "created"
    ADOPTED = "adopted"
    ALREADY = "already"


@dataclass(frozen=True, slots=True)
class InitRequest:
    """What init-cluster was asked for; `peers` are the configured others."""

    data_dir: str
    node_id: str
    address: str
    peers: Mapping[str, str] = field(default_factory=dict)
    block_bytes: int = 32 * 1024
    segment_bytes: int = 64 * 1024 * 1024
    snapshot_id: str = ""
    new_timeline: bool = False


class InitReport(NamedTuple):
    """`base` is the manifest that the node starts from; `text` one line for people."""

    begun: Begun
    text: str
    base: Manifest
    adopted: Adopted | None = None


async def init_cluster(env: Env, request: InitRequest) -> InitReport:
    """Do it, under the directory's lock; nothing is changed where it is refused."""
    disk, paths = env.disk, Paths(request.data_dir)
    _refuse_unknown(disk, paths)
    disk.make_dirs(paths.root)
    release = disk.lock(paths.lock)
    try:
        swap.finish_or_undo(disk, paths.root)
        if disk.exists(paths.vote):
            if not request.new_timeline:
                return _already(disk, paths, request.node_id)
            return await _new_timeline(env, paths, request)
        if request.new_timeline:
            raise RefusedByState(
                f"{paths.root} is no member of a cluster", remedy="leave --new-timeline away"
            )
        if request.snapshot_id or newest_data(disk, paths) is not None:
            return await _adopt(env, paths, request)
        return await _create(env, paths, request)
    finally:
        release()


def _refuse_unknown(disk: Disk, paths: Paths) -> None:
    unknown = [name for name in disk.list(paths.root) if names.is_foreign(name)]
    if not unknown:
        return
    nested = f"{paths.root}/{_NESTED}"
    if disk.exists(f"{nested}/{names.RAFT}") or disk.exists(f"{nested}/{names.STORE}"):
        raise RefusedByState(
            f"there is a backup at {nested}: it was unpacked below the data directory",
            remedy=f"move {nested}/* to {paths.root}/, and what else is there away: {', '.join(unknown)}",
        )
    raise RefusedByState(
        f"{paths.root} holds what is not ours: {', '.join(unknown)}", remedy="move it elsewhere first"
    )


def _already(disk: Disk, paths: Paths, node_id: str) -> InitReport:
    manifest = load_newest(disk, paths.store)
    if manifest is None or manifest.configuration.voters != (node_id,):
        raise RefusedByState(
            f"{paths.root} is the state of a member, which init-cluster does not replace",
            remedy="start the node; if the majority of its cluster is lost for good, use --new-timeline",
        )
    history = manifest.history
    text = (
        f"already initialised: cluster {history.cluster_id.hex()}, timeline {history.timeline}; "
        "nothing was changed, start the node"
    )
    return InitReport(Begun.ALREADY, text, manifest)


async def _adopt(env: Env, paths: Paths, request: InitRequest) -> InitReport:
    found = find_data(env.disk, paths)
    if not found:
        raise NotFound(f"{paths.root} holds no snapshot {request.snapshot_id}")
    await refuse_living_cluster(env.net, request.peers, found[0].manifest.history.cluster_id)
    adopted = adopt(
        env.disk,
        paths,
        node_id=request.node_id,
        address=request.address,
        clock=env.clock,
        entropy=env.entropy,
        segment_bytes=request.segment_bytes,
        reason="init-cluster",
        snapshot_id=request.snapshot_id,
    )
    return InitReport(Begun.ADOPTED, str(adopted), adopted.base, adopted)


async def _refuse_another_cluster(env: Env, request: InitRequest) -> None:
    """Where a configured peer belongs to one, led or not. Who does not answer does not block."""
    voting = []
    for node_id, address in sorted(request.peers.items()):
        try:
            said = await env.net.call(address, "who", [], 2.0)
        except NeumannError:
            continue
        if said["serves"]:
            raise InUse(
                f"{node_id} at {address} serves cluster {bytes(said['cluster_id']).hex()}",
                remedy="start this node without init-cluster: it joins that cluster",
            )
        if said["vote"]:
            voting.append(node_id)
    if voting:
        raise RefusedByState(
            f"{', '.join(voting)} has a vote in a cluster that nobody leads; an empty one would replace it",
            remedy=f"start this node as it is: it joins when somebody leads; {LOST_MAJORITY}",
        )


async def _create(env: Env, paths: Paths, request: InitRequest) -> InitReport:
    await _refuse_another_cluster(env, request)
    storage_id = env.entropy.token(ID_BYTES)
    base = empty_base(
        request.node_id,
        request.address,
        storage_id,
        env.clock.wall_ns(),
        env.entropy.token(ID_BYTES),
        int.from_bytes(env.entropy.token(8), "big"),
        request.block_bytes,
    )
    write_member(env.disk, paths, base, request.node_id, storage_id, request.segment_bytes, 0)
    text = f"created a NEW, EMPTY cluster {base.history.cluster_id.hex()}; there were no data to adopt"
    return InitReport(Begun.CREATED, text, base)


async def _new_timeline(env: Env, paths: Paths, request: InitRequest) -> InitReport:
    """Go on alone with a member's state, up to the end of its own log."""
    disk = env.disk
    manifest = load_newest(disk, paths.store)
    if manifest is None:
        raise Corrupt(f"{paths.store} has no manifest", remedy="restore from a backup: wal-replay")
    await refuse_living_cluster(env.net, request.peers, manifest.history.cluster_id)
    _, vote = TwoSlotFile(disk, paths.vote, state.encode_vote_slot, state.decode_vote).read()
    pieces = _own_tail(disk, paths, manifest)
    fresh = swap.new_state(paths)
    disk.remove_tree(fresh.root)
    tables.bring(disk, paths.store, fresh.store, manifest.tables, paths.root)
    replay = Replay(disk, fresh.store, manifest, lineage.stretches(manifest.history))
    reached = replay.run(pieces, manifest.history)
    adopted = install_base(
        disk,
        paths,
        reached,
        fingerprint=layout_digest(reached),
        highest_term=vote.term,
        node_id=request.node_id,
        address=request.address,
        clock=env.clock,
        entropy=env.entropy,
        segment_bytes=request.segment_bytes,
        reason="init-cluster --new-timeline",
    )
    text = (
        f"adopted this member's state up to {reached.point.index}, {adopted.content.rows} rows, last write "
        f"{time_text(reached.time_ns)}. What may be lost: writes behind that point which the other members "
        f"acknowledged. What may be new: writes of the last {replay.entries} entries that nobody acknowledged"
    )
    return InitReport(Begun.ADOPTED, text, adopted.base, adopted)


def _own_tail(disk: Disk, paths: Paths, manifest: Manifest) -> list[Piece]:
    """The own log behind the manifest, as far as it is good; Corrupt if that is not as far as was synced."""
    catalog = Catalog(disk, paths.wal)
    cursor: LogPoint = manifest.point
    pieces = []
    damage = ""
    for head in catalog.segments(manifest.history.timeline):
        found = catalog.scan(head, bodies=True)
        if found.last.index <= cursor.index:
            continue
        if head.first_index > cursor.index + 1:
            damage = f"{head.path} does not continue the log at {cursor.index}"
            break
        pieces.append(
            Piece(
                head.path,
                partial(read_file, disk, head.path),
                len(manifest.history.records) - 1,
                cursor.index,
                found.last.index,
            )
        )
        cursor = found.last
        if found.end is not End.SEALED:
            damage = found.damage
            break
    _, mark = TwoSlotFile(disk, paths.sync_mark, state.encode_mark_slot, state.decode_mark).read()
    if cursor.index < mark.index:
        raise Corrupt(
            f"the log of this node is good up to {cursor.index} and was synced up to {mark.index}: {damage}",
            remedy="restore from the archive: wal-replay",
        )
    return pieces


__all__ = ["Begun", "InitReport", "InitRequest", "init_cluster"]
