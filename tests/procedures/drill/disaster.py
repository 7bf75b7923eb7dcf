"""Disaster recovery: the site is lost; the tarball comes back on three machines with other addresses."""

from __future__ import annotations

import time

from tests.procedures.cluster import Cluster, must
from tests.procedures.drill import cold
from tests.procedures.drill.stage import Row, Stage

_WRITES_SINCE_S = 0.5


def run(stage: Stage, row: Row) -> None:
    backup = stage.cold_backup or cold.make(stage)
    with stage.users.trickle():
        time.sleep(_WRITES_SINCE_S)
    stage.say("disaster: the site is gone")
    lost = stage.destroy()

    stage.cluster = Cluster(stage.root / "site-b", sections=stage.sections)
    first, *others = stage.cluster.members
    with stage.restoring(row):
        into = ["-C", str(first.data), "--strip-components=3", "var/lib/neumann"]
        must(["tar", "-xzf", backup.path, *into])
        first.must_admin("init-cluster", "--bootstrap", "--yes")
        first.start("--bootstrap")
        stage.cluster.wait_serving()
        for member in others:
            member.start("--bootstrap")
        stage.cluster.wait_serving()
        first.must_admin("cluster-status", "--wait", "30", "--for", "voters=3")
    stage.came_back(backup.state)
    stage.check(row, backup.state, stage.cluster.members, lost)
