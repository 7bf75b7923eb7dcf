"""Cold full backup: writes paused, snapshot, one tarball, writes resumed; then brought back elsewhere."""

from __future__ import annotations

import json
import time

from tests.procedures.cluster import must
from tests.procedures.drill.stage import Backup, Row, Stage, Wrong

_WHILE_PAUSED_S = 0.5


def make(stage: Stage) -> Backup:
    """The tarball of one node, made while clients try to write."""
    node = stage.follower()
    tarball = stage.backup / f"neumann-backup-{time.strftime('%Y%m%d')}.tar.gz"
    refused_before = stage.users.refused
    with stage.users.trickle():
        paused = json.loads(node.must_admin("pause-writes", "--reason", "drill", "--format", "json"))
        must(["curl", "-sS", "--fail-with-body", "-X", "POST", f"{node.admin_url}/admin/snapshot"])
        time.sleep(_WHILE_PAUSED_S)
        parts = ["var/lib/neumann/raft/snapshots", "var/lib/neumann/store", "etc/neumann"]
        must(["tar", "-czf", tarball, "-C", node.directory, *parts])
        resumed = json.loads(node.must_admin("resume-writes", "--format", "json"))
        must(["sh", "-c", f"tar -tzf '{tarball}' | head"])
        time.sleep(_WHILE_PAUSED_S)
    inside = [
        write.index for write in stage.record.since(0) if paused["index"] < write.index < resumed["index"]
    ]
    if inside:
        raise Wrong(f"writes were acknowledged while they were paused: {inside[:5]}")
    if stage.users.refused == refused_before:
        raise Wrong("no write was refused while writes were paused")
    if stage.record.last().index < resumed["index"]:
        raise Wrong("no write was accepted after resume-writes")
    stage.cold_backup = Backup(tarball, stage.record.state(through=paused["index"]))
    return stage.cold_backup


def run(stage: Stage, row: Row) -> None:
    backup = make(stage)
    lost = stage.record.last()
    with stage.alone("cold") as machine:
        node = machine.members[0]
        with stage.restoring(row):
            must(["tar", "-xzf", backup.path, "-C", node.directory, "var/lib/neumann"])
            node.must_admin("init-cluster", "--bootstrap", "--yes")
            machine.start()
        stage.check(row, backup.state, machine.members, lost)
