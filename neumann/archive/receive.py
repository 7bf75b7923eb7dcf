"""`wal-receive`: committed frames into an archive as they commit, for an RPO under a second (section 7).

It asks a node for the frames behind the archive's end (`log.read`), again and again, and writes them to
`<segment>.wal.part` at the destination, durably, before it asks for more: the header and the frames of the
segment, as they stand in every node's log (R4), and only what is committed (R6). At the frame that seals
the segment the file is verified whole and gets its name, as wal-push does it, and the part is removed. So
it may be killed at any moment: what is whole in the part is kept, and it goes on behind it.

It may run beside archive_command, to the same destination or another. It keeps no log on the nodes: one
that is away for long may find that the log was dropped behind the archive, which is a gap, and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from neumann.archive.destinations import Destination
from neumann.archive.push import push_bytes
from neumann.errors import ArchiveGap, Corrupt, FormatTooNew, NeumannError, OutcomeUnknown, Unavailable
from neumann.format import history as history_format
from neumann.format import names
from neumann.format import segment as segment_format
from neumann.format import special as special_format
from neumann.format.frame import Frame, Kind, decode_run
from neumann.format.history import History
from neumann.format.ids import LogPoint
from neumann.format.segment import SegmentHeader
from neumann.format.special import Marker
from neumann.snapshot.segment_file import whole_frames

READ_BYTES_MAX = 4 * 1024 * 1024
_WAIT_S = 1.0
_CALL_TIMEOUT_S = 10.0
_AGAIN_S = 0.2
_PATIENCE = 50

Ask = Callable[[str, str, list[object], float], Awaitable[Any]]
"""(address, method, params, time limit in seconds): an RPC."""


class Lag(NamedTuple):
    """Where the archive ends, and how far behind the asked node's commit index that is."""

    last_index: int
    entries: int
    seconds: float
    part: str
    part_bytes: int


class Log(NamedTuple):
    """What a node says of its log: `log.describe`."""

    history: History
    base: LogPoint


class Parts:
    """The destination's end: what frame comes next, and the part that it belongs to."""

    def __init__(self, target: Destination, log: Log) -> None:
        self.last = log.base
        self.name = ""
        self._target = target
        self._cluster_id = log.history.cluster_id
        self._timeline = log.history.timeline
        self._held = bytearray()

    @property
    def part_bytes(self) -> int:
        """How much the part holds."""
        return len(self._held)

    def resume(self) -> None:
        """Find the end of what is there: behind the newest segment, or in its part. ArchiveGap if the
        log does not reach back to it."""
        base, segments, parts = self.last, [], []
        for name in self._target.list():
            if (found := names.parse_segment(name)) is not None and found[0] == self._timeline:
                segments.append((found[1], name))
            if (found := names.parse_part(name)) is not None and found[0] == self._timeline:
                parts.append((found[1], name))
        if segments:
            self.last = self._end_of(max(segments)[1])
        for first, name in sorted(parts):
            if segments and first <= self.last.index:
                self._target.remove(name)
            elif not segments or first == self.last.index + 1:
                self._take_up(name)
                break
        if self.last.index < base.index:
            raise ArchiveGap(
                f"{self._target.place} ends at index {self.last.index}, and the log of the cluster begins at "
                f"{base.index + 1} now",
                remedy="entries between them are in no log any more; begin another archive, with a snapshot",
            )

    def accept(self, frames: Sequence[Frame]) -> None:
        """Write these, which continue the log at `last`; when it returns, all of them are durable."""
        data = bytearray()
        for frame in frames:
            if frame.header.parent != self.last.chain or frame.header.first_index != self.last.index + 1:
                raise Corrupt(f"the node sent entry {frame.header.first_index} behind {self.last.index}")
            if not self.name:
                self._begin(data)
            data += frame.data
            self.last = frame.header.end
            if _is_seal(frame):
                self._append(data)
                self._finish()
                data = bytearray()
        if data:
            self._append(data)

    def _begin(self, data: bytearray) -> None:
        previous = self.last
        self.name = names.segment_name(self._timeline, previous.index + 1)
        data += segment_format.encode_header(
            SegmentHeader(self._cluster_id, self._timeline, previous.index + 1, previous.term, previous.chain)
        )

    def _append(self, data: bytearray) -> None:
        self._target.append(self.name + names.PART, bytes(data), len(self._held))
        self._held += data

    def _finish(self) -> None:
        """The segment is whole: it gets its name, and the part goes."""
        push_bytes(self.name, bytes(self._held), self._target)
        self._target.remove(self.name + names.PART)
        self.name = ""
        self._held.clear()

    def _end_of(self, name: str) -> LogPoint:
        held = self._target.read(name)
        assert held is not None, f"{name} was listed"
        return whole_frames(held.data, f"{self._target.place}/{name}").last

    def _take_up(self, name: str) -> None:
        """Go on with a part: what is whole in it is kept, the rest is asked for again. It is written anew:
        the fsync of what the last run wrote may have failed, and another one would not mend that."""
        held = self._target.read(name)
        try:
            found = whole_frames(held.data if held else b"", f"{self._target.place}/{name}")
        except (Corrupt, FormatTooNew):
            self._target.remove(name)
            return
        assert held is not None
        self._target.replace(name, held.data[: found.bytes], held)
        self._target.settle(name)
        self.name = name.removesuffix(names.PART)
        self._held = bytearray(held.data[: found.bytes])
        self.last = found.last
        if found.sealed:
            self._finish()


