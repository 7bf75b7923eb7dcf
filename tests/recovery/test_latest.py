"""What `latest` is: the end of the whole log, or a refusal, and never a part of it without a word."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.errors import NotFound
from neumann.format.special import Noop
from neumann.recovery.prepare import Request, plan_restore
from neumann.recovery.targets import parse_target
from tests.recovery.test_restore import by_time, carry_out, request
from tests.recovery.world import Cluster, make_env, rows_in, segment_files

DISK = RealDisk()
LATEST = parse_target(until="latest")


def repository(tmp_path: Path) -> tuple[Cluster, Path, Request]:
    """A cluster, `wal/` and `snapshots/` of its repository, and what asks for its latest state."""
    repo = tmp_path / "repo"
    cluster = Cluster.fresh(DISK, str(tmp_path), 1, archive=f"{repo}/wal")
    cluster.put("a", 1)
    cluster.snapshot(f"{repo}/snapshots")
    cluster.put("b", 2)
    cluster.seal()
    wanted = replace(request(LATEST, cluster, f"{tmp_path}/r"), repo=str(repo), wal_dir="", snapshot_dir="")
    return cluster, repo, wanted


@pytest.mark.parametrize("left", ["an empty directory", "no directory", "something else"])
def test_a_log_that_is_not_mounted_is_not_the_end_of_the_log(tmp_path: Path, left: str) -> None:
    """Bug: where wal/ was an empty mount point, or had not been copied, `latest` was the snapshot alone."""
    cluster, repo, wanted = repository(tmp_path)
    assert plan_restore(make_env(DISK), wanted).plan.cut.index == cluster.archived_end.last
    shutil.rmtree(repo / "wal")
    if left != "no directory":
        (repo / "wal").mkdir()
    if left == "something else":
        (repo / "wal" / "lost+found").mkdir()
    at = cluster.manifest.point.index
    with pytest.raises(NotFound, match=f"{repo}/wal holds no log") as refused:
        plan_restore(make_env(DISK), wanted)
    assert "mounted" in refused.value.remedy and f"--until-index {at}" in refused.value.remedy
    for target in (parse_target(until_index=at), by_time(cluster.manifest.time_ns)):
        assert plan_restore(make_env(DISK), replace(wanted, target=target)).plan.cut.index == at


def test_a_log_that_is_not_mounted_beside_the_log_of_a_node(tmp_path: Path) -> None:
    """Who names a node's own log gets it, and is told what may be missing; one that ends before the snapshot
    is no log."""
    cluster, repo, wanted = repository(tmp_path)
    shutil.rmtree(repo / "wal")
    cluster.log.close()
    planned = plan_restore(make_env(DISK), replace(wanted, include_tail=cluster.root))
    assert planned.plan.cut.index == cluster.log.last.index
    assert any("holds no log" in note for note in planned.notes)
    (tmp_path / "none").mkdir()
    with pytest.raises(NotFound, match="holds no log"):
        plan_restore(make_env(DISK), replace(wanted, include_tail=f"{tmp_path}/none"))


def test_a_cluster_that_did_not_archive_has_no_log(tmp_path: Path) -> None:
    """Its snapshot is the latest state that there is."""
    cluster, repo, wanted = repository(tmp_path)
    cluster.manifest = cluster.manifest._replace(archiving=cluster.manifest.archiving._replace(on=False))
    shutil.rmtree(repo / "snapshots")
    manifest = cluster.snapshot(f"{repo}/snapshots")
    shutil.rmtree(repo / "wal")
    planned = plan_restore(make_env(DISK), wanted)
    assert planned.plan.cut.index == manifest.point.index and not planned.notes


def test_the_own_log_goes_further_than_the_archive(tmp_path: Path) -> None:
    """Bug: what a node had written since the last archived segment, after a disaster the only copy perhaps,
    went to aside/ unmentioned; only who had read of --include-tail knew that it can be taken."""
    cluster = Cluster.fresh(DISK, str(tmp_path), 1)
    cluster.put("a", 1)
    archived = cluster.seal()
    cluster.say(Noop())
    wanted = request(LATEST, cluster)
    assert not plan_restore(make_env(DISK), wanted).notes, "no data are left out"
    last = cluster.put("b", 2)
    cluster.log.close()
    planned = plan_restore(make_env(DISK), wanted)
    (note,) = planned.notes
    assert planned.plan.cut.index == archived.last
    assert f"goes on to index {last.last}" in note and f"--include-tail {cluster.root}" in note
    assert not plan_restore(make_env(DISK), replace(wanted, target=parse_target(until_index=1))).notes
    carry_out(replace(wanted, include_tail=cluster.root))
    assert rows_in(DISK, cluster.root) == cluster.rows


def test_an_own_log_that_is_damaged_hinders_no_restore(tmp_path: Path) -> None:
    """A damaged disk is what many restores are for."""
    cluster = Cluster.fresh(DISK, str(tmp_path), 1)
    cluster.put("a", 1)
    cluster.seal()
    cluster.put("b", 2)
    cluster.log.close()
    for path in segment_files(cluster.paths.wal):
        path.write_bytes(bytes(100))
    assert not plan_restore(make_env(DISK), request(LATEST, cluster)).notes
    shutil.rmtree(cluster.paths.wal)
    Path(cluster.paths.wal).write_text("no directory")
    (note,) = plan_restore(make_env(DISK), request(LATEST, cluster)).notes
    assert "can't be read" in note
