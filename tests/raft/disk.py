"""What one node of the harness has durable, and the configurations that it starts with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from neumann.format.frame import Frame
from neumann.format.ids import LEARNER, NOBODY, VOTER, Candidate, Configuration, LogPoint, Member

BASE = LogPoint(0, 0, 0xBA5E)


def storage_of(node_id: str) -> bytes:
    """The storage id of a node that never lost its disk."""
    return node_id.encode() * 16


def candidate(node_id: str) -> Candidate:
    """That node as one votes for it; "" is nobody."""
    return Candidate(node_id, storage_of(node_id)) if node_id else NOBODY


def members(voters: str, learners: str = "") -> Configuration:
    """One letter, one node."""
    return Configuration(
        tuple(
            Member(node_id, storage_of(node_id), "host:1", VOTER if node_id in voters else LEARNER)
            for node_id in sorted(voters + learners)
        )
    )


class Snapshot(NamedTuple):
    """A durable manifest: also what others install."""

    point: LogPoint
    configuration: Configuration


@dataclass
class Disk:
    """What one node has durable. `frames` stand behind `base` without a gap."""

    snapshot: Snapshot
    base: LogPoint = BASE
    frames: list[Frame] = field(default_factory=list)
    storage_id: bytes = b""
    vote: tuple[int, Candidate] = (0, NOBODY)
    has_vote: bool = True
    floor: tuple[int, int] = (0, 0)

    def truncate_after(self, index: int) -> None:
        self.frames = [f for f in self.frames if f.header.last_index <= index]

    def holds(self, index: int, term: int) -> bool:
        """Whether the frame end (index, term) is here, or the snapshot stands for it."""
        if index <= self.snapshot.point.index:
            return True
        return any(f.header.last_index == index and f.header.term == term for f in reversed(self.frames))
