"""Client sessions in a replay: repeats change nothing there either, and a new timeline has no sessions.

tests/recovery/world.py puts commands with sessions, and repeats of them, into every archive besides.
"""

from __future__ import annotations

from pathlib import Path

from neumann.format.frame import Kind
from neumann.format.names import Paths
from neumann.recovery.targets import parse_target
from neumann.store.manifests import load_newest
from tests.recovery.test_restore import DISK, recover
from tests.recovery.world import Cluster


def test_a_restore_replays_sessions_and_begins_without_them(tmp_path: Path) -> None:
    """A repeat behind the snapshot must not be applied, and a client of the old timeline must not find its
    session: what it was told may lie behind the cut."""
    cluster = Cluster.fresh(DISK, str(tmp_path), 4)
    while len(cluster.sent) < 5:
        cluster.data()
    snapshot = cluster.snapshot(f"{cluster.archive}-snapshots")
    cluster.put("k", "after")
    index = cluster.log.last.index + 1
    repeats = cluster.write(Kind.DATA, cluster.sent[-5:], [dict(cluster.rows)] * 5)
    cluster.seal()
    assert snapshot.sessions and repeats.first == index
    rows = recover(parse_target(until_index=repeats.last), cluster, f"{tmp_path}/to")
    assert rows == cluster.rows
    restored = load_newest(DISK, Paths(f"{tmp_path}/to").store)
    assert restored is not None and restored.sessions == ()
