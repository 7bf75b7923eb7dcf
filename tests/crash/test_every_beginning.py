"""A whole node is restarted from the beginnings of what its disk was told, with the subsets of what was not
synced: a bounded slice here, all of them in the slow tests and in `scripts/crashes`.
"""

from __future__ import annotations

import pytest

from tests.crash.enumerate import Bounds, Tally, go_through
from tests.crash.restart import Restart
from tests.crash.runs import RUNS, witness
from tests.crash.witness import Promise, Witness
from tests.sim.checkers.violation import Violation
from tests.sim.replay import Replay


@pytest.fixture(scope="module", params=RUNS)
def seen(request: pytest.FixtureRequest) -> Witness:
    """Each run, once; a restart changes nothing of it."""
    return witness(request.param)


def did(seen: Witness, what: str, part: str) -> int:
    """How many of its changes were such ones."""
    return sum(change.what == what and part in change.path for change in seen.changes)


def test_a_run_has_everything_in_it(seen: Witness) -> None:
    assert did(seen, "create", "/raft/wal/") >= 5, "segments are sealed"
    assert did(seen, "unlink", "/raft/wal/") >= 2, "the log is dropped"
    assert did(seen, "create", "/store/flush") >= 5
    assert did(seen, "create", "/store/merge") >= 1
    assert did(seen, "unlink", ".table") >= 1, "what was merged goes"
    assert did(seen, "rename", "/raft/snapshots/") >= 3
    assert did(seen, "rename", "/raft/vote") == 1, "it begins with an empty disk"
    if len(seen.machines) > 1:
        assert seen.counts["truncated"] and seen.counts["installed"]
        assert did(seen, "rename", "/scratch/old/wal") == 1
        assert len({promise.term for promise in seen.promises_made}) > 2


def test_a_slice_of_the_beginnings(seen: Witness) -> None:
    tally = Tally()
    go_through(seen, Bounds(every=19, subsets=6, torn=1, again=90), tally)
    print(tally)
    assert tally.counts["restarts"] >= 60


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_beginning(seen: Witness) -> None:
    tally = Tally()
    go_through(seen, Bounds(again=20), tally)
    print(tally)
    assert tally.counts["beginnings"] == len(seen.changes) + 1


def test_a_promise_that_is_not_kept_is_found(seen: Witness) -> None:
    """Without this, a judge that sees nothing would pass everything."""
    kept = seen.promises_made[-1]
    broken = [
        kept._replace(term=kept.term + 2),
        kept._replace(durable=kept.durable._replace(index=kept.durable.index + 1)),
        kept._replace(durable=kept.durable._replace(chain=1)),
        kept._replace(snapshot=kept.snapshot + 1),
        kept._replace(published=kept.published + 1),
    ]
    if len(seen.machines) > 1:  # alone it has voted for itself again before it can be asked
        broken.append(kept._replace(vote=("n9", b"")))
    for promise in broken:
        with pytest.raises(Violation):
            judge(seen, promise)
    judge(seen, kept)


def judge(seen: Witness, promise: Promise) -> None:
    """Restart it from the end of the run."""
    replay = Replay(seen.begin)
    for change in seen.changes:
        replay.repeat(change)
    Restart(seen, promise, replay.fork(), "end").run()
