"""ReadIndex (thesis 6.4): which reads wait for which heartbeat round.

A read is linearizable at the commit index that its round began with, once a majority has answered that
round or a later one: nobody else can have led when it was sent. All reads that came since the last
round share the next one, and at most ROUNDS_OUT_MAX rounds with reads are out at a time.
"""

from __future__ import annotations

from collections import deque

ROUNDS_OUT_MAX = 2


class Reads:
    """Tokens of the embedder, in the order they came."""

    __slots__ = ("_out", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._out: deque[tuple[int, int, list[int]]] = deque()

    def ask(self, token: int) -> None:
        """A read that no round covers yet."""
        self._waiting.append(token)

    def want_round(self) -> bool:
        """Whether a round should begin now for the reads that wait."""
        return bool(self._waiting) and len(self._out) < ROUNDS_OUT_MAX

    def begin(self, round_number: int, commit_index: int) -> None:
        """A round begins: it will answer whatever waits."""
        assert not self._out or self._out[-1][0] < round_number
        if self._waiting:
            self._out.append((round_number, commit_index, self._waiting))
            self._waiting = []

    def confirm(self, round_number: int) -> list[tuple[int, int]]:
        """A majority answered this round: (token, index) of every read that it settles."""
        settled: list[tuple[int, int]] = []
        while self._out and self._out[0][0] <= round_number:
            _, index, tokens = self._out.popleft()
            settled += [(token, index) for token in tokens]
        return settled

    def abandon(self) -> list[int]:
        """Leadership ended: every token that will never be confirmed."""
        lost = [token for _, _, tokens in self._out for token in tokens] + self._waiting
        self._out.clear()
        self._waiting = []
        return lost
