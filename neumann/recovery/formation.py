"""How a data directory becomes a member: a base manifest, a log behind it, an identity, and last the vote.

Every way ends here (design section 6): a fresh cluster, an adopted backup, a recovery, a joiner after its
install. The vote is written last; an identity without it is debris, so a crash in between leaves
no member.
"""

from __future__ import annotations

from neumann.env.doors import Disk
from neumann.env.files import read_file, write_durable
from neumann.format import names, state
from neumann.format.history import History, HistoryRecord
from neumann.format.ids import VOTER, Configuration, Member, Timeline
from neumann.format.limits import FEATURE_LEVEL
from neumann.format.manifest import Archiving, Manifest
from neumann.format.names import Paths
from neumann.format.state import Identity, Vote
from neumann.snapshot.log_base import create_log
from neumann.snapshot.publish import publish
from neumann.store.manifests import write_manifest
from neumann.wal.slots import TwoSlotFile

LOST_MAJORITY = (
    "if the disks of a majority are lost for good: neumann-admin init-cluster --bootstrap --new-timeline on "
    "a stopped node that has a vote, or wal-replay (docs/runbook.md, A majority of the disks is gone)"
)
"""What a person can do where the voters that are left can never lead."""


def empty_base(
    node_id: str,
    address: str,
    storage_id: bytes,
    now_ns: int,
    cluster_id: bytes,
    random64: int,
    block_bytes: int,
) -> Manifest:
    """The manifest that a new cluster begins with: no rows, index 0, this node the only voter. PURE."""
    first = HistoryRecord(Timeline(1, random64), None, 0, 0, 0, 0, now_ns, "bootstrap")
    history = History(cluster_id, (first,))
    return Manifest(
        history=history,
        point=history.base,
        time_ns=0,
        configuration=Configuration((Member(node_id, storage_id, address, VOTER),)),
        pause=None,
        archiving=Archiving(),
        tables=(),
        compaction=None,
        feature_level=FEATURE_LEVEL,
        block_bytes=block_bytes,
    )


def write_member(
    disk: Disk,
    paths: Paths,
    manifest: Manifest,
    node_id: str,
    storage_id: bytes,
    segment_bytes: int,
    term: int,
) -> None:
    """Make a member of a directory whose store/ has the manifest's tables, and which has no vote.

    What an interrupted run left of raft/ is removed first; of published snapshots only the empty one (see
    write_vote). `term` is what the vote says: the node campaigns in a higher one.
    """
    assert not disk.exists(paths.vote), "there is a member's state here already"
    disk.make_dirs(paths.store)
    disk.make_dirs(paths.raft)
    disk.remove_tree(paths.wal)
    for debris in (paths.identity, paths.sync_mark):
        if disk.exists(debris):
            disk.unlink(debris)
    write_manifest(disk, paths.store, manifest)
    create_log(disk, paths.raft, manifest, segment_bytes)
    write_vote(disk, paths, manifest, node_id, storage_id, term)


def read_identity(disk: Disk, paths: Paths) -> Identity:
    """Whose directory it is. FileNotFoundError where it is nobody's, Corrupt where that can't be read."""
    return state.decode_identity(read_file(disk, paths.identity), paths.identity)


def write_vote(
    disk: Disk, paths: Paths, manifest: Manifest, node_id: str, storage_id: bytes, term: int
) -> None:
    """The last steps, and all that a joiner lacks after install.place: publish, identity, vote.

    An empty snapshot that is published here already is nobody's data: a formation that was interrupted left
    it, and it may be of another cluster.
    """
    disk.remove_tree(f"{paths.snapshots}/{names.snapshot_name(0, 0)}")
    publish(disk, paths, manifest)
    history = manifest.history
    identity = Identity(history.cluster_id, history.timeline, node_id, storage_id)
    write_durable(disk, paths.identity, state.encode_identity(identity))
    vote_file = TwoSlotFile(disk, paths.vote, state.encode_vote_slot, state.decode_vote)
    vote_file.create(Vote(term=term))
    disk.sync_dir(paths.raft)
