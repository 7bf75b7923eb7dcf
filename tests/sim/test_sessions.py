"""Sessions in the simulated cluster: repeats really happen, and a node that forgets is found."""

from __future__ import annotations

from typing import Any

import pytest

from neumann.machine.sessions import Sessions
from neumann.store import checkpoint
from neumann.store.compaction import next_manifest
from tests.sim.checkers.sessions import Sessions as Checker
from tests.sim.checkers.violation import Violation
from tests.sim.scenario import run
from tests.sim.test_teeth import found


def test_commands_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker had something to compare: some serials were answered more than once."""
    checkers: list[Checker] = []
    make = Checker.__init__

    def remember(self: Checker, committed: Any) -> None:
        make(self, committed)
        checkers.append(self)

    monkeypatch.setattr(Checker, "__init__", remember)
    run(2, ("one-way",))
    assert checkers[0].repeats > 10


def test_a_table_that_a_restart_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: Sessions, records: Any = ()) -> None:
        self._table = {}

    monkeypatch.setattr(Sessions, "__init__", forget)
    assert isinstance(found("crash"), Violation)


@pytest.mark.slow
def test_a_table_that_a_snapshot_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that never restart go on as they should; one that did takes the others' repeats for expired."""

    def without(*arguments: Any) -> Any:
        return next_manifest(*arguments)._replace(sessions=())

    monkeypatch.setattr(checkpoint, "next_manifest", without)
    found("crash")


@pytest.mark.slow
def test_a_repeat_that_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug 32, planted: a command that is sent again is a new one."""
    recall = Sessions.recall

    def forget_answers(self: Sessions, session_id: int, serial: int, index: int) -> Any:
        answer = recall(self, session_id, serial, index)
        return None if answer is not None and answer[0] != index else answer

    monkeypatch.setattr(Sessions, "recall", forget_answers)
    assert isinstance(found("one-way"), Violation)


@pytest.mark.slow
def test_another_that_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eviction by the order of opening in place of the order of use."""
    recall = Sessions.recall

    def without_a_touch(self: Sessions, session_id: int, serial: int, index: int) -> Any:
        order = list(self._table)
        answer = recall(self, session_id, serial, index)
        self._table = {i: self._table[i] for i in order if i in self._table}
        return answer

    monkeypatch.setattr(Sessions, "recall", without_a_touch)
    assert isinstance(found("one-way"), Violation)


@pytest.mark.slow
def test_an_answer_in_a_pause_that_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a leader answers from its table in place of a refusal is compared like every other answer."""
    answer = Sessions.answer

    def another(self: Sessions, session_id: int, serial: int) -> Any:
        known = answer(self, session_id, serial)
        return known and (known[0] - 1, known[1])

    monkeypatch.setattr(Sessions, "answer", another)
    assert isinstance(found("full-disk"), Violation)
