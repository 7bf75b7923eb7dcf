"""Nodes that should not be there: of the old timeline, of a sibling, or a copy of a member's disk.

None of them votes, wins, archives or serves beside the living cluster, and that cluster's term, timeline and
leader do not change for their sake (design section 6, R11).
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.procedures.cluster import Cluster, Member

BESIDE_S = 4.0
"""Several election timeouts of the default configuration."""


class Life(NamedTuple):
    """What must not change while an intruder is there, and what it must not write."""

    leader: str
    term: int
    timeline: str
    archive: frozenset[str]


def life(cluster: Cluster, archive: Path) -> Life:
    status = cluster.leader().status()
    listed = frozenset(path.name for path in archive.iterdir())
    return Life(status["leader"], status["term"], status["timeline"], listed)


def stranger(cluster: Cluster, directory: Path, archive: Path, node_id: str) -> Member:
    """A node on another address with the cluster's peers in its configuration, as a clone has."""
    member = Member(node_id, directory)
    peers = {one.id: one.address for one in cluster.members if one.id != node_id}
    wal = {"archive_command": f"cp %p {archive}/%f", "archive_timeout": 1}
    member.write_config({**peers, node_id: member.address}, {"wal": wal})
    return member


def watch(cluster: Cluster, intruder: Member, archive: Path) -> None:
    """Beside the living cluster the intruder does nothing, and nothing happens to the cluster."""
    before = life(cluster, archive)
    intruder.start("--bootstrap")
    try:
        deadline = time.monotonic() + BESIDE_S
        while time.monotonic() < deadline:
            assert not takes_a_write(intruder, timeout_s=1)
            time.sleep(0.2)
        assert life(cluster, archive) == before
        assert cluster.leader().request("PUT", "/kv/t/still", 1).status == 200
    finally:
        if intruder.is_running():
            intruder.kill()


def takes_a_write(member: Member, timeout_s: float) -> bool:
    try:
        return member.request("PUT", f"/kv/t/from-{member.id}", 1, timeout_s=timeout_s).status == 200
    except OSError:
        return False


def clone_says(clone: Member) -> str:
    """Why it does not serve, once it tells."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            answer = clone.request("GET", "/health", timeout_s=2)
        except OSError:
            time.sleep(0.1)
            continue
        if answer.status == 503 and "disk of member" in str(answer.body):
            return str(answer.body)
        time.sleep(0.1)
    raise AssertionError("the clone did not say what it is")


def restore(member: Member, archive: Path) -> None:
    ended = member.admin("wal-replay", "--wal-dir", archive, "--until", "latest", "--yes")
    assert ended.code == 0, ended


def test_a_member_of_the_old_timeline_comes_back(cluster: Cluster, archive: Path, tmp_path: Path) -> None:
    cluster.stop()
    old = tmp_path / "old"
    shutil.copytree(cluster["n3"].directory, old / "n3")
    restore(cluster["n1"], archive)
    for node_id in ("n2", "n3"):
        cluster[node_id].must_admin("rejoin", "--yes")
    cluster.start("--bootstrap")
    cluster.wait_voters(3)
    cluster["n1"].must_admin("archive-flush")
    watch(cluster, stranger(cluster, old, archive, "n3"), archive)


@pytest.mark.slow
def test_a_sibling_that_was_restored_elsewhere(cluster: Cluster, archive: Path, tmp_path: Path) -> None:
    """Restored from the same archive by somebody else, and started with the living cluster's peers."""
    elsewhere = tmp_path / "elsewhere"
    sibling = stranger(cluster, elsewhere, archive, "n1")
    refused = sibling.admin("wal-replay", "--wal-dir", archive, "--until", "latest", "--yes")
    assert refused.code == 7, refused  # its peers serve this very cluster
    restored = sibling.admin(
        "wal-replay", "--wal-dir", archive, "--until", "latest", "--yes", "--to", tmp_path / "to"
    )
    assert restored.code == 0, restored
    shutil.rmtree(sibling.data)
    (tmp_path / "to").rename(sibling.data)
    watch(cluster, sibling, archive)


def test_a_copy_of_a_members_disk(cluster: Cluster, archive: Path, tmp_path: Path) -> None:
    """Bug: a copied disk on another address had the member's identity and vote, so it could win an election
    with one other vote, while the member itself gave its own to somebody else."""
    copied = tmp_path / "copied"
    cluster["n3"].stop()
    shutil.copytree(cluster["n3"].directory, copied / "n3")
    cluster["n3"].start("--bootstrap")
    cluster.wait_serving()
    clone = stranger(cluster, copied, archive, "n3")
    watch(cluster, clone, archive)
    clone.start("--bootstrap")
    said = clone_says(clone)
    assert cluster["n3"].address in said and clone.address in said
    leader = cluster.leader()
    leader.kill()
    deadline = time.monotonic() + 20
    rest = [member for member in cluster.members if member is not leader]
    while not any(takes_a_write(member, timeout_s=5) for member in rest):
        assert time.monotonic() < deadline, "the members did not find a leader beside a clone"
    leaders = {one.id: one.status().get("leader") for one in [*cluster.running(), clone]}
    assert takes_a_write(clone, timeout_s=2) is False, leaders
    clone.kill()
