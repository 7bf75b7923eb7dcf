"""What a restore would do: from what was asked for to a plan with its size, its notes and its name.

Whoever makes it finds out what there is, and reads every byte that it would use; nothing is changed. So it is
the answer of a dry run, and what recovery/restore.py carries out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from neumann.archive import sources
from neumann.env.ahead import Ahead
from neumann.env.doors import Env
from neumann.errors import Corrupt, NeumannError, NotFound
from neumann.format.checksum import digest
from neumann.format.names import Paths
from neumann.format.times import time_text
from neumann.recovery import describe, left, lineage, swap, tables
from neumann.recovery.catalog import Catalog
from neumann.recovery.plan import Plan, empty_start, make_plan
from neumann.recovery.survey import snapshots_in
from neumann.recovery.targets import Kind, Target
from neumann.recovery.walk import Start
from neumann.store.manifests import load_newest


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
    """A plan with what it was made from. `notes`: lines on what was passed over, and why. `ahead` fetches
    for it, and is to be closed by who does not carry it out."""

    request: Request
    catalog: Catalog
    plan: Plan
    notes: tuple[str, ...]
    set_aside_bytes: int
    needed_bytes: int
    free_bytes: int
    ahead: Ahead

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
            "as_new_cluster": self.request.as_new_cluster,
            "sole_voter": self.request.node_id,
            "set_aside_bytes": self.set_aside_bytes,
            "needed_bytes": self.needed_bytes,
            "free_bytes": self.free_bytes,
            "notes": list(self.notes),
        }


def plan_restore(env: Env, request: Request) -> Planned:
    """Find out what a restore would do, reading every byte that it would use; changes nothing.

    Raises what make_plan raises, and NotFound for a missing place.
    """
    ahead = Ahead(env.places, request.jobs)
    try:
        return plan_with(env, request, ahead)
    except BaseException:
        ahead.close()
        raise


def plan_with(env: Env, request: Request, ahead: Ahead) -> Planned:
    """The same by what fetches ahead already, which is left open in any case."""
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
    if request.timeline:
        starts = _of_one_cluster(catalog, starts, request.timeline, notes)
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
    if catalog.is_empty:
        notes += _of_an_empty_log(source.wal_directory or f"{request.repo}/wal", plan)
    root = request.to or request.data_dir
    paths = Paths(root)
    notes += _of_the_tail(catalog, plan) + _of_what_was_left(catalog, plan)
    needed = plan.log_bytes + sum(ref.raw_bytes for ref in plan.start.manifest.tables)
    free = disk.free_bytes(_existing_parent(env, root))
    old = sum(swap.tree_bytes(disk, part) for part in (paths.raft, paths.store))
    return Planned(request, catalog, plan, tuple(notes), old, needed + request.segment_bytes, free, ahead)


def _of_an_empty_log(directory: str, plan: Plan) -> list[str]:
    """Latest is where the log ends, and where archiving was on there was one: NotFound if nothing has it."""
    manifest = plan.start.manifest
    if plan.target.kind is not Kind.LATEST or not manifest.archiving.on:
        return []
    what = f"{directory} holds no log, though the cluster of snapshot {manifest.snapshot_id} archived its log"
    if plan.uses:
        return [f"{what}: what is in no node's own log is not restored"]
    raise NotFound(
        what,
        remedy=f"is it mounted, and was it copied? --until-index {plan.cut.index} takes the snapshot alone",
        detail={"snapshot_index": plan.cut.index},
    )


def _of_one_cluster(catalog: Catalog, starts: list[Start], timeline: str, notes: list[str]) -> list[Start]:
    """Who names a timeline names its cluster: what another one has put into the archive does not count."""
    cluster_id = lineage.choose(catalog.histories, timeline).cluster_id
    others = sorted(catalog.cluster_ids() - {cluster_id})
    if others:
        every = " and ".join(other.hex() for other in others)
        notes.append(f"there are files of {every} too: not used, --timeline {timeline} is of another cluster")
        catalog.keep_only(cluster_id)
    return [start for start in starts if start.manifest.history.cluster_id == cluster_id]


def _of_the_tail(catalog: Catalog, plan: Plan) -> list[str]:
    """R6: only committed entries are archived; of those in a node's own log nobody knows."""
    taken = [use for use in plan.uses if catalog.is_tail(use.head)]
    if not taken:
        return []
    first, last = taken[0].after_index + 1, taken[-1].through_index
    return [f"entries {first}..{last} are from {catalog.tail}: they may never have been committed"]


def _of_what_was_left(catalog: Catalog, plan: Plan) -> list[str]:
    """`latest` follows the newest timeline, also where nothing was written on it since it was restored."""
    if plan.target.kind is not Kind.LATEST:
        return []
    own = plan.cut.history.timeline
    notes = [] if plan.origin[0] == own else [f"nothing was written on timeline {own}"]
    for parent, child in pairwise(plan.cut.history.records):
        if left.is_written(catalog, parent.timeline, child.fork_index):
            notes.append(
                f"what was written on timeline {parent.timeline} behind index {child.fork_index} was left by "
                f"the restore of {time_text(child.time_ns)}: --timeline {parent.timeline} has it"
            )
    return notes


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


def _existing_parent(env: Env, path: str) -> str:
    while not env.disk.exists(path):
        path = path.rpartition("/")[0] or "/"
    return path
