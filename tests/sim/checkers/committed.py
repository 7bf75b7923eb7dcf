"""State machine safety and leader completeness: what is committed stays, and is the same everywhere.

The first node that commits a frame defines it. All others must have that very frame, and so must every
leader of a later term than that in which it was committed. Each frame follows the one before, in time too.
The model applies the committed frames, so it knows what every answer must have been.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neumann.format.frame import Frame, check_follows
from neumann.format.ids import LogPoint
from neumann.raft.log import FrameLog
from tests.sim.checkers.violation import require
from tests.sim.model import Model

BEGINNING = LogPoint(0, 0, 0)
ReadFrames = Callable[[int, int], Sequence[Frame]]
"""(after index, last index) -> the whole frames between."""


class Committed:
    """The one log of the cluster, as far as any node has committed it."""

    def __init__(self, base: LogPoint = BEGINNING, model: Model | None = None) -> None:
        self.base = base
        self.frames: list[Frame] = []
        self.model = model if model is not None else Model()
        self._ends: dict[int, LogPoint] = {base.index: base}
        self._seen: dict[str, int] = {}
        self._ends_by_term: dict[int, LogPoint] = {}

    def restored(self, cut_index: int, base: LogPoint) -> Committed:
        """The log of the timeline that begins at `base` with everything up to `cut_index` of this one."""
        return Committed(base, self.model.restored(cut_index, base.index))

    @property
    def last(self) -> LogPoint:
        """The newest committed frame end, or where the log begins."""
        return self.frames[-1].header.end if self.frames else self.base

    def has(self, point: LogPoint) -> bool:
        """Whether that very frame end is committed."""
        return self._ends.get(point.index) == point

    def started(self, node_id: str) -> None:
        """The node begins again: its commit index may start lower, its log may not miss anything."""
        self._seen.pop(node_id, None)

    def saw(self, node_id: str, term: int, commit_index: int, log: FrameLog, read_frames: ReadFrames) -> None:
        """A node's commit index in its term, after a step in which either changed."""
        before = self._seen.get(node_id, 0)
        require(commit_index >= before, f"{node_id}: commit index fell from {before} to {commit_index}")
        require(commit_index <= log.last.index, f"{node_id}: commits {commit_index} behind its log's end")
        self._seen[node_id] = commit_index
        if commit_index > self.last.index:
            self._extend(node_id, max(self.last.index, log.base.index), commit_index, read_frames)
            self._ends_by_term[term] = self.last
        self._compare(node_id, log.end_at(commit_index))

    def leads(self, node_id: str, term: int, log: FrameLog) -> None:
        """Leader completeness (raft paper, figure 3): a leader has what was committed in earlier terms.

        One that hears late that it was elected need not have what a later leader committed meanwhile.
        """
        earlier = [end for committed_in, end in self._ends_by_term.items() if committed_in < term]
        last = max(earlier, key=lambda end: end.index, default=self.base)
        if last.index > log.base.index:
            own = log.end_at(last.index)
            require(own == last, f"{node_id} leads term {term} with {own} where {last} is committed")

    def _extend(self, node_id: str, after: int, last: int, read_frames: ReadFrames) -> None:
        require(after == self.last.index, f"{node_id} commits {last}; {self.last.index + 1}..{after} unseen")
        for frame in read_frames(after, last):
            if self.frames:
                check_follows(self.frames[-1].header, frame.header)
            self.frames.append(frame)
            self._ends[frame.header.last_index] = frame.header.end
            self.model.apply(frame)
        require(self.last.index == last, f"{node_id} commits {last}, which is inside a frame")

    def _compare(self, node_id: str, own: LogPoint | None) -> None:
        if own is None or own.index == 0:
            return
        known = self._ends.get(own.index)
        require(known == own, f"{node_id} committed {own} where {known} was committed before")
