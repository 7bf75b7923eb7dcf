"""Continuous archiving: no gap in it, nothing claimed that is not there, and all of it replayed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.procedures.cluster import must
from tests.procedures.drill.stage import ARCHIVE_TIMEOUT_S, Row, Stage, Wrong

_COPY_ATTEMPTS = 20


def listed(stage: Stage, directory: Path) -> dict[str, Any]:
    """What `wal-list` says of an archive; Wrong names the gap if it has one."""
    ended = stage.cluster.members[0].admin("wal-list", "--wal-dir", directory, "--format", "json")
    if ended.code:
        raise Wrong(f"wal-list ended with {ended.code}: {ended.err.strip()}")
    catalog: dict[str, Any] = json.loads(ended.out)
    if catalog["wrong"]:
        raise Wrong(f"the archive has a gap or a damaged file: {'; '.join(catalog['wrong'])}")
    return catalog


def check_end(stage: Stage) -> None:
    """After all procedures: everything that was archived is there, without a gap."""
    listed(stage, stage.archive)
    if not stage.cluster.running():
        return
    last_file = stage.cluster.leader().status()["archive"]["last_file"]
    if last_file and not (stage.archive / last_file).exists():
        raise Wrong(f"the archive has a gap at its end: {last_file} was archived, says the leader")


def run(stage: Stage, row: Row) -> None:
    with stage.users.trickle():
        time.sleep(2.5 * ARCHIVE_TIMEOUT_S)
        claimed = stage.cluster.leader().status()["archive"]["through"]
    lost = stage.record.last()
    rescued = _copy(stage)
    catalog = listed(stage, rescued)
    end = max(window["last_index"] for window in catalog["windows"])
    if end < claimed:
        gap = f"entries {end + 1}..{claimed} are missing at its end"
        raise Wrong(f"the archive has a gap: {gap}, though the leader said that they were archived")
    with stage.alone("archive") as machine:
        node = machine.members[0]
        with stage.restoring(row):
            words = ["--wal-dir", str(rescued), "--until", "latest", "--as-new-cluster", "--yes"]
            report = json.loads(node.must_admin("wal-replay", *words, "--format", "json"))["restored"]
            machine.start()
        if report["index"] < claimed:
            raise Wrong(f"archived through {claimed}, said the leader; the replay reached {report['index']}")
        stage.check(row, stage.record.state(through=report["index"]), machine.members, lost)


def _copy(stage: Stage) -> Path:
    """The archive as the loss of the whole site would leave it, with no file half written."""
    rescued = stage.root / "rescued-wal"
    for _ in range(_COPY_ATTEMPTS):
        before = must(["ls", "-l", "--full-time", stage.archive])
        must(["rsync", "-a", "--delete", f"{stage.archive}/", f"{rescued}/"])
        if must(["ls", "-l", "--full-time", stage.archive]) == before:
            return rescued
    raise Wrong("the archive never stood still for the time of a copy")
