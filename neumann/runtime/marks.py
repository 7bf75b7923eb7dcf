"""The sync mark's keeper: writes it off the acknowledgement's path, never ahead of fdatasync (R16).

What fdatasync covered is told by `synced`; at most MARK_INTERVAL_S later it is on disk. Before a
truncation below the mark, `lower` makes a lower one durable first; until then no newer one is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from neumann.env import Lane
from neumann.format.state import SyncMark
from neumann.wal import TwoSlotFile

MARK_INTERVAL_S = 0.02
_Lowered = Callable[[BaseException | None], None]


class MarkKeeper:
    """One per member. All methods run on the loop; writes in a lane of its own."""

    def __init__(
        self,
        file: TwoSlotFile[SyncMark],
        mark: SyncMark,
        lane: Lane,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.written = mark
        self._file = file
        self._wanted = mark
        self._lane = lane
        self._on_failure = on_failure
        self._timer: asyncio.TimerHandle | None = None
        self._in_flight: SyncMark | None = None
        self._after: list[_Lowered] = []
        self._stopped = False

    def synced(self, segment_first: int, offset: int, index: int, term: int, chain: int) -> None:
        """fdatasync has covered the log up to here."""
        told = self._wanted
        self._wanted = SyncMark(
            segment_first, offset, index, term, chain, told.manifest_index, told.manifest_term
        )
        self._arm()

    def manifest(self, index: int, term: int) -> None:
        """A newer manifest is durable."""
        self._wanted = self._wanted._replace(manifest_index=index, manifest_term=term)
        self._arm()

    def lower(self, mark: SyncMark, then: _Lowered) -> None:
        """Call `then` once no mark above this one is on disk, or will be: the log may be cut there.

        A mark is written for that only where one above it was, so what it names is durable (R16).
        `then` is given the error where that failed: then nothing may be cut.
        """
        newest = self._in_flight or self.written
        highest = max(newest, self.written, key=lambda known: known.index)
        if self._wanted.index > mark.index:
            told, below = self._wanted, mark if highest.index > mark.index else newest
            self._wanted = below._replace(
                manifest_index=told.manifest_index, manifest_term=told.manifest_term
            )
        if highest.index <= mark.index:
            then(None)
            return
        self._after.append(then)
        self._write()

    def stop(self) -> None:
        """Write nothing more by itself."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def last(self, place: SyncMark) -> SyncMark:
        """The mark that an orderly stop writes, at this place."""
        manifest = self._wanted
        return place._replace(
            manifest_index=manifest.manifest_index, manifest_term=manifest.manifest_term, clean=True
        )

    def _arm(self) -> None:
        if self._timer is None and not self._stopped:
            self._timer = asyncio.get_running_loop().call_later(MARK_INTERVAL_S, self._write)

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._in_flight is not None or self._stopped:
            return
        mark, after = self._wanted, self._after
        self._in_flight, self._after = mark, []

        def done(_: Any, error: BaseException | None) -> None:
            self._in_flight = None
            if error is not None:
                waiting, self._after = [*after, *self._after], []
                for then in waiting:
                    then(error)
                self._on_failure(error)
                return
            self.written = mark
            for then in after:
                then(None)
            if self._after:
                self._write()
            elif self._wanted != mark:
                self._arm()

        self._lane.submit(lambda: self._file.write(mark), done)
