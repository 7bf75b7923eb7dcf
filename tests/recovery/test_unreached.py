"""What wal-verify and verify-checksums --repo say of a repository is what a restore to its end says."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from neumann.archive.sources import Source
from neumann.errors import ArchiveGap, BeyondArchive, NeumannError, NotFound
from neumann.format.manifest import Archiving
from neumann.recovery.prepare import plan_restore
from neumann.recovery.restore import restore
from neumann.recovery.runs import worst
from neumann.recovery.survey import survey
from neumann.recovery.targets import parse_target
from tests.recovery.test_restore import DISK, carry_out, request
from tests.recovery.world import SECOND, T0, Cluster, make_env, segment_files

LATEST = parse_target(until="latest")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Published at index 2; then eight segments."""
    made = Cluster.fresh(DISK, str(tmp_path), 1)
    made.put("a", 1)
    made.manifest = made.manifest._replace(archiving=Archiving(True, 0))
    made.snapshot(f"{made.archive}-snapshots")
    for number in range(8):
        made.put(f"k{number}", number)
        made.seal()
    return made


def wrong_in(cluster: Cluster, *, restored_to: str) -> list[NeumannError]:
    """What is wrong with the repository: as a restore to its end finds it, or nothing."""
    found = survey(DISK, Source(cluster.archive, f"{cluster.archive}-snapshots"), bodies=True)
    wrong = found.runs.wrong + found.unreached
    code = 0
    try:
        plan_restore(make_env(DISK), request(LATEST, cluster, restored_to))
    except NeumannError as error:
        code = error.exit_code
    assert worst(wrong) == code, wrong
    return wrong


def test_a_whole_repository_has_nothing_wrong(cluster: Cluster, tmp_path: Path) -> None:
    assert wrong_in(cluster, restored_to=f"{tmp_path}/r") == []


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_hole_between_the_newest_snapshot_and_the_log(cluster: Cluster, tmp_path: Path, count: int) -> None:
    """Only holes between two files were looked for: the segments behind the one snapshot were gone, and
    wal-verify ended with 0 each night, though nothing later than the snapshot could be restored. The log up
    to the snapshot, which retention drops, is none."""
    for path in segment_files(cluster.archive)[: count + 1]:
        path.unlink()
    (gap,) = wrong_in(cluster, restored_to=f"{tmp_path}/r")
    assert isinstance(gap, ArchiveGap) and "entries 3.." in gap.message


def test_what_runs_names_is_named_once(cluster: Cluster, tmp_path: Path) -> None:
    segment_files(cluster.archive)[4].unlink()
    (gap,) = wrong_in(cluster, restored_to=f"{tmp_path}/r")
    assert isinstance(gap, ArchiveGap)


def test_a_parents_log_that_ends_before_the_fork(cluster: Cluster, tmp_path: Path) -> None:
    """The child's log is whole, and what it goes on from is not there; a snapshot of the child needs none."""
    carry_out(request(LATEST, cluster))
    ends = segment_files(cluster.archive)[-2:]
    child = Cluster.restored(cluster, cluster.root, cluster.rows)
    child.wall_ns += 60 * SECOND
    child.put("child", 1)
    child.seal()
    for path in ends:
        path.unlink()
    (gap,) = wrong_in(child, restored_to=f"{tmp_path}/r")
    assert isinstance(gap, ArchiveGap) and str(cluster.manifest.history.timeline) in gap.message
    child.snapshot(f"{cluster.archive}-snapshots")
    assert wrong_in(child, restored_to=f"{tmp_path}/s") == []


def test_nothing_to_begin_with(cluster: Cluster, tmp_path: Path) -> None:
    """A log that begins later, without a snapshot: the whole of it is of no use."""
    shutil.rmtree(f"{cluster.archive}-snapshots")
    segment_files(cluster.archive)[0].unlink()
    (gap,) = wrong_in(cluster, restored_to=f"{tmp_path}/r")
    assert isinstance(gap, ArchiveGap) and "entries 1.." in gap.message


def test_a_clone_has_no_empty_beginning(cluster: Cluster, tmp_path: Path) -> None:
    carry_out(request(LATEST, cluster, f"{tmp_path}/clone", as_new_cluster=True))
    cluster.archive = f"{tmp_path}/other"
    DISK.make_dirs(cluster.archive)
    clone = Cluster.restored(cluster, f"{tmp_path}/clone", cluster.rows)
    clone.put("b", 1)
    clone.seal()
    (beyond,) = wrong_in(clone, restored_to=f"{tmp_path}/r")
    assert isinstance(beyond, BeyondArchive)


def test_a_log_that_is_not_there_though_it_was_archived(cluster: Cluster, tmp_path: Path) -> None:
    shutil.rmtree(cluster.archive)
    DISK.make_dirs(cluster.archive)
    (lost,) = wrong_in(cluster, restored_to=f"{tmp_path}/r")
    assert isinstance(lost, NotFound) and "is it mounted" in lost.remedy
    snapshots = f"{cluster.archive}-snapshots"
    shutil.rmtree(snapshots)
    cluster.manifest = cluster.manifest._replace(archiving=Archiving())
    cluster.snapshot(snapshots)
    for path in segment_files(cluster.archive):
        path.unlink()
    assert wrong_in(cluster, restored_to=f"{tmp_path}/s") == [], "it never archived"


def test_a_timeline_that_was_given_up_and_whose_log_has_gone_is_no_loss(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Retention leaves its history file for ever: to call that a gap would be an alarm that never ends."""
    carry_out(request(parse_target(until_index=4), cluster, f"{tmp_path}/first"))
    Cluster.restored(cluster, f"{tmp_path}/first", cluster.rows_at(4))
    wanted = request(LATEST, cluster, f"{tmp_path}/second", timeline=str(cluster.manifest.history.timeline))
    env = make_env(DISK, now_ns=T0 + 7200 * SECOND)
    asyncio.run(restore(env, plan_restore(env, wanted)))
    second = Cluster.restored(cluster, f"{tmp_path}/second", cluster.rows)
    second.put("second", 1)
    snapshots = f"{cluster.archive}-snapshots"
    shutil.rmtree(snapshots)
    second.snapshot(snapshots)
    for path in segment_files(cluster.archive)[:6]:
        path.unlink()
    found = survey(DISK, Source(cluster.archive, snapshots))
    assert found.runs.wrong + found.unreached == []
