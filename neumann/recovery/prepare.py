"""What a restore would do: from what was asked for to a plan with its size, its notes and its name.

Whoever makes it finds out what there is, and reads every byte that it would use; nothing is changed. So it is
the answer of a dry run, and what recovery/restore.py carries out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from neumann.archive import sources
from neumann.env.ahead import Ahead
from neumann.env.doors import Env, Files
from neumann.errors import ArchiveGap, BeyondArchive, Corrupt, DiskFull, NeumannError
from neumann.format.checksum import digest
from neumann.format.names import Paths
from neumann.recovery import describe, lineage, passed_over, swap, tables
from neumann.recovery.catalog import Catalog
from neumann.recovery.plan import Plan, empty_start, make_plan
from neumann.recovery.survey import snapshots_in
from neumann.recovery.targets import Target
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

    Raises what make_plan raises, NotFound for a missing place, and DiskFull where there is no room for it.
    """
    ahead = Ahead(env.places, request.jobs)
    try:
        planned = plan_with(env, request, ahead)
        _check_room(planned)
        return planned
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
    plan = _choose(files, catalog, starts, request, notes, unused)
    if catalog.is_empty:
        notes += passed_over.of_an_empty_log(source.wal_directory or f"{request.repo}/wal", plan)
    root = request.to or request.data_dir
    paths = Paths(root)
    notes += passed_over.of_the_tail(catalog, plan) + passed_over.of_what_was_left(catalog, plan)
    if not catalog.tail:
        notes += passed_over.of_the_own_log(disk, Paths(request.data_dir), plan)
    needed = plan.log_bytes + _copied_bytes(env, request, plan)
    free = disk.free_bytes(_existing_parent(env, root))
    old = sum(swap.tree_bytes(disk, part) for part in (paths.raft, paths.store))
    return Planned(request, catalog, plan, tuple(notes), old, needed + request.segment_bytes, free, ahead)


def _choose(
    files: Files,
    catalog: Catalog,
    starts: list[Start],
    request: Request,
    notes: list[str],
    unused: Sequence[str],
) -> Plan:
    """The plan by a snapshot of which every byte is good. Corrupt names the first that was not, where nothing
    reaches the target without it; `unused`, a line for each snapshot that is not whole, goes with a gap."""
    damage: Corrupt | None = None
    while True:
        begins = starts + empty_start(catalog, starts, request.block_bytes)
        try:
            plan = make_plan(catalog, begins, request.target, request.timeline)
        except NeumannError as refusal:
            if damage is None:
                if isinstance(refusal, ArchiveGap | BeyondArchive):
                    refusal.remedy = "; ".join(filter(None, [refusal.remedy, *unused]))
                raise
            damage.remedy = f"copy it again; without it: {refusal}"
            raise damage from refusal
        start = plan.start
        try:
            if start.directory:
                tables.check(files, start.directory, start.manifest)
            return plan
        except (Corrupt, FileNotFoundError) as error:
            notes.append(f"snapshot {start.manifest.snapshot_id} is damaged and not used: {error}")
            damage = damage or Corrupt(f"{start.kind} {start.directory} is damaged: {error}")
            starts = [one for one in starts if one != start._replace(position=(0, 0))]


def _of_one_cluster(catalog: Catalog, starts: list[Start], timeline: str, notes: list[str]) -> list[Start]:
    """Who names a timeline names its cluster: what another one has put into the archive does not count."""
    cluster_id = lineage.choose(catalog.histories, timeline).cluster_id
    others = sorted(catalog.cluster_ids() - {cluster_id})
    if others:
        every = " and ".join(other.hex() for other in others)
        notes.append(f"there are files of {every} too: not used, --timeline {timeline} is of another cluster")
        catalog.keep_only(cluster_id)
    return [start for start in starts if start.manifest.history.cluster_id == cluster_id]


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


def _copied_bytes(env: Env, request: Request, plan: Plan) -> int:
    """Of the snapshot's tables; what is linked takes no room."""
    if not plan.start.directory:
        return 0
    root = request.to or request.data_dir
    reuse = tables.reusable(env.disk, Paths(request.data_dir)) if request.delta and not request.to else []
    refs = plan.start.manifest.tables
    return tables.copied_bytes(env.disk, plan.start.directory, refs, root, env.places, reuse)


def _check_room(planned: Planned) -> None:
    if planned.needed_bytes <= planned.free_bytes:
        return
    root = planned.request.to or planned.request.data_dir
    raise DiskFull(
        f"{root} has {planned.free_bytes} bytes free and {planned.needed_bytes} are needed",
        remedy="make room, or name a --to DIR on another disk; aside-list shows what restores have set "
        "aside, and aside-delete ID deletes it",
    )


def _existing_parent(env: Env, path: str) -> str:
    while not env.disk.exists(path):
        path = path.rpartition("/")[0] or "/"
    return path
