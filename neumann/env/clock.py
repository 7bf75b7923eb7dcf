"""The real clock and the real randomness."""

from __future__ import annotations

import random
import secrets
import time


class RealClock:
    """See doors.Clock."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class RealEntropy:
    """See doors.Entropy: ids from the operating system's source, jitter from a cheap one."""

    def __init__(self) -> None:
        self._random = random.Random(secrets.randbits(64))

    def token(self, length: int) -> bytes:
        return secrets.token_bytes(length)

    def randrange(self, stop: int) -> int:
        return self._random.randrange(stop)
