"""Snapshots that are damaged: another one leads to the target, or the damage is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.errors import ArchiveGap, Corrupt
from neumann.recovery.prepare import plan_restore
from neumann.recovery.targets import parse_target
from tests.recovery.test_restore import request
from tests.recovery.world import Cluster, make_env, segment_files

DISK = RealDisk()


def _backed_up(tmp_path: Path) -> tuple[Cluster, Path]:
    """An archive with a snapshot between its two entries, and that one's only table."""
    cluster = Cluster.fresh(DISK, str(tmp_path), 11)
    backup = f"{cluster.archive}-snapshots"
    cluster.put("a", 1)
    manifest = cluster.snapshot(backup)
    cluster.put("b", 1)
    cluster.seal()
    (table,) = Path(backup, manifest.snapshot_id).glob("*.table")
    return cluster, table


def _flip(table: Path) -> None:
    data = bytearray(table.read_bytes())
    data[12] ^= 1
    table.write_bytes(data)


def test_a_damaged_snapshot_is_passed_over_and_said(tmp_path: Path) -> None:
    cluster, table = _backed_up(tmp_path)
    _flip(table)
    planned = plan_restore(make_env(DISK), request(parse_target(until="latest"), cluster, f"{tmp_path}/r"))
    assert any("damaged and not used" in note for note in planned.notes)
    assert planned.plan.start.kind == "the empty beginning"


def test_a_damaged_snapshot_that_is_needed_is_named(tmp_path: Path) -> None:
    """Bug: where nothing else leads to the target, a flipped byte of a table was told as a gap in the log,
    with the exit code of one, and the damaged file was not named."""
    cluster, table = _backed_up(tmp_path)
    segment_files(cluster.archive)[0].unlink()
    good = table.read_bytes()
    wanted = request(parse_target(until="latest"), cluster, f"{tmp_path}/r")
    _flip(table)
    with pytest.raises(Corrupt, match=f"{table.parent} is damaged: .*{table.name}") as refused:
        plan_restore(make_env(DISK), wanted)
    assert "copy it again" in refused.value.remedy and "missing from the archive" in refused.value.remedy
    table.unlink()
    with pytest.raises(ArchiveGap) as incomplete:
        plan_restore(make_env(DISK), wanted)
    assert f"{table.parent} is not used" in incomplete.value.remedy
    table.write_bytes(good)
    assert plan_restore(make_env(DISK), wanted).plan.cut.index == cluster.archived_end.last
