"""What must hold in one core after every input. For tests and for the simulation, not for production.

`check` looks at one moment; `check_step` compares two moments of the same core with nothing but inputs
between them (a restart begins anew). Both raise AssertionError. What holds between nodes (election
safety, log matching, leader completeness) is checked by whoever sees all of them.

The invariants that SandTable (EuroSys 2024) found broken in other Rafts are among them: commit index and
match indexes never fall, next is above match, a leader counts no entry of an earlier term, and nothing is
cut without a frame in its place that conflicts.
"""

from __future__ import annotations

from typing import NamedTuple

from neumann.format.ids import NOBODY, Candidate, Incarnation, LogPoint
from neumann.raft.core import Raft
from neumann.raft.progress import Mode
from neumann.raft.state import Role

ENDS_SEEN = 8


class Moment(NamedTuple):
    """What `check_step` needs to remember of a core. `ends`: its last ENDS_SEEN frame ends, newest first."""

    role: Role
    term: int
    voted_for: Candidate
    commit_index: int
    commit_term: int
    applied_index: int
    base_index: int
    ends: tuple[LogPoint, ...]
    diverged: str
    matches: dict[str, tuple[Incarnation | None, int]]

    @property
    def last(self) -> LogPoint:
        """The log's end."""
        return self.ends[0]


def observe(core: Raft) -> Moment:
    """The core as it is now."""
    matches = {n: (p.incarnation, p.match_index) for n, p in core.progress.items()}
    log = core.log
    committed = log.end_at(core.commit_index)
    ends = [log.last]
    while len(ends) < ENDS_SEEN and ends[-1] != log.base:
        ends.append(log.previous_end(ends[-1].index))
    return Moment(
        core.role,
        core.term,
        core.voted_for,
        core.commit_index,
        committed.term if committed is not None else 0,
        core.applied_index,
        log.base.index,
        tuple(ends),
        core.diverged,
        matches,
    )


def check(core: Raft) -> None:
    """One moment."""
    log = core.log
    assert log.base.index <= core.commit_index <= log.last.index
    assert core.applied_index <= core.commit_index
    assert log.base.index <= core.durable_index <= log.last.index
    assert log.base.term <= log.last.term <= core.term
    assert log.end_at(core.commit_index) is not None, "the commit index is a frame end"
    assert log.end_at(core.durable_index) is not None, "the durable index is a frame end"
    assert core.configuration_index <= log.last.index
    if core.role in (Role.CANDIDATE, Role.LEADER):
        assert core.voted_for.node_id == core.node_id
        assert core.can_vote and core.floor == (0, 0) and not core.diverged
    if core.role is Role.LEADER:
        assert core.leader == core.node_id
        _check_progress(core)
    else:
        assert core.leader != core.node_id
        assert not core.progress and not core.transferring


def _check_progress(core: Raft) -> None:
    others = {m.node_id for m in core.configuration.members} - {core.node_id}
    assert set(core.progress) == others
    for progress in core.progress.values():
        assert progress.match_index < progress.next_index <= core.last.index + 1
        assert progress.frames_in_flight == sum(frames for _, frames, _ in progress.in_flight)
        assert progress.bytes_in_flight == sum(size for _, _, size in progress.in_flight)
        assert progress.mode is Mode.REPLICATE or not progress.in_flight
        for index in (progress.match_index, progress.next_index - 1):
            assert index < core.log.base.index or core.log.end_at(index) is not None


def check_step(before: Moment, after: Moment) -> None:
    """Two moments of one core."""
    assert after.term >= before.term, "the term fell"
    assert after.commit_index >= before.commit_index, "the commit index fell"
    assert after.applied_index >= before.applied_index
    assert after.base_index >= before.base_index
    assert after.last.index >= before.commit_index, "a committed entry was cut"
    cut = after.last != before.last and after.last in before.ends
    assert not cut, "the log was cut, and nothing stands in the place of what was there"
    if after.term == before.term:
        assert before.voted_for in (NOBODY, after.voted_for), "two votes in one term"
        if before.role is Role.LEADER:
            assert after.last.index >= before.last.index, "a leader cut its own log"
            counted = after.commit_index > before.commit_index
            assert not counted or after.commit_term == after.term, "an entry of an earlier term was counted"
            assert after.role in (Role.LEADER, Role.FOLLOWER)
        for node_id, (incarnation, match_index) in before.matches.items():
            now = after.matches.get(node_id)
            if now is not None and now[0] == incarnation:
                assert now[1] >= match_index, "a match fell without a restart"
    if before.diverged:
        assert after.diverged and after.last == before.last
        assert (after.term, after.voted_for) == (before.term, before.voted_for)
