"""Opens what is on a member's disk, and refuses what can't be right (design section 4, last part).

`open_member` runs in a lane, before anything is answered. Both slots of vote and sync mark are made equal
first; the start is counted durably; then the newest manifest, the log behind it, and their meeting point are
checked. Nothing is cut but a torn batch above the sync mark, and damage that a floor stands for (R8).
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import NamedTuple

from neumann.config import Config
from neumann.env import Disk, Env, Lane
from neumann.env.files import naming, read_file, remove_temporaries
from neumann.errors import Corrupt, NotFound, RefusedByState
from neumann.format import frame as frame_format
from neumann.format import special, state
from neumann.format.frame import FrameHeader, Kind
from neumann.format.ids import Candidate, Configuration, LogPoint
from neumann.format.manifest import Manifest, layout_digest
from neumann.format.names import Paths
from neumann.format.special import Marker, Publish
from neumann.format.state import Identity, SyncMark, Vote
from neumann.raft import FrameLog, Restored
from neumann.recovery import swap
from neumann.runtime.floor import Losing
from neumann.runtime.lag import LagSamples
from neumann.runtime.metrics import Metrics
from neumann.runtime.repair import Repair
from neumann.snapshot import publish
from neumann.store.manifests import check_usable, load_newest, write_manifest
from neumann.store.store import Store
from neumann.wal import Log, Recovery, ShortOfManifest, TwoSlotFile

log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A member's durable state, opened and consistent."""

    identity: Identity
    vote: Vote
    vote_file: TwoSlotFile[Vote]
    mark: SyncMark
    mark_file: TwoSlotFile[SyncMark]
    manifest: Manifest
    manifest_digest: bytes
    store: Store
    wal: Log
    restored: Restored
    last_time_ns: int
    unsealed_entries: int
    lag: LagSamples
    published: Manifest | None
    damage: tuple[tuple[str, str], ...]
    """What was found: (kind, outcome) of the metric corruption_total."""
    unlisted: tuple[str, ...]
    """Segments before the log's base, behind which it was damaged."""


async def open_or_mend(
    env: Env, lane: Lane, paths: Paths, config: Config, metrics: Metrics, peers: list[str]
) -> Opened:
    """`open_member` in that lane; a damaged table is mended first, from a peer at one of these addresses."""
    mender = Repair(env, env.lane("repair"), paths, metrics, lambda: peers, lambda _: None)
    try:
        while True:
            try:
                opened: Opened = await lane.run(
                    lambda: open_member(env.disk, paths, config, env.clock.wall_ns())
                )
                return opened
            except Corrupt as error:
                if not await mender.mend(error):
                    raise
    finally:
        await mender.stop()


def open_member(disk: Disk, paths: Paths, config: Config, now_ns: int) -> Opened:
    """Open a data directory that has a vote. Corrupt, RefusedByState: it stays as it is, and is closed."""
    with ExitStack() as closed_on_error:
        opened = _open_member(disk, paths, config, now_ns, closed_on_error)
        closed_on_error.pop_all()
    return opened


def _open_member(disk: Disk, paths: Paths, config: Config, now_ns: int, closed_on_error: ExitStack) -> Opened:
    with naming(paths.identity):
        identity = state.decode_identity(_needed(disk, paths.identity), paths.identity)
    if identity.node_id != config.node.id:
        raise RefusedByState(
            f"{paths.root} belongs to node {identity.node_id!r}, and this node is {config.node.id!r}",
            remedy="start it with its own node id, or give this node another data directory",
        )
    vote_file = TwoSlotFile(disk, paths.vote, state.encode_vote_slot, state.decode_vote)
    mark_file = TwoSlotFile(disk, paths.sync_mark, state.encode_mark_slot, state.decode_mark)
    closed_on_error.callback(vote_file.close)
    closed_on_error.callback(mark_file.close)
    _, vote = vote_file.read()
    _, mark = mark_file.read()
    mark_file.write(mark._replace(clean=False))
    vote = vote._replace(start_number=vote.start_number + 1)
    vote_file.write(vote)
    remove_temporaries(disk, paths.store)
    manifest = _newest_manifest(disk, paths)
    _check_lineage(disk, identity, manifest, mark, paths)
    newest = manifest.point.index
    known = identity.node_id, manifest.configuration, newest
    losing = Losing(*known, vote, vote_file, mark, mark_file)
    try:
        wal, recovery = _open_log(disk, paths, config, identity, manifest, losing, now_ns)
    except ShortOfManifest as error:
        manifest = _manifest_before(disk, paths, manifest, error)
        try:
            wal, recovery = _open_log(disk, paths, config, identity, manifest, losing, now_ns, newest)
        except Corrupt as again:
            raise Corrupt(error.message, remedy=again.remedy) from again
    closed_on_error.callback(wal.close)
    headers, vote = recovery.headers, losing.vote
    restored = _restored(vote, wal, headers, manifest)
    _check_address(restored, identity, config.node.advertise, paths)
    store = Store.open(disk, paths.store, manifest, config.store.cache_bytes_max)
    _finish_publishing(disk, paths, manifest, wal)
    return Opened(
        identity,
        vote,
        vote_file,
        losing.mark._replace(clean=False),
        mark_file,
        manifest,
        layout_digest(manifest),
        store,
        wal,
        restored,
        max([manifest.time_ns, *(h.time_ns for h in headers[-1:])]),
        _unsealed_entries(wal, headers, manifest.point.index),
        _lag(headers, manifest),
        _newest_published(disk, paths, manifest, wal),
        _damage(recovery, losing),
        recovery.before,
    )


