"""A restore that is repeated: after a kill, after it was done, after the node went on, to a later moment."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.errors import NeumannError, RefusedByState
from neumann.recovery.prepare import plan_restore
from neumann.recovery.targets import parse_target
from tests.recovery.test_restore import by_time, carry_out, own, request
from tests.recovery.world import Cluster, make_env, rows_in

DISK = RealDisk()


def test_to_goes_on_after_a_kill_and_knows_its_own_result(tmp_path: Path) -> None:
    """What a killed restore had left in the new directory was taken for somebody's: `is not empty`."""
    cluster = Cluster.fresh(DISK, str(tmp_path), 10)
    cluster.put("a", 1)
    cluster.seal()
    to = tmp_path / "r"
    (to / "scratch" / "restore" / "store").mkdir(parents=True)
    (to / "scratch" / "restore" / "store" / "half").write_text("written")
    (to / "lock").write_text("")
    wanted = request(parse_target(until_index=1), cluster, str(to))
    assert not carry_out(wanted).already
    assert carry_out(wanted).already
    other = request(parse_target(until_index=2), cluster, str(to))
    for refused in (other, replace(wanted, again=True)):
        with pytest.raises(RefusedByState, match="not empty"):
            carry_out(refused)
    assert rows_in(DISK, str(to)) == cluster.rows_at(1)


def test_again_says_that_the_directory_has_gone_on(tmp_path: Path) -> None:
    """It said `is at this point` of a directory that had taken writes since."""
    cluster = Cluster.fresh(DISK, str(tmp_path), 1)
    cluster.put("kept", 1)
    reached = cluster.put("last", 2)
    cluster.put("mistake", 3)
    cluster.seal()
    wanted = request(parse_target(until_index=reached.last), cluster)
    carry_out(wanted)
    rows = rows_in(DISK, cluster.root)
    again = carry_out(wanted)
    assert again.already and not again.has_gone_on
    written = Cluster.restored(cluster, cluster.root, rows).put("since", 4)
    again = carry_out(wanted)
    assert again.already and again.has_gone_on and again.end_index == written.last
    anew = carry_out(replace(wanted, again=True, timeline=own(cluster)))
    assert not anew.already and rows_in(DISK, cluster.root) == rows


@pytest.mark.parametrize(
    ("gone", "what", "is_to"),
    [
        ("store", "holds no state", False),
        ("store", "holds no state", True),
        ("store/*.table", "is missing", False),
        ("raft/vote", "vote is missing", False),
        ("raft/wal/*.wal", "does not hold the log behind", False),
    ],
)
def test_what_was_restored_and_is_not_there_is_not_called_restored(
    tmp_path: Path, gone: str, what: str, is_to: bool
) -> None:
    """Only raft/restored was read: store/ and the log were deleted, and `already restored, nothing was
    changed` was said, with exit 0, of a directory from which no node starts."""
    cluster = Cluster.fresh(DISK, str(tmp_path), 1)
    cluster.put("a", 1)
    cluster.snapshot(f"{cluster.archive}-snapshots")
    cluster.put("b", 2)
    cluster.seal()
    wanted = request(parse_target(until="latest"), cluster, f"{tmp_path}/r" if is_to else "")
    carry_out(wanted)
    root = Path(wanted.to or wanted.data_dir)
    for path in root.glob(gone):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    left = sorted(root.rglob("*"))
    wanted = replace(wanted, target=parse_target(until_index=cluster.archived_end.last))
    with pytest.raises(RefusedByState, match=f"is not whole: .*{what}") as refused:
        carry_out(wanted)
    assert sorted(root.rglob("*")) == left
    if is_to:
        assert "new directory" in refused.value.remedy
    else:
        assert "--again" in refused.value.remedy
        assert not carry_out(replace(wanted, again=True)).already
        assert rows_in(DISK, str(root)) == cluster.rows and carry_out(wanted).already


def test_a_restore_that_came_out_too_early_shows_the_way_on(tmp_path: Path) -> None:
    """After a restore to too early a moment, a later one was `after the archive's end` or `no entry`, though
    the archive has it: on the timeline that the first restore has left. It is named, and taken only when
    asked for."""
    cluster = Cluster.fresh(DISK, str(tmp_path), 1)
    frames = [cluster.put(f"k{number}", number) for number in range(6)]
    cluster.seal("good")
    carry_out(request(parse_target(until_index=2), cluster))
    left = own(cluster)
    for target in (parse_target(until_index=4), by_time(frames[3].time_ns), parse_target(until_name="good")):
        with pytest.raises(NeumannError) as refused:
            carry_out(request(target, cluster))
        assert f"--timeline {left}" in refused.value.remedy and refused.value.exit_code in (2, 3)
    latest = plan_restore(make_env(DISK), request(parse_target(until="latest"), cluster))
    assert any(f"--timeline {left}" in note for note in latest.notes)
    beyond = request(parse_target(until_index=99), cluster)
    with pytest.raises(NeumannError) as refused:
        carry_out(beyond)
    assert "--timeline" not in refused.value.remedy
    carry_out(request(parse_target(until_index=4), cluster, timeline=left))
    assert rows_in(DISK, cluster.root) == cluster.rows_at(4)
