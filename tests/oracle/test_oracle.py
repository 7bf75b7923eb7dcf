"""The oracle agrees over random schedules, every allowed difference is met, and planted bugs are found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mutations.plant import Mutation, planted
from tests.mutations.table import MUTATIONS
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


KNOWN = {
    "an entry of an earlier term is committed by counting",
    "a late, shorter Append cuts the log",
    "a follower commits what it has, not what it was shown",
    "a read is confirmed by answers to an earlier round",
    "reads are confirmed by nobody",
    "votes of any term are counted",
    "elections begin without a pre-vote",
}
BUGS = (
    *(mutation for mutation in MUTATIONS if mutation.name in KNOWN),
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
        "a vote for a log that is behind",
        "neumann.raft.election",
        "Election._far_enough",
        "(request.last_term, request.last_index) >= needed",
        "request.last_index >= needed[1]",
    ),
    Mutation(
        "a voter that hears a leader answers candidates",
        "neumann.raft.election",
        "Election.in_lease",
        'state.leader != "" and ',
        "False and ",
    ),
    Mutation(
        "a member more than the majority is needed",
        "neumann.raft.quorum",
        "reached_by_majority",
        "(len(values) - 1) // 2",
        "(len(values) - 1) // 2 - (len(values) > 3)",
    ),
)


def test_every_known_bug_is_planted() -> None:
    assert len(BUGS) == len(KNOWN) + 4


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(oracle: Etcd, bug: Mutation) -> None:
    """Our own checkers look away, so that it is the oracle that finds it."""
    with planted(bug), pytest.raises(Different):
        for seed in range(PLANTED_SCHEDULES):
            compare(oracle, seed, Report(), lenient=True)
