"""A cluster made by --as-new-cluster, and the archive of the one that it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.errors import WrongHistory
from neumann.format.names import Paths
from neumann.recovery.prepare import plan_restore
from neumann.recovery.targets import parse_target
from neumann.store.manifests import load_newest
from tests.recovery.test_restore import DISK, carry_out, own, recover, request
from tests.recovery.world import Cluster, make_env

LATEST = parse_target(until="latest")


def clone(cluster: Cluster, root: str) -> Cluster:
    """Restored as a new cluster, started, and writing."""
    carry_out(request(LATEST, cluster, root, as_new_cluster=True))
    return Cluster.restored(cluster, root, cluster.rows)


def test_an_archive_with_files_of_a_clone_is_used_by_who_says_whose_are_meant(tmp_path: Path) -> None:
    """A clone archived by cp into production's archive: after that nothing could be restored from it, also
    not with --timeline, and the refusal named no way out."""
    cluster = Cluster.fresh(DISK, str(tmp_path), 1)
    cluster.put("a", 1)
    cluster.snapshot(f"{cluster.archive}-snapshots")
    cluster.put("b", 2)
    cluster.seal()
    copy = clone(cluster, f"{tmp_path}/clone")
    copy.put("c", 3)
    copy.seal()
    copy.put("d", 4)
    copy.seal()
    ours, theirs = own(cluster), own(copy)
    Path(cluster.archive, min(copy.archived)).write_bytes(b"")
    with pytest.raises(WrongHistory, match="files of 2 clusters") as refused:
        plan_restore(make_env(DISK), request(LATEST, cluster, f"{tmp_path}/x"))
    assert f"--timeline {ours}" in refused.value.remedy and f"--timeline {theirs}" in refused.value.remedy
    wanted = request(LATEST, cluster, f"{tmp_path}/y", timeline=ours)
    notes = plan_restore(make_env(DISK), wanted).notes
    assert any("not used" in note and copy.manifest.history.cluster_id.hex() in note for note in notes)
    assert recover(LATEST, cluster, f"{tmp_path}/y", timeline=ours) == cluster.rows
    restored = load_newest(DISK, Paths(f"{tmp_path}/y").store)
    assert restored is not None and restored.history.cluster_id == cluster.manifest.history.cluster_id
