"""The simulation finds reads at followers that are not linearizable.

That the leader confirms an index with a round is held by tests/raft/test_read_index.py (bugs 19, 20, 36).
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from neumann.runtime.reader import Reader
from tests.sim.checkers.violation import Violation
from tests.sim.test_teeth import found


def test_a_state_that_is_behind_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower answers as soon as it has heard an index, and not when it has applied it."""
    confirmed = Reader.confirmed

    def at_once(self: Reader, reads: Sequence[tuple[int, int]]) -> None:
        confirmed(self, [(token, 0) for token, _ in reads])

    monkeypatch.setattr(Reader, "confirmed", at_once)
    error = found("weather")
    of_a_read, of_a_scan = "which the row does not have", "the table was never so"
    assert isinstance(error, Violation) and (of_a_read in str(error) or of_a_scan in str(error)), error
