"""Two timelines of one cluster on machines that reach each other: only one of them serves."""

from __future__ import annotations

import time
from pathlib import Path

from tests.procedures.cluster import Cluster, Member


def test_old_members_that_start_beside_a_restored_node_do_not_serve(cluster: Cluster, archive: Path) -> None:
    """Bug 34: node 1 was restored and all three were started at once; nodes 2 and 3, with their old state,
    were not leading yet when node 1 asked, so both timelines elected a leader and both took writes."""
    cluster.stop()
    restored = cluster["n1"].admin("wal-replay", "--wal-dir", archive, "--until", "latest", "--yes")
    assert restored.code == 0, restored
    for node_id in ("n2", "n3", "n1"):
        cluster[node_id].start("--bootstrap")
    serving: set[str] = set()
    rounds_left = 2
    deadline = time.monotonic() + 40
    while rounds_left and time.monotonic() < deadline:
        serving |= {member.id for member in cluster.members if _takes_a_write(member)}
        rounds_left -= bool(serving)
    assert serving in ({"n1"}, {"n2", "n3"}), f"two timelines took writes: {serving}"


def _takes_a_write(member: Member) -> bool:
    try:
        return member.request("PUT", f"/kv/t/from-{member.id}", 1, timeout_s=20).status == 200
    except OSError:
        return False
