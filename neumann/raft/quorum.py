"""Pure questions about majorities. Stateless, and exact for any number of voters.

An empty set of voters decides nothing: it elects nobody and commits nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from enum import Enum

from neumann.format.ids import Configuration, voters_wanted

PARTNER_WAIT_MS = 60_000
"""So long a learner waits for a second one, so that the number of voters stays odd (section 6)."""


class Vote(Enum):
    """How an election stands."""

    PENDING = 0
    WON = 1
    LOST = 2


def majority(voter_count: int) -> int:
    """The smallest number of voters that any two such groups share one."""
    return voter_count // 2 + 1


def reached_by_majority(values: list[int]) -> int:
    """The largest number that a majority of `values` (one for each voter) has reached; else 0."""
    if not values:
        return 0
    return sorted(values)[(len(values) - 1) // 2]


def vote_result(voters: Collection[str], granted: Set[str], refused: Set[str]) -> Vote:
    """Whether these answers decide an election among `voters`; others' answers don't count."""
    needed = majority(len(voters))
    yes = sum(voter in granted for voter in voters)
    no = sum(voter in refused for voter in voters)
    if yes >= needed:
        return Vote.WON
    return Vote.LOST if len(voters) - no < needed else Vote.PENDING


def next_promotion(configuration: Configuration, caught_up: Set[str], waited_ms: int) -> str | None:
    """The learner to promote now, or None (design section 6).

    Promotions come in pairs, so that the number of voters stays odd: this names the first of a pair
    only when both have caught up, and the second as soon as the first is a voter. `waited_ms`: how
    long some learner has been caught up; after PARTNER_WAIT_MS a sole voter takes one alone.
    """
    voter_count = len(configuration.voters)
    room = voters_wanted(len(configuration.members) - len(configuration.held)) - voter_count
    ready = [n for n in configuration.learners if n in caught_up and n not in configuration.held]
    if not ready or room <= 0:
        return None
    completes_a_pair = voter_count % 2 == 0
    begins_a_pair = len(ready) >= 2 and room >= 2
    alone = voter_count == 1 and waited_ms >= PARTNER_WAIT_MS
    return ready[0] if completes_a_pair or begins_a_pair or alone else None
