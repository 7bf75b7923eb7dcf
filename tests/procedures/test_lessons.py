"""What users of other systems met with whole clusters, where it can happen here: a test for each thread."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.procedures.cluster import Cluster
from tests.procedures.disks import compare_disks


def test_rqlite_2050_1088_a_follower_is_asked_for_a_backup(cluster: Cluster, archive: Path) -> None:
    """A follower answered with junk, and success. Here each node gives what the leader would."""
    followers = [member for member in cluster.members if member is not cluster.leader()]
    for number, follower in enumerate(followers):
        assert follower.request("PUT", f"/kv/t/before-{number}", number).status == 200
        made = json.loads(follower.must_admin("snapshot", "--format", "json"))
        follower.must_admin("verify-checksums", "--snapshot", follower.data / "raft/snapshots" / made["id"])
        follower.must_admin("restore-point", f"point-{number}")
        follower.must_admin("archive-check", "--wal-dir", archive)
    listed = json.loads(followers[0].must_admin("wal-list", "--wal-dir", archive, "--format", "json"))
    assert listed["wrong"] == []
    assert {"point-0", "point-1"} <= {point["name"] for point in listed["restore_points"]}


@pytest.mark.slow
def test_etcd_6361_members_that_join_a_restored_node_have_its_data(cluster: Cluster, archive: Path) -> None:
    """A cluster was restored on one member; those that were added then served other data.

    What the two had before lies in their aside/, writes behind the restored moment and all.
    """
    cluster["n1"].must_admin("restore-point", "good")
    assert cluster["n1"].request("PUT", "/kv/t/mistake", 1).status == 200
    cluster["n1"].must_admin("archive-flush")
    cluster.stop()
    cluster["n1"].must_admin("wal-replay", "--wal-dir", archive, "--until-name", "good", "--yes")
    for node_id in ("n2", "n3"):
        cluster[node_id].must_admin("rejoin", "--yes")
    cluster.start("--bootstrap")
    cluster.wait_voters(3)
    for member in cluster.members:
        assert member.request("PUT", f"/kv/t/from-{member.id}", 1).status == 200
        assert member.request("GET", "/kv/t/mistake").status == 404
    compared = compare_disks(cluster)
    assert compared.snapshots >= 1 and compared.tables >= 1
