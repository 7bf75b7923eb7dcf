"""What happened in a run, as one hash and as the last lines for a person.

Two runs of one seed must give the same digest; the first difference is found by comparing lines.
"""

from __future__ import annotations

import hashlib
from collections import deque

LINES_KEPT = 400


class Trace:
    """Events in order. `keep_all` keeps every line; otherwise the newest ones."""

    def __init__(self, keep_all: bool = False) -> None:
        self.events = 0
        self.lines: deque[str] = deque(maxlen=None if keep_all else LINES_KEPT)
        self._hash = hashlib.blake2b(digest_size=16)

    def note(self, time_s: float, kind: str, *fields: object) -> None:
        """One event. Fields show in the digest by their str()."""
        line = f"{time_s:.9f} {kind} {' '.join(map(str, fields))}"
        self.events += 1
        self.lines.append(line)
        self._hash.update(line.encode())

    def digest(self) -> str:
        """32 hex digits over all events so far."""
        return self._hash.hexdigest()
