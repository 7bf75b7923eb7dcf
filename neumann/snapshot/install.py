"""Install: a published snapshot of the leader becomes this node's state (design sections 5 and 6).

`fetch` brings it into `scratch/install/`: the tables that this node lacks (what it has is reused by
digest), and every sealed segment above archived-through, so that this node could go on with the
archive. All of it is verified there. A fetch that broke off goes on with what is there and verified.
`place` then puts it in place by a journaled swap: the state before is kept whole until the new one is
durable, and a vote is not touched.

The leader answers `snapshot.describe`, `snapshot.read` and `segment.read` (runtime/).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from neumann.env.doors import Disk, Lane, Net
from neumann.env.files import link_over, read_file, write_durable
from neumann.errors import Corrupt
from neumann.format import manifest as manifest_format
from neumann.format import names
from neumann.format.ids import LogPoint
from neumann.format.journal import Journal
from neumann.format.manifest import Manifest, TableRef
from neumann.format.message import SnapshotOffer
from neumann.format.names import Paths
from neumann.snapshot import journal
from neumann.snapshot.fetch import Part, call, fetch_part
from neumann.snapshot.log_base import create_log
from neumann.snapshot.segment_file import End, scan
from neumann.store.table_reader import Table

Progress = Callable[[int, int], None]
"""(bytes fetched, bytes to fetch)."""


class Fetched(NamedTuple):
    """A whole, verified snapshot in `scratch/install/`; `segments` are names, oldest first."""

    manifest: Manifest
    segments: tuple[str, ...]
    bytes: int


def scratch_directory(paths: Paths) -> str:
    """Where an install is put together."""
    return f"{paths.scratch}/install"


async def fetch(
    net: Net,
    address: str,
    offer: SnapshotOffer | None,
    disk: Disk,
    lane: Lane,
    paths: Paths,
    progress: Progress | None = None,
    reuse: Sequence[str] = (),
) -> Fetched:
    """Fetch the offered snapshot, or without an offer the leader's newest.

    `reuse`: further directories whose tables may be reused, such as a store that was set aside.
    Unavailable or OutcomeUnknown: try again later. Corrupt: what came is not what was promised.
    """
    wanted = names.snapshot_name(offer.index, offer.snapshot_term) if offer else ""
    described = await call(net, address, "snapshot.describe", [wanted])
    manifest, tables, segments = _understand(described, offer, address)
    scratch = scratch_directory(paths)
    await lane.run(partial(_prepare, disk, scratch, {name for name, _ in segments}))
    missing = await lane.run(partial(_reuse, disk, scratch, (paths.store, *reuse), manifest.tables))
    parts = [_table_part(disk, scratch, manifest, ref, tables.get(ref.name, 0)) for ref in missing]
    for name, size in segments:
        path = f"{scratch}/{names.WAL}/{name}"
        if not await lane.run(partial(disk.exists, path)):
            parts.append(Part("segment.read", [name], size, path, partial(_check_segment, disk)))
    total = sum(part.bytes or 0 for part in parts)
    done = 0
    for part in parts:
        async for size in fetch_part(net, address, disk, lane, part):
            done += size
            if progress is not None:
                progress(done, total)
    ordered = tuple(sorted(name for name, _ in segments))
    await lane.run(partial(_check_chain, disk, scratch, manifest, ordered))
    return Fetched(manifest, ordered, done)


def place(disk: Disk, paths: Paths, fetched: Fetched, segment_bytes: int) -> None:
    """Make a fetched snapshot this node's store and log; the log, but no vote, is as if formed behind it.

    Interrupted at any point, the next start's journal.finish ends it. Published it is not yet.
    """
    scratch = scratch_directory(paths)
    manifest = fetched.manifest
    disk.make_dirs(paths.store)
    disk.make_dirs(paths.raft)
    for ref in manifest.tables:
        name = names.table_name(ref.digest)
        link_over(disk, f"{scratch}/{names.STORE}/{name}", f"{paths.store}/{name}")
    disk.sync_dir(paths.store)
    head = names.segment_name(manifest.history.timeline, manifest.point.index + 1)
    for leftover in (f"{scratch}/{names.WAL}/{head}", f"{scratch}/{names.SYNC_MARK}"):
        if disk.exists(leftover):
            disk.unlink(leftover)
    create_log(disk, scratch, manifest, segment_bytes)
    own = names.manifest_name(manifest.point.index, manifest.point.term)
    write_durable(disk, f"{scratch}/{own}", manifest_format.encode(manifest))
    inside = f"{names.SCRATCH}/install"
    log, mark = f"{names.RAFT}/{names.WAL}", f"{names.RAFT}/{names.SYNC_MARK}"
    disk.remove_tree(f"{paths.scratch}/old")
    aside = ((log, f"{names.SCRATCH}/old/{names.WAL}"),) if disk.exists(paths.wal) else ()
    swap = Journal(
        "install",
        aside,
        (
            (f"{inside}/{names.WAL}", log),
            (f"{inside}/{own}", f"{names.STORE}/{own}"),
            (f"{inside}/{names.SYNC_MARK}", mark),
        ),
        (inside, f"{names.SCRATCH}/old"),
    )
    journal.run(disk, paths, swap)


def _understand(
    described: Any, offer: SnapshotOffer | None, address: str
) -> tuple[Manifest, dict[str, int], list[tuple[str, int]]]:
    try:
        manifest = manifest_format.decode(bytes(described["manifest"]), f"the manifest from {address}")
        tables = {str(name): int(size) for name, size in described["tables"]}
        segments = [(str(name), int(size)) for name, size in described["segments"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"{address} answered snapshot.describe with what is no description") from error
    if offer and manifest.point != LogPoint(offer.index, offer.snapshot_term, offer.chain):
        raise Corrupt(f"{address} offered snapshot {offer.index} and described {manifest.snapshot_id}")
    for name, _ in segments:
        parsed = names.parse_segment(name)
        if parsed is None or parsed[0] != manifest.history.timeline:
            raise Corrupt(f"{address} lists {name!r}, which is no segment of {manifest.history.timeline}")
    return manifest, tables, segments


def _prepare(disk: Disk, scratch: str, segments: set[str]) -> None:
    """Directories; and what an earlier fetch, of another snapshot, left and this one does not name."""
    for part in (names.STORE, names.WAL):
        disk.make_dirs(f"{scratch}/{part}")
    for name in disk.list(f"{scratch}/{names.WAL}"):
        if name.removesuffix(names.TEMPORARY) not in segments:
            disk.unlink(f"{scratch}/{names.WAL}/{name}")


def _reuse(disk: Disk, scratch: str, places: Sequence[str], refs: Sequence[TableRef]) -> list[TableRef]:
    """Link the tables that are here already, each read and verified; those that are to be fetched."""
    missing = []
    for ref in refs:
        name = names.table_name(ref.digest)
        path = f"{scratch}/{names.STORE}/{name}"
        if disk.exists(path):
            continue
        for place_ in places:
            if disk.exists(f"{place_}/{name}") and _is_good(disk, f"{place_}/{name}", ref):
                disk.link(f"{place_}/{name}", path)
                break
        else:
            missing.append(ref)
    disk.sync_dir(f"{scratch}/{names.STORE}")
    return missing


def _is_good(disk: Disk, path: str, ref: TableRef) -> bool:
    try:
        Table(disk, path, ref).verify()
    except Corrupt:
        return False
    return True


def _table_part(disk: Disk, scratch: str, manifest: Manifest, ref: TableRef, size: int) -> Part:
    name = names.table_name(ref.digest)
    if size <= 0:
        raise Corrupt(f"the leader names the table {ref.name} in its manifest and does not have it")

    def verify(path: str) -> None:
        Table(disk, path, ref).verify()

    path = f"{scratch}/{names.STORE}/{name}"
    return Part("snapshot.read", [manifest.snapshot_id, name], size, path, verify)


async def fetch_segment(
    net: Net, address: str, disk: Disk, lane: Lane, path: str, name: str, size: int
) -> None:
    """Bring one sealed segment of a peer's log to `path`, verified to its last byte. Corrupt or
    Unavailable if that can't be done."""
    part = Part("segment.read", [name], size, path, partial(_check_segment, disk))
    async for _ in fetch_part(net, address, disk, lane, part):
        pass


def _check_segment(disk: Disk, path: str) -> None:
    found = scan(read_file(disk, path), path, bodies=True)
    if found.end is not End.SEALED:
        raise Corrupt(found.damage)


def _check_chain(disk: Disk, scratch: str, manifest: Manifest, ordered: Sequence[str]) -> None:
    """The segments continue one another and end exactly at the snapshot."""
    last: LogPoint | None = None
    for name in ordered:
        path = f"{scratch}/{names.WAL}/{name}"
        found = scan(read_file(disk, path), path, bodies=True)
        if found.end is not End.SEALED:
            raise Corrupt(found.damage)
        if found.header.cluster_id != manifest.history.cluster_id:
            raise Corrupt(f"{path}: a segment of another cluster")
        if last is not None and found.header.previous != last:
            raise Corrupt(f"{path}: does not continue the log that ends at {last.index}")
        last = found.last
    if last is not None and last != manifest.point:
        raise Corrupt(f"the segments end at {last.index} and the snapshot is {manifest.snapshot_id}")
