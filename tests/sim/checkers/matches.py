"""What a leader believes that others have (raft paper, figure 2: matchIndex increases monotonically).

In one leadership the match of one incarnation of a member never falls, and no match is beyond the leader's
own log. Another incarnation begins anew, because only a restart can lose what was durable; the one before
it does not come back. A member that was removed is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping

from neumann.format.ids import Incarnation
from neumann.raft.progress import Progress
from tests.sim.checkers.violation import require


class Matches:
    """Fed with a leader's progress after each of its steps that changed something."""

    def __init__(self) -> None:
        self._terms: dict[str, int] = {}
        self._known: dict[tuple[str, str], dict[Incarnation, int]] = {}
        self._newest: dict[tuple[str, str], Incarnation] = {}

    def saw(self, leader: str, term: int, last_index: int, progress: Mapping[str, Progress]) -> None:
        """`leader` leads `term`, and its log ends at `last_index`."""
        begins = self._terms.get(leader) != term
        self._terms[leader] = term
        for pair in [
            pair for pair in self._known if pair[0] == leader and (begins or pair[1] not in progress)
        ]:
            del self._known[pair], self._newest[pair]
        for member, one in progress.items():
            index, incarnation = one.match_index, one.incarnation
            require(
                index <= last_index, f"{leader} believes {member} at {index}, beyond its own {last_index}"
            )
            if incarnation is not None:
                self._compare(leader, member, incarnation, index)

    def _compare(self, leader: str, member: str, incarnation: Incarnation, index: int) -> None:
        known = self._known.setdefault((leader, member), {})
        newest = self._newest.setdefault((leader, member), incarnation)
        if incarnation != newest:
            require(incarnation not in known, f"{leader} believes an earlier start of {member} again")
            self._newest[leader, member] = incarnation
        before = known.get(incarnation, 0)
        require(index >= before, f"{leader}: the match of {member} fell from {before} to {index}")
        known[incarnation] = index
