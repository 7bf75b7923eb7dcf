"""What users of other systems lost data or sleep over at a restore: a test for each thread."""

from __future__ import annotations

import asyncio
import errno
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from neumann.archive.sources import Source
from neumann.env.disk import RealDisk, RealFile
from neumann.errors import ArchiveGap, BeyondArchive, Corrupt, WrongHistory
from neumann.format.names import Paths
from neumann.recovery.prepare import Planned, Request, plan_restore
from neumann.recovery.restore import Report, restore
from neumann.recovery.survey import survey
from neumann.recovery.targets import Kind, Target, parse_target
from neumann.snapshot.publish import list_published
from neumann.store.manifests import load_newest
from tests.recovery.world import SECOND, SEGMENT_BYTES, Cluster, make_env, rows_in, segment_files

DISK = RealDisk()
LATEST = parse_target(until="latest")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Two archived segments before a backed-up snapshot, and one behind it."""
    made = Cluster.fresh(DISK, str(tmp_path), 1)
    DISK.make_dirs(backup_of(made))
    for number in range(2):
        made.put(f"a{number}", number)
        made.seal()
    made.snapshot(backup_of(made))
    made.put("b", 1)
    made.seal()
    return made


def backup_of(cluster: Cluster) -> str:
    return f"{cluster.archive}-snapshots"


def at(time_ns: int) -> Target:
    return Target(Kind.TIME, "then", time_ns)


def request(cluster: Cluster, target: Target, to: str = "", **more: object) -> Request:
    return Request(
        target,
        data_dir=f"{cluster.archive}-none" if to else cluster.root,
        node_id="n1",
        address="h1:7878",
        wal_dir=cluster.archive,
        snapshot_dir=backup_of(cluster),
        segment_bytes=SEGMENT_BYTES,
        to=to,
        **more,  # type: ignore[arg-type]
    )


def plan(cluster: Cluster, target: Target, disk: RealDisk = DISK) -> Planned:
    return plan_restore(make_env(disk), request(cluster, target, f"{cluster.archive}-to"))


def carry_out(wanted: Request) -> Report:
    env = make_env(DISK)
    return asyncio.run(restore(env, plan_restore(env, wanted)))


def without_the_begin(cluster: Cluster) -> None:
    """The log before the snapshot has been aged out."""
    for path in segment_files(cluster.archive)[:3]:
        path.unlink()


def test_pgbackrest_817_615_a_target_before_the_first_backup(cluster: Cluster) -> None:
    """The target was silently ignored, and everything was replayed to the end."""
    without_the_begin(cluster)
    with pytest.raises(BeyondArchive, match="before the first snapshot") as refused:
        plan(cluster, at(cluster.frames[1].time_ns))
    assert refused.value.exit_code == 3 and "recoverable:" in refused.value.remedy


def test_pgbackrest_1526_1934_an_idle_log_proves_that_nothing_happened(cluster: Cluster) -> None:
    """A target after the last write failed: nothing told an idle database from an archive that had ended.

    An idle seal is the proof up to its own time, and not a nanosecond further.
    """
    last_write = cluster.put("last", 1)
    idle = cluster.seal()
    reached = plan(cluster, at(idle.time_ns - 1)).plan.cut
    assert reached.index == last_write.last
    assert plan(cluster, at(idle.time_ns)).plan.cut.index == idle.last
    with pytest.raises(BeyondArchive):
        plan(cluster, at(idle.time_ns + 1))


def test_pgbackrest_1168_a_target_that_is_the_backups_own_time(cluster: Cluster) -> None:
    """A backup could not become consistent at its own stop time. A snapshot is one moment, and is reached."""
    without_the_begin(cluster)
    (snapshot,) = list_published(DISK, backup_of(cluster))
    assert snapshot.manifest is not None
    moment = snapshot.manifest.time_ns
    assert plan(cluster, at(moment)).plan.cut.index == snapshot.manifest.point.index
    with pytest.raises(BeyondArchive):
        plan(cluster, at(moment - 1))


class FailingDisk(RealDisk):
    """The archive's disk has a fault: one file can't be read."""

    def __init__(self, part: str) -> None:
        self.part = part

    def open(self, path: str, *, write: bool = False, create: bool = False) -> RealFile:
        if self.part in path:
            raise OSError(errno.EIO, "Input/output error", path)
        found = super().open(path, write=write, create=create)
        assert isinstance(found, RealFile)
        return found


@pytest.mark.parametrize("place", [0, 2, -1])
def test_wal_g_1126_an_error_in_reading_is_not_the_archives_end(cluster: Cluster, place: int) -> None:
    """Any error counted as `no more segments`: the server was promoted early, and data were lost."""
    disk = FailingDisk(segment_files(cluster.archive)[place].name)
    with pytest.raises(OSError, match="Input/output error"):
        plan(cluster, LATEST, disk)


@pytest.mark.parametrize("kept", [0, 100])
def test_wal_g_63_wal_e_169_a_short_segment_in_the_middle(cluster: Cluster, kept: int) -> None:
    """Recovery ended silently before the last segment."""
    for _ in range(2):
        cluster.put("c", 1)
        cluster.seal()
    path = segment_files(cluster.archive)[-2]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(Corrupt, match=path.name):
        plan(cluster, LATEST)


def test_wal_g_use_sentinel_time_order_is_by_ancestry_and_not_by_name(cluster: Cluster) -> None:
    """After a timeline began anew, names sorted new backups before old ones, and the new were deleted.

    Latest is the child's end; the parent's snapshot, of a higher number than the fork, is not on its line.
    """
    to = f"{cluster.archive}-child"
    carry_out(request(cluster, at(cluster.frames[1].time_ns), to))
    child = Cluster.restored(cluster, to, rows_in(DISK, to))
    child.put("child", 1)
    child.seal()
    planned = plan(cluster, LATEST)
    assert planned.plan.cut.index == child.archived_end.last
    assert planned.plan.start.kind == "the empty beginning"
    assert {use.head.timeline for use in planned.plan.uses} == {
        cluster.manifest.history.timeline,
        child.manifest.history.timeline,
    }


def test_foundationdb_12038_12673_a_hole_makes_two_windows(cluster: Cluster) -> None:
    """One range was computed over missing logs, and what it promised could not be restored."""
    segment_files(cluster.archive)[1].unlink()
    assert plan(cluster, at(cluster.frames[1].time_ns)).plan.cut.index == 2
    assert plan(cluster, LATEST).plan.cut.index == cluster.archived_end.last
    with pytest.raises(ArchiveGap) as refused:
        plan(cluster, at(cluster.frames[2].time_ns))
    assert refused.value.remedy.count(" .. ") >= 2 * 2


def test_etcd_16028_kubernetes_118501_revisions_never_go_back(cluster: Cluster) -> None:
    """Watchers kept what they had cached under revisions that were given a second time."""
    carry_out(request(cluster, at(cluster.frames[1].time_ns)))
    base = load_newest(DISK, Paths(cluster.root).store)
    assert base is not None
    assert base.point.index > cluster.log.last.index and base.point.term > cluster.term


def test_etcd_9096_8169_another_cluster_is_said_in_one_line_with_the_remedy(
    cluster: Cluster, tmp_path: Path
) -> None:
    other = Cluster.fresh(DISK, str(tmp_path / "other"), 2)
    with pytest.raises(WrongHistory) as refused:
        carry_out(replace(request(cluster, LATEST), data_dir=other.root))
    text = str(refused.value)
    for cluster_id in (cluster.manifest.history.cluster_id, other.manifest.history.cluster_id):
        assert cluster_id.hex() in text
    assert "\n" not in text and "rejoin" in text and refused.value.exit_code == 6


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_vault_12168_13234_a_truncated_snapshot_is_not_used(cluster: Cluster, kept: int) -> None:
    """`snapshot save` had returned a part of the file, with success."""
    (table,) = Path(backup_of(cluster)).glob("*/*.table")
    table.write_bytes(table.read_bytes()[:kept])
    planned = plan(cluster, LATEST)
    assert planned.plan.start.kind == "the empty beginning" and planned.notes
    without_the_begin(cluster)
    with pytest.raises(Corrupt, match=f"{table.parent} is damaged"):
        plan(cluster, LATEST)


def test_rqlite_1561_rauthy_1204_a_restore_is_done_once(cluster: Cluster) -> None:
    """An automatic restore ran again at each restart, over newer rows: the entire cluster was cooked."""
    wanted = request(cluster, at(cluster.frames[1].time_ns))
    first = carry_out(wanted)
    before = sorted(str(path) for path in Path(cluster.root).rglob("*"))
    rows = rows_in(DISK, cluster.root)
    for _ in range(3):
        again = carry_out(wanted)
        assert again.already and again.restored == first.restored
    assert sorted(str(path) for path in Path(cluster.root).rglob("*")) == before
    assert rows_in(DISK, cluster.root) == rows


def test_tidb_68857_36246_the_point_that_is_shown_can_be_restored(cluster: Cluster) -> None:
    """The restorable point lay behind the checkpoint: restoring to what was shown failed."""
    with pytest.raises(BeyondArchive) as refused:
        plan(cluster, at(cluster.now_ns + SECOND))
    shown = refused.value.remedy.rpartition(" .. ")[0].rpartition(" .. ")[2].partition(" (")[0]
    assert plan(cluster, parse_target(until=shown)).plan.cut.index <= cluster.archived_end.last


def test_tidb_53648_the_report_says_what_was_reached(cluster: Cluster, tmp_path: Path) -> None:
    report = carry_out(request(cluster, at(cluster.frames[2].time_ns), str(tmp_path / "to")))
    assert report.restored.reached_index == cluster.frames[2].last
    assert report.restored.reached_time_ns == cluster.frames[2].time_ns
    assert report.restored.rows == len(cluster.rows_at(cluster.frames[2].last)) and report.restored.digest


def test_pgbackrest_1490_a_restore_tells_its_progress(cluster: Cluster, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    env = make_env(DISK)
    planned = plan_restore(env, request(cluster, LATEST, str(tmp_path / "to")))
    asyncio.run(restore(env, planned, lambda done, of: told.append((done, of))))
    assert told and told[-1][0] == told[-1][1] > 0


def test_pgmoneta_911_a_failed_restore_leaves_nothing_half_written(cluster: Cluster) -> None:
    """A plan says beforehand what will be done; and what fails on the way changed nothing."""
    env = make_env(DISK)
    planned = plan_restore(env, request(cluster, LATEST))
    path = segment_files(cluster.archive)[-1]
    path.write_bytes(path.read_bytes()[:-60] + bytes(60))
    rows = rows_in(DISK, cluster.root)
    with pytest.raises(Corrupt):
        asyncio.run(restore(env, planned))
    assert rows_in(DISK, cluster.root) == rows
    assert not Path(cluster.root, "aside").exists()


def test_foundationdb_1740_what_another_tool_aged_out_is_not_promised(tmp_path: Path) -> None:
    """Files were aged out with another tool, and nobody knew that what was left could not be restored.

    However many of the oldest files are gone: what is shown is reached exactly, and what is not, is refused.
    """
    cluster = Cluster.fresh(DISK, str(tmp_path), 3)
    backup = backup_of(cluster)
    DISK.make_dirs(backup)
    cluster.work(30, backup)
    cluster.snapshot(backup)
    cluster.data()
    cluster.seal()
    by_age = sorted(
        [*segment_files(cluster.archive), *Path(backup).iterdir()], key=lambda path: path.stat().st_mtime_ns
    )
    for number, path in enumerate(by_age[:-1]):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        (found,) = survey(DISK, Source(cluster.archive, backup)).recoverable.values()
        for place, window in enumerate(found):
            for index in {window.first_index, window.last_index}:
                to = str(tmp_path / f"to-{number}-{place}-{index}")
                carry_out(request(cluster, parse_target(until_index=index), to))
                assert rows_in(DISK, to) == cluster.rows_at(index)
        before = found[0].first_index - 1 if found else cluster.archived_end.last
        if before >= 0:
            with pytest.raises((BeyondArchive, ArchiveGap)):
                plan(cluster, parse_target(until_index=before))


def test_rqlite_1551_a_restore_holds_a_segment_and_not_the_archive(tmp_path: Path) -> None:
    """A backup of medium size was held in memory as a whole, and the program died of it."""
    cluster = Cluster.fresh(DISK, str(tmp_path), 1)
    DISK.make_dirs(backup_of(cluster))
    for number in range(40):
        cluster.put("often", number.to_bytes(2, "big") * 100_000)
        cluster.seal()
    sizes = [path.stat().st_size for path in segment_files(cluster.archive)]
    wanted = request(cluster, LATEST, str(tmp_path / "to"))
    tracemalloc.start()
    try:
        carry_out(wanted)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(sizes) == 40 and peak_bytes < sum(sizes) / 4