async def receive(
    ask: Ask,
    addresses: Sequence[str],
    target: Destination,
    told: Callable[[Lag], None],
    *,
    once: bool = False,
) -> None:
    """Receive until cancelled; `once`: until nothing committed is left to take. `told` hears after each
    answer. NeumannError for what waiting does not mend; a node that does not answer is left for the next of
    `addresses`."""
    turn = 0
    parts: Parts | None = None
    failures = 0
    while True:
        address = addresses[turn % len(addresses)]
        try:
            if parts is None:
                log = await _describe(ask, address)
                push_bytes(
                    names.history_name(log.history.timeline), history_format.encode(log.history), target
                )
                parts = Parts(target, log)
                parts.resume()
                identity: list[object] = [log.history.cluster_id, str(log.history.timeline)]
            last = parts.last
            params = [*identity, last.index, last.chain, READ_BYTES_MAX, _WAIT_S]
            commit, now_ns, data = await ask(address, "log.read", params, _CALL_TIMEOUT_S)
            frames = decode_run(data) if data else ()
            parts.accept(frames)
            failures = 0
        except (Unavailable, OutcomeUnknown):
            # The destination may have taken a part of it: what is there is looked at anew.
            failures += 1
            turn += 1
            parts = None
            if failures >= _PATIENCE * len(addresses):
                raise
            await asyncio.sleep(_AGAIN_S)
            continue
        except OSError as error:
            raise Unavailable(
                f"{target.place} could not be written: {error}", remedy="run it again"
            ) from error
        behind = commit - parts.last.index
        seconds = max(0, now_ns - frames[-1].header.time_ns) / 1e9 if behind and frames else 0.0
        told(Lag(parts.last.index, behind, seconds, parts.name, parts.part_bytes))
        if once and not behind:
            return


async def _describe(ask: Ask, address: str) -> Log:
    match await ask(address, "log.describe", [], _CALL_TIMEOUT_S):
        case (bytes() as history, (int() as index, int() as term, int() as chain)):
            return Log(history_format.decode(history, address), LogPoint(index, term, chain))
    raise NeumannError(f"{address} does not know log.describe", remedy="is it of an older release?")


def _is_seal(frame: Frame) -> bool:
    if frame.header.kind is not Kind.MARKER:
        return False
    marker = special_format.decode(frame)
    return isinstance(marker, Marker) and marker.seal
