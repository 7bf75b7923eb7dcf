"""Hot snapshot backup: taken while clients write, brought back on a machine of its own."""

from __future__ import annotations

import json
import time

from tests.procedures.cluster import must
from tests.procedures.drill.stage import Backup, Row, Stage, Wrong

_WRITES_BEFORE_S = 0.5


def make(stage: Stage) -> Backup:
    """Ask any node for a snapshot and copy what is published to the backup host."""
    node = stage.follower()
    with stage.users.trickle():
        time.sleep(_WRITES_BEFORE_S)
        answer = must(["curl", "-sS", "--fail-with-body", "-X", "POST", f"{node.admin_url}/admin/snapshot"])
        index = int(json.loads(answer)["index"])
        seen = must(["sh", "-c", f"curl -s {node.admin_url}/metrics | grep snapshot"])
        must(["rsync", "-aH", f"{node.data}/raft/snapshots/", f"{stage.snapshots}/"])
        node.must_admin("cluster-info", "--output", stage.backup / "metadata.json")
    copied = int((stage.snapshots / "latest").readlink().name.partition("-")[0])
    if copied < index:
        raise Wrong(f"snapshot {index} was answered, and the newest one published there is {copied}")
    if not any(line.startswith("neumann_snapshot_last_index") for line in seen.splitlines()):
        raise Wrong("`curl -s .../metrics | grep snapshot` does not show neumann_snapshot_last_index")
    stage.hot_backup = Backup(stage.snapshots, stage.record.state(through=copied))
    return stage.hot_backup


def run(stage: Stage, row: Row) -> None:
    backup = make(stage)
    lost = stage.record.last()
    with stage.alone("snapshot") as machine:
        node = machine.members[0]
        with stage.restoring(row):
            must(["mkdir", "-p", node.data / "raft"])
            must(["rsync", "-aH", f"{backup.path}/", f"{node.data}/raft/snapshots/"])
            node.must_admin("init-cluster", "--bootstrap", "--yes")
            machine.start()
        stage.check(row, backup.state, machine.members, lost)
