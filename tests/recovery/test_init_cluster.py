"""init-cluster and adoption: what lies in a directory goes on as a new timeline, or nothing is changed."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.env.doors import Env
from neumann.errors import Corrupt, InUse, NeumannError, NotFound, RefusedByState, WrongHistory
from neumann.format import state
from neumann.format.names import Paths
from neumann.format.state import SyncMark
from neumann.recovery import aside, swap
from neumann.recovery.adopt import adopt, find_data, newest_data
from neumann.recovery.formation import empty_base, write_member
from neumann.recovery.init_cluster import Begun, InitReport, InitRequest, init_cluster
from neumann.runtime.startup import look
from neumann.snapshot.publish import open_published
from neumann.store.manifests import load_newest, write_manifest
from neumann.wal.slots import TwoSlotFile
from tests.recovery.world import SEGMENT_BYTES, T0, Cluster, Peers, copy_tree, make_env, rows_in
from tests.sim.disk import SimCrash, SimDisk

DISK = RealDisk()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """A member with two snapshots, and one put behind the newest."""
    made = Cluster.fresh(DISK, str(tmp_path), 1)
    made.put("a", 1)
    made.snapshot()
    made.put("b", 2)
    made.snapshot()
    made.put("tail", 3)
    return made


def backup(cluster: Cluster, root: Path, *parts: str) -> str:
    """A new data directory with only these parts of the member's."""
    for part in parts:
        copy_tree(DISK, f"{cluster.root}/{part}", f"{root}/{part}")
    return str(root)


def begin(root: str, env: Env | None = None, **more: object) -> InitReport:
    wanted = InitRequest(root, "n9", "h9:7878", segment_bytes=SEGMENT_BYTES, **more)  # type: ignore[arg-type]
    return asyncio.run(init_cluster(env or make_env(DISK), wanted))


