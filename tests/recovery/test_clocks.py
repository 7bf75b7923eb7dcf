"""Clocks that differ between leaders, or are set back: a time still names one state, and plans say which."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.archive.sources import Source
from neumann.env.disk import RealDisk
from neumann.errors import BeyondArchive
from neumann.format.special import Noop
from neumann.recovery.prepare import Planned, plan_restore
from neumann.recovery.survey import survey
from neumann.recovery.targets import parse_target
from tests.recovery.test_restore import by_time, request
from tests.recovery.world import SECOND, Cluster, Frame, make_env

DISK = RealDisk()
HOUR = 3600 * SECOND


def fail_over(cluster: Cluster, skew_ns: int) -> None:
    """Another leader, whose clock differs by that much from the true time."""
    cluster.term += 1
    cluster.skew_ns = skew_ns
    cluster.say(Noop())


@pytest.fixture(params=["an hour ahead, then failover", "set back by half an hour", "ahead, and ahead again"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    """Three rows by each of three leaders."""
    skews = {
        "an hour ahead, then failover": (HOUR, 0, 0),
        "set back by half an hour": (0, -HOUR // 2, -HOUR // 2),
        "ahead, and ahead again": (0, HOUR, 2 * HOUR),
    }
    made = Cluster.fresh(DISK, str(tmp_path), 1)
    for number, skew_ns in enumerate(skews[request.param]):
        fail_over(made, skew_ns)
        for row in range(3):
            made.put(f"{number}-{row}", row)
        made.seal()
    return made


def plan(cluster: Cluster, time_ns: int, *, exclusive: bool = False) -> Planned:
    return plan_restore(
        make_env(DISK), request(by_time(time_ns, exclusive), cluster, f"{cluster.archive}-to")
    )


def test_every_time_names_one_state_and_the_plan_says_its_edges(cluster: Cluster) -> None:
    """Log time never goes back: a leader behind the log goes on a nanosecond at a time."""
    frames: list[Frame | None] = [None, *cluster.frames]
    for before, frame in zip(frames, cluster.frames, strict=False):
        assert before is None or before.time_ns < frame.time_ns
        here = plan(cluster, frame.time_ns).plan.cut
        assert (here.index, here.time_ns) == (frame.last, frame.time_ns)
        assert here.taken is not None and here.taken[1].time_ns == frame.time_ns
        if before is not None:
            for cut in (plan(cluster, frame.time_ns - 1), plan(cluster, frame.time_ns, exclusive=True)):
                assert cut.plan.cut.index == before.last
                assert cut.plan.cut.left_out is not None
                assert cut.plan.cut.left_out[1].time_ns == frame.time_ns


def test_what_is_shown_as_recoverable_is_the_end_and_nothing_less(cluster: Cluster) -> None:
    """It was cut to the millisecond: after a clock was set back that left out all that came since."""
    end = cluster.archived_end
    (windows,) = survey(DISK, Source(cluster.archive, "")).recoverable.values()
    printed = str(windows[-1]).partition(" .. ")[2].partition(" (")[0]
    wanted = request(parse_target(until=printed), cluster, f"{cluster.archive}-to")
    assert plan_restore(make_env(DISK), wanted).plan.cut.index == end.last
    with pytest.raises(BeyondArchive):
        plan(cluster, end.time_ns + 1)
