"""Election safety: at most one leader can be elected in a term (raft paper, figure 3)."""

from __future__ import annotations

from tests.sim.checkers.violation import require


class ElectionSafety:
    """Fed with every node's role, term and known leader after each of its steps."""

    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}
        self._terms: dict[str, int] = {}

    def saw(self, node_id: str, term: int, leader: str) -> None:
        """`node_id` is in `term` and knows `leader`, perhaps itself; "" is nobody."""
        if leader:
            elected = self.leaders.setdefault(term, leader)
            require(elected == leader, f"term {term} has the leaders {elected} and {leader} (at {node_id})")
        before = self._terms.get(node_id, 0)
        require(term >= before, f"{node_id} went back from term {before} to {term}")
        self._terms[node_id] = term

    def started(self, node_id: str) -> None:
        """The node begins again; a term that it never made durable or told may be forgotten."""
        self._terms.pop(node_id, None)