def _damage(recovery: Recovery, losing: Losing) -> tuple[tuple[str, str], ...]:
    found = [("log", "set_aside")] * len(losing.losses)
    if recovery.before:
        found.append(("log", "passed_over"))
    return (*found, *[("segment", "repaired")] * len(recovery.mended))


def _finish_publishing(disk: Disk, paths: Paths, manifest: Manifest, wal: Log) -> None:
    """Publish what a crash, or the install that it comes from, left unpublished.

    Only where a segment ends: a joiner's log begins at a segment's begin. Whether somebody asked for what
    it was given, that log does not tell: it is kept as if, for the answer may name this member.
    """
    point = manifest.point
    if point == wal.base:
        if wal.segments()[0].first_index == point.index + 1:
            publish.publish(disk, paths, manifest, asked=point.index > 0)
        return
    (marker,) = wal.read_frames(wal.point_before(point.index).index, point.index)
    entry = special.decode(marker)
    if isinstance(entry, Marker) and entry.publish:
        publish.publish(disk, paths, manifest, asked=entry.publish is Publish.ASKED)


def _newest_published(disk: Disk, paths: Paths, manifest: Manifest, wal: Log) -> Manifest | None:
    """The newest whole published snapshot that this log goes on from: what an install may begin with.

    Users put others beside the node's own: older, newer, of other timelines.
    """
    for published in publish.list_published(disk, paths.snapshots):
        found = published.manifest
        if published.path != f"{paths.snapshots}/{published.id}" or not published.complete:
            continue
        if found is None or found.history != manifest.history or found.point > manifest.point:
            continue
        if wal.end_at(found.point.index) == found.point:
            return found
    return None


def _manifest_before(disk: Disk, paths: Paths, manifest: Manifest, error: ShortOfManifest) -> Manifest:
    """The one before the newest, for a log that is damaged at the newest one's very place, where nothing
    tells any more how it goes on. What is behind it is supplied again by a leader, under a floor, and the
    snapshot made again by its marker. The error where there is none of the same history."""
    try:
        before = load_newest(disk, paths.store, below=manifest.point.index)
    except Corrupt:
        before = None
    if before is None or before.history != manifest.history:
        raise error
    log.error(
        "%s: the node goes back from snapshot %s to %s, and makes the newer one again",
        error.message,
        manifest.snapshot_id,
        before.snapshot_id,
    )
    return before


def _needed(disk: Disk, path: str) -> bytes:
    try:
        return read_file(disk, path)
    except FileNotFoundError:
        raise Corrupt(
            f"{path} is missing, and a vote lies beside it",
            remedy="neumann-admin rejoin sets this state aside and joins the cluster as new",
        ) from None


def _newest_manifest(disk: Disk, paths: Paths) -> Manifest:
    """The store's newest manifest; without one, the newest published snapshot put back in its place."""
    manifest = load_newest(disk, paths.store)
    if manifest is not None:
        return manifest
    published = publish.newest_complete(disk, paths.snapshots)
    if published is None or published.manifest is None:
        raise NotFound(
            f"{paths.store} holds no snapshot, and {paths.snapshots} none either",
            remedy="neumann-admin rejoin sets this state aside and joins the cluster as new",
        )
    log.warning("store/ has no manifest: rebuilt from the published snapshot %s", published.id)
    publish.put_back(disk, paths, published)
    write_manifest(disk, paths.store, published.manifest)
    return published.manifest


