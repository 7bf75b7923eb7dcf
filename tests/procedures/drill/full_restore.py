"""Full cluster restore: the tarball of one node onto all three, and a plain start."""

from __future__ import annotations

import time

from tests.procedures.cluster import must
from tests.procedures.drill import cold
from tests.procedures.drill.stage import Row, Stage

_WRITES_SINCE_S = 0.5


def run(stage: Stage, row: Row) -> None:
    backup = stage.cold_backup or cold.make(stage)
    with stage.users.trickle():
        time.sleep(_WRITES_SINCE_S)
    stage.say("full-restore: all three data directories are removed")
    lost = stage.destroy()

    restore = stage.root / "restore"
    with stage.restoring(row):
        must(["mkdir", "-p", restore])
        must(["tar", "-xzf", backup.path, "-C", restore])
        for member in stage.cluster.members:
            must(["rsync", "-aH", f"{restore}/var/lib/neumann/raft/", f"{member.data}/raft/"])
            must(["rsync", "-aH", f"{restore}/var/lib/neumann/store/", f"{member.data}/store/"])
        stage.cluster.start("--bootstrap")
    stage.cluster.wait_voters(3)
    stage.came_back(backup.state)
    stage.check(row, backup.state, stage.cluster.members, lost)
