"""The oracle agrees over random schedules, every allowed difference is met, and planted bugs are found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mutations.plant import Mutation, planted
from tests.oracle import etcd
from tests.oracle.differences import ALLOWED
from tests.oracle.etcd import Etcd
from tests.oracle.schedules import Different, Report, compare

pytestmark = pytest.mark.skipif(bool(etcd.missing()), reason=etcd.missing() or "is there")

SCHEDULES = 150
PLANTED_SCHEDULES = 150


@pytest.fixture(scope="module")
def oracle() -> Iterator[Etcd]:
    with Etcd() as running:
        yield running


def test_we_and_etcd_decide_alike(oracle: Etcd) -> None:
    report = Report()
    for seed in range(SCHEDULES):
        compare(oracle, seed, report)
    assert report.steps > SCHEDULES * 100 and report.elections > SCHEDULES and report.commits > SCHEDULES
    assert set(report.met) == set(ALLOWED), "a difference that is never met is not to be allowed"


BUGS = (
    Mutation(
        "an entry of an earlier term is committed by counting",
        "neumann.raft.replication",
        "Leadership.advance_commit",
        "index >= self.first_index and ",
        "",
    ),
    Mutation(
        "two votes in one term",
        "neumann.raft.election",
        "Election.answer",
        'free = state.voted_for == candidate or (state.voted_for == NOBODY and state.leader == "")\n',
        "free = True\n"
        "        if not request.pre and state.role is Role.FOLLOWER:\n"
        "            state.voted_for = NOBODY\n",
    ),
    Mutation(
        "a late, shorter Append cuts the log",
        "neumann.raft.following",
        "Following._append",
        "        return frames[-1].header.end if frames else prev\n",
        "        end = max(frames[-1].header.last_index if frames else prev.index, state.commit_index)\n"
        "        if end < state.log.last.index:\n"
        "            state.truncate_after(end)\n"
        "        return frames[-1].header.end if frames else prev\n",
    ),
    Mutation(
        "a follower commits what the leader has, not what it was sent",
        "neumann.raft.following",
        "Following.on_append",
        "state.commit(min(message.commit_index, matched.index))",
        "state.commit(min(message.commit_index, state.log.last.index))",
    ),
    Mutation(
        "a vote for a log that is behind",
        "neumann.raft.election",
        "Election._far_enough",
        "(request.last_term, request.last_index) >= needed",
        "request.last_index >= needed[1]",
    ),
    Mutation(
        "a read is confirmed by answers to an earlier round",
        "neumann.raft.replication",
        "Leadership._begin_round",
        "self._reads.begin(self._round, ",
        "self._reads.begin(self._round - 1, ",
    ),
    Mutation(
        "a voter that hears a leader answers candidates",
        "neumann.raft.election",
        "Election.in_lease",
        'state.leader != "" and ',
        "False and ",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(oracle: Etcd, bug: Mutation) -> None:
    """Our own checkers look away, so that it is the oracle that finds it."""
    with planted(bug), pytest.raises(Different):
        for seed in range(PLANTED_SCHEDULES):
            compare(oracle, seed, Report(), lenient=True)