def _check_lineage(disk: Disk, identity: Identity, manifest: Manifest, mark: SyncMark, paths: Paths) -> None:
    history = manifest.history
    if (history.cluster_id, history.timeline) != (identity.cluster_id, identity.timeline):
        raise RefusedByState(
            f"{paths.store} is of cluster {history.cluster_id.hex()} timeline {history.timeline}, and this "
            f"node is a member of {identity.cluster_id.hex()} timeline {identity.timeline}",
            remedy=_PUT_THERE,
        )
    if manifest.point.index < mark.manifest_index:
        check_usable(disk, paths.store, mark.manifest_index, mark.manifest_term)
        raise RefusedByState(
            f"somebody put an older store here: {paths.store} is at {manifest.point.index}, and this node "
            f"had one at {mark.manifest_index} and a log up to {mark.index}",
            remedy=_PUT_THERE,
        )


def _check_address(restored: Restored, identity: Identity, address: str, paths: Paths) -> None:
    """A copy of a member's disk on another machine has its identity and its vote, and would win elections
    that the member knows nothing of. Peers dial the member where the configuration has it."""
    newest = (restored.configuration, *(found for _, found in restored.later_configurations))[-1]
    own = newest.member(identity.node_id)
    if own is None or own.address == address or len(newest.members) == 1:
        return
    raise RefusedByState(
        f"{paths.root} is the disk of member {identity.node_id} at {own.address}; this node is at {address}",
        remedy=f"if this is a copy, remove it; if the member moved, neumann-admin rejoin takes it in at "
        f"{address}; else set node.advertise to {own.address}",
    )


_PUT_THERE = (
    "to go on with what was put there: stop the node, move raft/ away, then neumann-admin init-cluster "
    "--bootstrap; to go on as a member of the cluster: neumann-admin rejoin"
)


def _open_log(
    disk: Disk,
    paths: Paths,
    config: Config,
    identity: Identity,
    manifest: Manifest,
    losing: Losing,
    now_ns: int,
    durable_index: int = 0,
) -> tuple[Log, Recovery]:
    point = manifest.point
    wal, recovery = Log.recover(
        disk,
        paths.wal,
        identity.cluster_id,
        identity.timeline,
        losing.mark,
        point,
        config.wal.segment_bytes_max,
        f"{paths.aside}/{swap.new_aside_id(disk, paths, now_ns)}",
        losing,
        durable_index,
    )
    if recovery.cut is not None:
        what = "what was damaged" if losing.losses else "a torn batch"
        log.warning("cut %s off the log: %s", what, recovery.cut)
    if recovery.before:
        log.error(
            "the log is damaged below the newest snapshot, %s: it is taken up behind entry %d; the %d files "
            "before are mended from a peer",
            manifest.snapshot_id,
            wal.base.index,
            len(recovery.before),
        )
    for path in recovery.mended:
        log.error("%s: its header was damaged and was written anew", path)
    for name in recovery.strays:
        log.warning("set aside %s: it does not belong to this log", name)
    assert wal.end_at(point.index) == point, "classify.py has a row for this"
    return wal, recovery


def holds_content(kind: Kind) -> bool:
    """False for what the log says only to itself: it does not make a segment worth sealing."""
    return kind not in (Kind.NOOP, Kind.ARCHIVED, Kind.MARKER)


def _unsealed_entries(wal: Log, headers: list[FrameHeader], through: int) -> int:
    first = wal.segments()[-1].first_index
    return sum(first <= h.first_index <= through and holds_content(h.kind) for h in headers)


def _lag(headers: list[FrameHeader], manifest: Manifest) -> LagSamples:
    samples = LagSamples()
    for header in headers:
        is_break = header.kind is Kind.BREAK
        if (is_break or manifest.archiving.through < header.last_index) and (
            header.last_index <= manifest.point.index
        ):
            samples.note(header)
    return samples


def _restored(vote: Vote, wal: Log, headers: list[FrameHeader], manifest: Manifest) -> Restored:
    frames = FrameLog(wal.base)
    for header in headers:
        frames.append(header)
    return Restored(
        term=vote.term,
        voted_for=Candidate(vote.voted_for, vote.voted_storage),
        log=frames,
        configuration=manifest.configuration,
        configuration_index=manifest.point.index,
        commit_index=manifest.point.index,
        applied_index=manifest.point.index,
        later_configurations=_later_configurations(wal, headers, manifest.point),
        floor=(vote.floor_term, vote.floor_index),
    )


def _later_configurations(
    wal: Log, headers: list[FrameHeader], point: LogPoint
) -> tuple[tuple[int, Configuration], ...]:
    found = []
    for header in headers:
        if header.kind is Kind.CONFIGURATION and header.first_index > point.index:
            frame = frame_format.decode(wal.read(header.first_index - 1, header.last_index))
            entry = special.decode(frame)
            if isinstance(entry, Configuration):
                found.append((header.first_index, entry))
    return tuple(found)
