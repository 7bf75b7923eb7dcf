"""Majorities by table, and promotions in pairs."""

from __future__ import annotations

from itertools import product

import pytest

from neumann.raft import quorum
from neumann.raft.quorum import PARTNER_WAIT_MS, Vote
from tests.raft.disk import members


@pytest.mark.parametrize(
    ("values", "reached"),
    [([], 0), ([7], 7), ([7, 3], 3), ([7, 3, 5], 5), ([9, 7, 3, 5], 5), ([1, 1, 9, 9, 9], 9), ([0, 0, 9], 0)],
)
def test_reached_by_majority(values: list[int], reached: int) -> None:
    assert quorum.reached_by_majority(values) == reached


@pytest.mark.parametrize("count", range(1, 6))
def test_reached_by_majority_is_what_counting_finds(count: int) -> None:
    for values in product(range(4), repeat=count):
        counted = max(n for n in range(4) if sum(v >= n for v in values) >= quorum.majority(count) or n == 0)
        assert quorum.reached_by_majority(list(values)) == counted


@pytest.mark.parametrize(
    ("voters", "granted", "refused", "result"),
    [
        ("a", "", "", Vote.PENDING),
        ("a", "a", "", Vote.WON),
        ("ab", "a", "", Vote.PENDING),
        ("ab", "a", "b", Vote.LOST),
        ("abc", "ab", "", Vote.WON),
        ("abc", "a", "bc", Vote.LOST),
        ("abc", "a", "b", Vote.PENDING),
        ("abcd", "ab", "c", Vote.PENDING),
        ("abcd", "ab", "cd", Vote.LOST),
        ("abc", "axyz", "", Vote.PENDING),
        ("", "abc", "", Vote.LOST),
    ],
)
def test_vote_result(voters: str, granted: str, refused: str, result: Vote) -> None:
    """Figure 2, candidates 2."""
    assert quorum.vote_result(voters, set(granted), set(refused)) is result


@pytest.mark.parametrize(
    ("voters", "learners", "caught_up", "waited_ms", "promoted"),
    [
        ("a", "", "", 0, None),
        ("a", "b", "b", 0, None),
        ("a", "b", "b", PARTNER_WAIT_MS - 1, None),
        ("a", "b", "b", PARTNER_WAIT_MS, "b"),
        ("a", "b", "", PARTNER_WAIT_MS, None),
        ("a", "bc", "b", 0, None),
        ("a", "bc", "c", PARTNER_WAIT_MS, "c"),
        ("a", "bc", "bc", 0, "b"),
        ("ab", "c", "c", 0, "c"),
        ("ab", "c", "", 10**9, None),
        ("abc", "d", "d", 10**9, None),
        ("abc", "de", "d", 10**9, None),
        ("abc", "de", "de", 0, "d"),
        ("abcd", "e", "e", 0, "e"),
        ("abcd", "", "", 0, None),
    ],
)
def test_next_promotion(
    voters: str, learners: str, caught_up: str, waited_ms: int, promoted: str | None
) -> None:
    found = quorum.next_promotion(members(voters, learners), set(caught_up), waited_ms)
    assert found == promoted


def test_five_members_become_five_voters_and_never_four_for_long() -> None:
    configuration = members("a", "bcde")
    counts = []
    while (learner := quorum.next_promotion(configuration, set("bcde"), 0)) is not None:
        member = configuration.member(learner)
        assert member is not None
        configuration = configuration.with_member(member._replace(role="voter"))
        counts.append(len(configuration.voters))
    assert counts == [2, 3, 4, 5]
