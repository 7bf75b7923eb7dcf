"""The simulation finds planted bugs: a checker that can't fail proves nothing.

Each case breaks one promise of the product, or of the disk below it, and must be found within a few
seeds of the fault kind that it matters under.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from neumann.errors import OutcomeUnknown, Unavailable
from neumann.format.message import Message
from neumann.raft.following import Following
from neumann.raft.state import State
from neumann.runtime import proposer
from neumann.runtime.node import Node
from neumann.store import jobs
from tests.sim import scenario
from tests.sim.checkers.violation import Violation
from tests.sim.disk import SimFile

SEEDS = 30


def found(kind: str) -> BaseException:
    """What the first seed that fails ends with."""
    for seed in range(SEEDS):
        try:
            scenario.run(seed, (kind,))
        except Exception as error:
            return error
    pytest.fail(f"not found in {SEEDS} seeds")


def test_a_disk_that_does_not_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug 7: an answer went out before its write was synced, and a crash took it back."""
    monkeypatch.setattr(SimFile, "sync", lambda self: None)
    found("crash")


def test_promises_before_they_are_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    def send_at_once(self: State, target: str, message: Message) -> None:
        self.send(target, message)

    monkeypatch.setattr(State, "send_after_sync", send_at_once)
    assert isinstance(found("crash"), Violation)


def test_reads_that_nobody_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug 36: reads were answered by who only believed to lead."""
    read_stale = Node.submit_gets

    def submit_gets(self: Node, sink: Any, ids: Sequence[int], rows: Sequence[str], *, stale: bool) -> None:
        read_stale(self, sink, ids, rows, stale=True)

    monkeypatch.setattr(Node, "submit_gets", submit_gets)
    assert "read revision" in str(found("weather"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_write_that_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    write_once = Node._write_anywhere

    async def write(self: Node, raw: bytes, timeout_s: float = 10.0) -> tuple[int, int]:
        try:
            return await write_once(self, raw, timeout_s)
        except OutcomeUnknown:
            return await write_once(self, raw, timeout_s)

    monkeypatch.setattr(Node, "_write_anywhere", write)
    assert "in the log twice" in str(found("one-way"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_not_done_where_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposer, "OutcomeUnknown", Unavailable)
    error = str(found("one-way"))
    assert "was told it was not" in error or "in the log twice" in error


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_old_append_that_cuts_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug 17: a follower that cuts what an old, shorter Append does not have."""
    append = Following._append

    def cut_and_append(self: Following, prev: Any, frames: Any) -> Any:
        matched, state = append(self, prev, frames), self._state
        end = max(matched.index, state.commit_index) if matched is not None else 0
        if frames and state.log.last.index > end and state.log.end_at(end) is not None:
            state.truncate_after(end)
        return matched

    monkeypatch.setattr(Following, "_append", cut_and_append)
    found("weather")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_snapshot_that_is_not_of_its_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    flush, calls = jobs.flush, itertools.count(1)

    def flush_badly(disk: Any, params: Any) -> Any:
        if next(calls) % 7 == 0:
            forgotten = range(params["first"], params["first"] + 10)
            params = {**params, "skipped": [*params["skipped"], *forgotten]}
        return flush(disk, params)

    monkeypatch.setattr(jobs, "flush", flush_badly)
    found("partition")
