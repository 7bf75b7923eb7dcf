"""What a core is made from: its settings, what storage restored, and a source of randomness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from neumann.format.ids import Candidate, Configuration
from neumann.raft.log import FrameLog


class Random(Protocol):
    """Spreads election timeouts. The simulation gives it a seed."""

    def randrange(self, start: int, stop: int, /) -> int:
        """A number in [start, stop)."""
        ...


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Whose core, and its settings. Time is counted in ticks of `tick_ms` that the embedder gives.

    An election begins after a silence of [election_ticks, 2 * election_ticks). The flow limits hold
    for each follower: one more frame goes out while both are below their limit, so the bytes in
    flight are exceeded by at most one message.
    """

    node_id: str
    storage_id: bytes
    tick_ms: int = 10
    heartbeat_ticks: int = 10
    election_ticks: int = 50
    append_bytes_max: int = 1024 * 1024
    bytes_in_flight_max: int = 16 * 1024 * 1024
    frames_in_flight_max: int = 512

    def __post_init__(self) -> None:
        assert self.node_id and self.tick_ms > 0
        assert 0 < self.heartbeat_ticks * 2 < self.election_ticks, "a lost heartbeat is no failure"
        assert min(self.append_bytes_max, self.bytes_in_flight_max, self.frames_in_flight_max) > 0


@dataclass(frozen=True, slots=True)
class Restored:
    """What the node's disk held at its start; all of it is durable.

    `configuration` (from entry `configuration_index`) is the manifest's; `later_configurations` are
    those that the log holds behind it, committed or not, as (index, configuration). `commit_index` is
    the manifest's index. `floor` is (term, index), (0, 0) for none. `can_vote` is False without a
    vote record (R10): the core then neither votes nor campaigns until one is durable.
    """

    term: int
    voted_for: Candidate
    log: FrameLog
    configuration: Configuration
    configuration_index: int
    commit_index: int
    applied_index: int
    later_configurations: tuple[tuple[int, Configuration], ...] = ()
    floor: tuple[int, int] = (0, 0)
    can_vote: bool = True
