"""A directory with data and no vote goes on as a new timeline with this node as sole voter (section 6).

Data are a store/, published snapshots, or a flat copy of one in raft/snapshots/: what a backup, or
`rm -rf raft/*`, leaves behind. The newest complete one is adopted; whatever else lay in raft/ and store/
goes to aside/.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from neumann.env.doors import Clock, Disk, Entropy
from neumann.env.files import write_new
from neumann.errors import Corrupt, NotFound, WrongHistory
from neumann.format import names
from neumann.format import restored as restored_format
from neumann.format.ids import ID_BYTES, VOTER, Member
from neumann.format.manifest import Manifest, layout_digest
from neumann.format.names import Paths
from neumann.format.restored import Restored
from neumann.format.times import time_text
from neumann.recovery import swap, tables
from neumann.recovery.formation import write_member
from neumann.recovery.rebase import rebase
from neumann.recovery.tables import Content
from neumann.snapshot.publish import list_published
from neumann.store.manifests import load_newest


class Data(NamedTuple):
    """A complete snapshot in a data directory, and the directory that its tables lie in."""

    manifest: Manifest
    directory: str


class Adopted(NamedTuple):
    """What became of it. `base` is the new timeline's; `manifest` what was adopted."""

    manifest: Manifest
    base: Manifest
    content: Content
    aside_id: str

    def __str__(self) -> str:
        return (
            f"adopted snapshot {self.manifest.point.index}, {self.content.rows} rows, last write "
            f"{time_text(self.manifest.time_ns)}; later writes on these disks are not here"
        )


def find_data(disk: Disk, paths: Paths) -> list[Data]:
    """Every complete snapshot in store/ and raft/snapshots/, newest first.

    WrongHistory: they are of different histories.
    """
    found: list[Data] = []
    with contextlib.suppress(Corrupt):
        stored = load_newest(disk, paths.store)
        if stored is not None:
            found.append(Data(stored, paths.store))
    for published in list_published(disk, paths.snapshots):
        if published.complete and published.manifest is not None:
            found.append(Data(published.manifest, published.path))
    _check_one_history(found)
    return sorted(found, key=lambda data: _age(data.manifest), reverse=True)


def newest_data(disk: Disk, paths: Paths) -> Manifest | None:
    """The manifest that `adopt` would take, or None where there are no data.

    Corrupt where a newer one than it lies there and is not whole: nobody goes back unasked.
    """
    found = find_data(disk, paths)
    index = found[0].manifest.point.index if found else -1
    newer = [
        f"{paths.store}/{n}" for n in disk.list(paths.store) if (names.parse_manifest(n) or (-1,))[0] > index
    ]
    newer += [p.path for p in list_published(disk, paths.snapshots) if not p.complete and p.index > index]
    if newer:
        older = f"init-cluster --snapshot {found[0].manifest.snapshot_id} goes back; or " if found else ""
        raise Corrupt(
            f"{newer[-1]} is damaged, or files of it are missing",
            remedy=f"{older}bring back what is missing from a backup",
        )
    return found[0].manifest if found else None


def adopt(
    disk: Disk,
    paths: Paths,
    *,
    node_id: str,
    address: str,
    clock: Clock,
    entropy: Entropy,
    segment_bytes: int,
    reason: str,
    snapshot_id: str = "",
) -> Adopted:
    """Adopt the newest data, or the named snapshot, and make this directory a member.

    NotFound: there are no such data. Corrupt: see newest_data. Nothing in place changes before the new
    state is complete and durable. The caller holds the directory's lock and has found no vote in it.
    """
    assert not disk.exists(paths.vote), "there is a member's state here"
    newest = newest_data(disk, paths) if not snapshot_id else None
    wanted = newest.snapshot_id if newest is not None else snapshot_id
    found = [data for data in find_data(disk, paths) if data.manifest.snapshot_id == wanted]
    if not found:
        raise NotFound(f"{paths.root} holds no complete snapshot {snapshot_id}")
    data = found[0]
    fresh = swap.new_state(paths)
    disk.remove_tree(fresh.root)
    tables.bring(disk, data.directory, fresh.store, data.manifest.tables, paths.root)
    return install_base(
        disk,
        paths,
        data.manifest,
        fingerprint=layout_digest(data.manifest),
        highest_term=data.manifest.point.term,
        node_id=node_id,
        address=address,
        clock=clock,
        entropy=entropy,
        segment_bytes=segment_bytes,
        reason=reason,
    )


def install_base(
    disk: Disk,
    paths: Paths,
    manifest: Manifest,
    *,
    fingerprint: bytes,
    highest_term: int,
    newest_ns: int = 0,
    node_id: str,
    address: str,
    clock: Clock,
    entropy: Entropy,
    segment_bytes: int,
    reason: str,
    purpose: str = "adoption",
    jump: int | None = None,
    new_cluster_id: bytes | None = None,
    start_paused: bool = False,
) -> Adopted:
    """The last steps of every restore: the tables of `manifest` lie in scratch/restore/store; rebase,
    form a member there, read every row, swap it in."""
    fresh = swap.new_state(paths)
    content = tables.content_of(disk, fresh.store, manifest)
    now_ns = clock.wall_ns()
    storage_id = entropy.token(ID_BYTES)
    base = rebase(
        manifest,
        highest_term=highest_term,
        now_ns=now_ns,
        newest_ns=newest_ns,
        reason=reason,
        random64=int.from_bytes(entropy.token(8), "big"),
        member=Member(node_id, storage_id, address, VOTER),
        jump=jump,
        new_cluster_id=new_cluster_id,
        start_paused=start_paused,
    )
    record = Restored(
        purpose,
        fingerprint,
        base.history.timeline,
        manifest.point.index,
        manifest.time_ns,
        base.point.index,
        content.rows,
        content.digest,
        now_ns,
    )
    disk.make_dirs(fresh.raft)
    write_new(disk, fresh.restored, restored_format.encode(record))
    write_member(disk, fresh, base, node_id, storage_id, segment_bytes, base.point.term)
    aside_id = swap.swap_in(disk, paths, purpose, now_ns)
    return Adopted(manifest, base, content, aside_id)


def _age(manifest: Manifest) -> tuple[int, int]:
    """Orders snapshots of one line of history: by ancestry, then by index."""
    return len(manifest.history.records), manifest.point.index


def _check_one_history(found: list[Data]) -> None:
    """An empty base contradicts nothing: it is what a formation left that a crash interrupted."""
    found = [data for data in found if data.manifest.point.index]
    if not found:
        return
    newest = max(found, key=lambda data: len(data.manifest.history.records))
    for data in found:
        if not newest.manifest.history.descends_from(data.manifest.history):
            raise WrongHistory(
                f"{newest.directory} is of cluster {newest.manifest.history.cluster_id.hex()} timeline "
                f"{newest.manifest.history.timeline}, {data.directory} of cluster "
                f"{data.manifest.history.cluster_id.hex()} timeline {data.manifest.history.timeline}",
                remedy="move away the one that shall not come back",
            )
