"""Log matching, with the chain: an (index, term) names one frame end and one whole log below it.

A chain value covers everything before it, so two logs that agree on it agree on all of that; comparing
frame ends as they are appended is the whole check (raft paper, figure 3; design section 4, "Frame").
"""

from __future__ import annotations

from neumann.format.ids import LogPoint
from neumann.raft.log import FrameLog
from tests.sim.checkers.violation import require


class LogMatching:
    """Fed with each node's log whenever its end has changed."""

    def __init__(self) -> None:
        self._chains: dict[tuple[int, int], tuple[int, str]] = {}
        self._ends: dict[str, LogPoint] = {}

    def saw(self, node_id: str, log: FrameLog) -> None:
        """Compare all frame ends that came since the last look."""
        point = log.last
        while self._is_news(node_id, point) and point.index > log.base.index:
            point = log.previous_end(point.index)
        self._ends[node_id] = log.last

    def _is_news(self, node_id: str, point: LogPoint) -> bool:
        index, term, chain = point
        known, where = self._chains.setdefault((index, term), (chain, node_id))
        require(
            known == chain,
            f"({index}, {term}) has chain {known:08x} on {where} and {chain:08x} on {node_id}",
        )
        return point != self._ends.get(node_id) and where == node_id
