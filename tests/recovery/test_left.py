"""Timelines that were left: what was written there besides is never passed over without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.archive.sources import Source
from neumann.env.disk import RealDisk
from neumann.errors import BeyondArchive, WrongHistory
from neumann.recovery.prepare import Planned, plan_restore
from neumann.recovery.survey import survey
from neumann.recovery.targets import Target, parse_target
from tests.recovery.test_restore import by_time, carry_out, own, recover, request
from tests.recovery.world import SECOND, Cluster, make_env

DISK = RealDisk()
LATEST = parse_target(until="latest")
DAY = 86400 * SECOND


@pytest.fixture
def production(tmp_path: Path) -> Cluster:
    """Six rows, archived."""
    made = Cluster.fresh(DISK, str(tmp_path), 1)
    for number in range(6):
        made.put(f"k{number}", number)
    made.seal("here")
    return made


def restored(cluster: Cluster, index: int, to: str = "") -> Cluster:
    """Restored to that entry, in place or elsewhere, and started: its first sealed segment is archived."""
    carry_out(request(parse_target(until_index=index), cluster, to, timeline=own(cluster)))
    child = Cluster.restored(cluster, to or cluster.root, cluster.rows_at(index))
    child.wall_ns = child.manifest.history.records[-1].time_ns
    child.seal()
    return child


def plan(cluster: Cluster, target: Target, timeline: str = "") -> Planned:
    return plan_restore(make_env(DISK), request(target, cluster, f"{cluster.archive}-to", timeline=timeline))


def test_latest_is_not_a_trial_that_somebody_started_once(production: Cluster, tmp_path: Path) -> None:
    """Bug: a restore beside the cluster was started for a look; `latest` followed its timeline, and left out
    all that the cluster wrote and archived on its own since, with exit 0 (pgbackrest#1616)."""
    trial = restored(production, 2, f"{tmp_path}/trial")
    assert plan(production, LATEST).plan.origin == (trial.manifest.history.timeline, trial.log.last.index)
    production.wall_ns += DAY
    production.seal()
    assert plan(production, LATEST).plan.origin[0] == trial.manifest.history.timeline, "a marker is no data"
    last = production.put("since", 1)
    production.seal("here")
    with pytest.raises(WrongHistory, match="2 lines of history, and latest may mean either") as refused:
        plan(production, LATEST)
    choices = {f"--timeline {own(cluster)}" for cluster in (production, trial)}
    assert set(refused.value.remedy.removeprefix("choose one: ").split("; ")) == choices
    found = survey(DISK, Source(production.archive, ""))
    assert set(found.recoverable) == {own(production), own(trial)}
    assert recover(LATEST, production, f"{tmp_path}/r", timeline=own(production)) == production.rows
    with pytest.raises(WrongHistory, match="may mean either"):
        plan(production, by_time(trial.archived_end.time_ns))
    with pytest.raises(BeyondArchive) as beyond:
        plan(production, by_time(last.time_ns))
    assert f"--timeline {own(production)}" in beyond.value.remedy
    assert plan(production, by_time(production.frames[1].time_ns)).plan.origin[1] == 2
    assert (
        plan(production, parse_target(until_index=trial.log.last.index)).plan.cut.index
        == trial.log.last.index
    )


def test_a_time_at_which_only_the_left_timeline_was_there(production: Cluster) -> None:
    """Bug: after a restore to too early a moment a later one was refused, with the timeline that has it
    named; the first archived frame of the new leader made it a silent success with the earlier rows."""
    asked, left = production.frames[4], own(production)
    child = restored(production, 2)
    with pytest.raises(WrongHistory, match="may mean either") as refused:
        plan(production, by_time(asked.time_ns))
    for timeline in (left, own(child)):
        assert f"--timeline {timeline}" in refused.value.remedy
    assert plan(production, by_time(asked.time_ns), left).plan.origin[1] == asked.last
    assert plan(production, by_time(asked.time_ns), own(child)).plan.origin[1] == 2
    for time_ns in (production.frames[1].time_ns, production.frames[2].time_ns - 1):
        assert plan(production, by_time(time_ns)).plan.origin[1] == 2, "nothing is between it and the fork"
    assert plan(production, by_time(child.archived_end.time_ns)).plan.cut.index == child.log.last.index
    (note,) = plan(production, LATEST).notes
    assert f"--timeline {left}" in note


def test_a_restore_is_made_after_the_log_that_it_saw(production: Cluster) -> None:
    """A leader's clock an hour ahead of the restore's made its last rows look written after the restore."""
    production.wall_ns += DAY
    production.put("mistake", 1)
    production.seal()
    child = restored(production, 2)
    assert child.manifest.history.records[-1].time_ns == production.archived_end.time_ns
    assert plan(production, LATEST).plan.cut.index == child.log.last.index


def test_a_restore_point_of_a_timeline_that_goes_on(production: Cluster, tmp_path: Path) -> None:
    """The same name on a trial and on the cluster: both are named."""
    trial = restored(production, 2, f"{tmp_path}/trial")
    trial.seal("nightly")
    assert plan(production, parse_target(until_name="nightly")).plan.cut.index == trial.log.last.index
    production.wall_ns += DAY
    production.put("since", 1)
    production.seal()
    assert plan(production, parse_target(until_name="nightly")).plan.cut.index == trial.log.last.index
    production.seal("nightly")
    with pytest.raises(WrongHistory, match="'nightly' may mean either"):
        plan(production, parse_target(until_name="nightly"))
    with pytest.raises(BeyondArchive):
        plan(production, by_time(production.archived_end.time_ns + DAY))
