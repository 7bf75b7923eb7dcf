"""Point-in-time recovery: to an instant between two known writes, after all data directories are gone."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from tests.procedures.cluster import must
from tests.procedures.drill import snapshot
from tests.procedures.drill.stage import Row, Stage

_APART_S = 0.05


def run(stage: Stage, row: Row) -> None:
    backup = stage.hot_backup or snapshot.make(stage)
    last_good = stage.users.put("ljubljana", {"mayor": "before the accident"})
    time.sleep(_APART_S)
    instant = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds")
    until = instant.replace("+00:00", "Z")
    time.sleep(_APART_S)
    stage.users.put("ljubljana", {"mayor": "after the accident"})
    expected = stage.record.state(through=last_good.index)
    stage.follower().must_admin("archive-flush", "--timeout", "30")
    stage.say(f"pitr: all three data directories are removed; back to {until}")
    stage.destroy()

    first, *others = stage.cluster.members
    with stage.restoring(row):
        must(["mkdir", "-p", first.data / "raft/snapshots"])
        must(["sh", "-c", f"cp '{backup.path}'/latest/* '{first.data}/raft/snapshots/'"])
        first.must_admin("wal-replay", "--wal-dir", stage.archive, "--until", until, "--yes")
        first.start("--bootstrap")
        stage.cluster.wait_serving()
        for member in others:
            member.start("--bootstrap")
        stage.cluster.wait_serving()
    stage.cluster.wait_voters(3)
    stage.came_back(expected)
    stage.check(row, expected, stage.cluster.members, last_good)
