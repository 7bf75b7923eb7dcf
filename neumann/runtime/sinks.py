"""Where answers go: a Sink takes the results of many requests at once.

The RPC server implements it for a connection without a future or task per request (speed comes from
there); `FutureSink` is the one for a single caller who awaits. A Sink gets each id exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from neumann.errors import NeumannError

Version = tuple[bytes | None, int, int]
"""(packed value or None, revision, time_ns): a row as the store holds it."""


def as_version(found: Version | None) -> Version | None:
    """A row that a tombstone hides is absent."""
    return found if found is not None and found[0] is not None else None


class Sink(Protocol):
    """A receiver of answers, called on the event loop only."""

    def wrote(self, ids: Sequence[int], first_index: int, outcomes: Sequence[int] | None) -> None:
        """ids[i] was committed at first_index + i; outcomes None: all applied."""
        ...

    def got(self, ids: Sequence[int], rows: Sequence[Version | None]) -> None:
        """The rows that were asked for, None where absent."""
        ...

    def failed(self, ids: Sequence[int], error: NeumannError) -> None:
        """All of these ended in this error."""
        ...

    def flush(self) -> None:
        """No more answers for now: send what was collected."""
        ...


class FutureSink:
    """The sink of one request."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def wrote(self, ids: Sequence[int], first_index: int, outcomes: Sequence[int] | None) -> None:
        if not self.future.done():
            self.future.set_result((first_index, outcomes[0] if outcomes else 0))

    def got(self, ids: Sequence[int], rows: Sequence[Version | None]) -> None:
        if not self.future.done():
            self.future.set_result(rows[0])

    def failed(self, ids: Sequence[int], error: NeumannError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def flush(self) -> None:
        """Nothing is collected here."""