@pytest.mark.parametrize("parts", [("store",), ("raft/snapshots",), ("store", "raft/snapshots")])
def test_a_restored_backup_is_adopted_and_the_command_repeats_harmlessly(
    cluster: Cluster, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    root = backup(cluster, tmp_path / "new", *parts)
    newest = newest_data(DISK, Paths(root))
    assert newest == cluster.manifest
    report = begin(root)
    assert report.begun is Begun.ADOPTED and "2 rows" in report.text and "are not here" in report.text
    assert set(rows_in(DISK, root)) == {("t", "a"), ("t", "b")}
    base = load_newest(DISK, Paths(root).store)
    assert base is not None and base == report.base
    assert base.configuration.voters == ("n9",) and base.history.descends_from(newest.history)
    assert base.archiving.on and base.archiving.through == base.point.index
    again = begin(root)
    assert again.begun is Begun.ALREADY and again.base == base
    assert len(aside.list_aside(DISK, root)) == 1


def test_a_flat_copy_of_a_snapshot_is_adopted(cluster: Cluster, tmp_path: Path) -> None:
    root = tmp_path / "new"
    copy_tree(DISK, f"{cluster.paths.snapshots}/latest", f"{root}/raft/snapshots")
    assert begin(str(root)).begun is Begun.ADOPTED
    assert set(rows_in(DISK, str(root))) == {("t", "a"), ("t", "b")}


def test_a_named_snapshot_is_adopted(cluster: Cluster, tmp_path: Path) -> None:
    root = backup(cluster, tmp_path / "new", "raft/snapshots")
    older = find_data(DISK, Paths(root))[1].manifest.snapshot_id
    with pytest.raises(NotFound):
        begin(root, snapshot_id="77-7")
    begin(root, snapshot_id=older)
    assert set(rows_in(DISK, root)) == {("t", "a")}


def test_an_empty_directory_becomes_a_new_empty_cluster(tmp_path: Path) -> None:
    root = str(tmp_path / "new")
    report = begin(root)
    assert report.begun is Begun.CREATED and "NEW, EMPTY" in report.text
    assert rows_in(DISK, root) == {}
    assert begin(root).begun is Begun.ALREADY


def test_what_is_not_ours_and_a_nested_backup_are_named(cluster: Cluster, tmp_path: Path) -> None:
    root = tmp_path / "new"
    backup(cluster, root / "var/lib/neumann", "store", "raft/snapshots")
    (root / "etc/neumann").mkdir(parents=True)
    with pytest.raises(RefusedByState, match="unpacked below") as refused:
        begin(str(root))
    assert f"{root}/var/lib/neumann" in str(refused.value)
    shutil.rmtree(root / "var")
    with pytest.raises(RefusedByState, match="not ours: etc"):
        begin(str(root))


def test_incomplete_data_are_never_replaced_by_an_empty_cluster(cluster: Cluster, tmp_path: Path) -> None:
    root = backup(cluster, tmp_path / "new", "store", "raft/snapshots")
    for table in Path(root).rglob("*.table"):
        table.unlink()
    with pytest.raises(Corrupt, match="missing"):
        begin(root)
    with pytest.raises(NotFound):
        begin(root, snapshot_id=cluster.manifest.snapshot_id)
    assert not DISK.exists(Paths(root).vote)


def test_going_back_to_an_older_snapshot_has_to_be_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    root = backup(cluster, tmp_path / "new", "raft/snapshots")
    shutil.rmtree(Path(root, "raft/snapshots/latest"))
    newest, older, *_ = find_data(DISK, Paths(root))
    Path(newest.directory, "manifest").unlink()
    with pytest.raises(Corrupt, match=older.manifest.snapshot_id):
        begin(root)
    begin(root, snapshot_id=older.manifest.snapshot_id)
    assert set(rows_in(DISK, root)) == {("t", "a")}


def test_data_of_two_clusters_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    root = backup(cluster, tmp_path / "new", "store")
    other = Cluster.fresh(DISK, str(tmp_path / "other"), 2)
    other.put("x", 1)
    other.snapshot()
    copy_tree(DISK, other.paths.snapshots, f"{root}/raft/snapshots")
    with pytest.raises(WrongHistory):
        begin(root)


def test_a_members_state_is_refused_and_goes_on_with_new_timeline(cluster: Cluster) -> None:
    member = Paths(cluster.root)
    newest = load_newest(DISK, member.store)
    assert newest is not None
    others = empty_base("n2", "h2", b"2" * 16, T0, b"c" * 16, 1, 1).configuration.members
    of_two = newest._replace(configuration=newest.configuration.with_member(others[0]))
    write_manifest(DISK, member.store, of_two)
    with pytest.raises(RefusedByState, match="--new-timeline"):
        begin(cluster.root)
    set_mark(cluster, cluster.log.last.index)
    report = begin(cluster.root, new_timeline=True)
    assert "may be lost" in report.text
    assert set(rows_in(DISK, cluster.root)) == {("t", "a"), ("t", "b"), ("t", "tail")}
    assert report.base.configuration.voters == ("n9",)


def set_mark(cluster: Cluster, index: int) -> None:
    point = cluster.log.last
    mark = SyncMark(1, 64, index, point.term, point.chain, 0, 0)
    path = cluster.paths.sync_mark
    TwoSlotFile(DISK, path, state.encode_mark_slot, state.decode_mark).create(mark)


def test_new_timeline_refuses_where_the_log_lost_what_was_synced(cluster: Cluster) -> None:
    set_mark(cluster, cluster.log.last.index + 1)
    with pytest.raises(Corrupt, match="synced up to"):
        begin(cluster.root, new_timeline=True)


def test_a_living_cluster_is_in_the_way(cluster: Cluster, tmp_path: Path) -> None:
    alive = {"cluster_id": cluster.manifest.history.cluster_id, "serves": True}
    env = make_env(DISK, peers=Peers({"h2:7878": alive}))
    root = backup(cluster, tmp_path / "new", "store")
    for place in (root, str(tmp_path / "empty")):
        with pytest.raises(InUse, match="n2 at h2:7878"):
            begin(place, env, peers={"n2": "h2:7878"})
        assert not DISK.exists(Paths(place).vote)


def test_no_empty_cluster_begins_beside_a_member_that_nobody_leads(cluster: Cluster, tmp_path: Path) -> None:
    """Bug: only a peer that serves was in the way. On an empty disk beside the last member of a lost majority
    a second cluster began, and the third node joined that."""
    stuck = {"cluster_id": cluster.manifest.history.cluster_id, "serves": False, "vote": True}
    waiting = {"cluster_id": b"", "serves": False, "vote": False}
    env = make_env(DISK, peers=Peers({"h1:7878": stuck, "h2:7878": waiting}))
    empty = str(tmp_path / "empty")
    with pytest.raises(RefusedByState, match="n1 has a vote") as refused:
        begin(empty, env, peers={"n1": "h1:7878", "n2": "h2:7878"})
    assert "--new-timeline" in str(refused.value.remedy)
    assert not DISK.exists(Paths(empty).vote)
    assert begin(empty, env, peers={"n2": "h2:7878"}).begun is Begun.CREATED


def test_every_crash_point_of_an_adoption_leaves_data_that_can_be_adopted() -> None:
    model = SimDisk()
    cluster = Cluster.fresh(model, "/world", 1)
    cluster.put("a", 1)
    cluster.snapshot()
    root = "/new"
    copy_tree(model, cluster.paths.store, f"{root}/store")
    copy_tree(model, cluster.paths.snapshots, f"{root}/raft/snapshots")
    for path in ("/", root, f"{root}/store", f"{root}/raft", f"{root}/raft/snapshots"):
        model.sync_dir(path)
    for name in model.list(f"{root}/raft/snapshots"):
        model.sync_dir(f"{root}/raft/snapshots/{name}")
    env = make_env(model)
    crashes = 0
    for step in range(0, 200, 2):
        disk = model.fork()
        disk.crash_at = disk.operations + step
        try:
            run_adopt(disk, root, env)
        except SimCrash:
            crashes += 1
            disk = disk.crash(random.Random(step))
        disk.crash_at = None
        swap.finish_or_undo(disk, root)
        if not disk.exists(Paths(root).vote):
            run_adopt(disk, root, env)
        assert {key for _, key in rows_in(disk, root)} == {"a"}
        identity = state.decode_identity(disk.open(Paths(root).identity).pread(4096, 0), "identity")
        base = load_newest(disk, Paths(root).store)
        assert base is not None and identity.timeline == base.history.timeline
        assert len(base.history.records) == 2
    assert 20 < crashes < 100


def run_adopt(disk: SimDisk, root: str, env: Env) -> None:
    adopt(
        disk,
        Paths(root),
        node_id="n9",
        address="h9:7878",
        clock=env.clock,
        entropy=env.entropy,
        segment_bytes=SEGMENT_BYTES,
        reason="test",
    )


def test_every_crash_point_of_a_formation_leaves_no_member_or_a_whole_one() -> None:
    model = SimDisk()
    model.make_dirs("/n1")
    paths = Paths("/n1")
    base = empty_base("n1", "h1", b"s" * 16, T0, b"c" * 16, 1, 1024)
    formed = set()
    for step in range(120):
        disk = model.fork()
        disk.crash_at = disk.operations + step
        try:
            write_member(disk, paths, base, "n1", b"s" * 16, SEGMENT_BYTES, 0)
        except SimCrash:
            disk = disk.crash(random.Random(step))
        disk.crash_at = None
        formed.add(disk.exists(paths.vote))
        if not disk.exists(paths.vote):
            write_member(disk, paths, base, "n1", b"s" * 16, SEGMENT_BYTES, 0)
        assert load_newest(disk, paths.store) == base
        for decode, path in (
            (state.decode_vote, paths.vote),
            (state.decode_mark, paths.sync_mark),
            (state.decode_identity, paths.identity),
        ):
            decode(disk.open(path).pread(1 << 20, 0), path)
        assert len(disk.list(paths.wal)) == 1
    assert formed == {True, False}


def test_formations_that_crashes_interrupted_leave_nothing_of_each_other() -> None:
    """Bug: of one that had published its empty snapshot the next, another cluster, kept that; and a crash of
    that one made the node refuse to start: its directory was of two clusters."""
    disk = SimDisk()
    disk.make_dirs("/n1")
    paths = Paths("/n1")
    first, second = (empty_base("n1", "h1", b"s" * 16, T0, id * 16, 1, 1024) for id in (b"a", b"b"))
    for base in (first, second, first):
        write_member(disk, paths, base, "n1", b"s" * 16, SEGMENT_BYTES, 0)
        assert open_published(disk, f"{paths.snapshots}/{base.snapshot_id}") == base
        disk.unlink(paths.vote)
        found = look(disk, paths)
        assert found.history is None and found.data is None
    write_manifest(disk, paths.store, second)
    assert look(disk, paths).data is None


def test_all_of_its_refusals_have_an_exit_code(tmp_path: Path) -> None:
    with pytest.raises(NeumannError) as refused:
        begin(str(tmp_path / "x"), new_timeline=True)
    assert refused.value.exit_code == 9
