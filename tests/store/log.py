"""A log without a wal: frames one behind the other in one file, with the pieces that a flush is given."""

from __future__ import annotations

import itertools
import random
from typing import Any

from neumann.env import Disk
from neumann.env.files import write_new
from neumann.format import command as c
from neumann.format import frame as frame_format
from neumann.format import special as special_format
from neumann.format.frame import Frame, Kind
from neumann.format.ids import LogPoint
from neumann.format.special import Special
from neumann.store.checkpoint import Piece


class Log:
    """Frames behind `base`, made in order; `store` puts them into a file."""

    def __init__(self, base: LogPoint) -> None:
        self.frames: list[Frame] = []
        self._ends = {base.index: 0}
        self._last = base
        self._bytes = 0

    @property
    def last(self) -> LogPoint:
        return self._last

    def add(self, kind: Kind, entries: list[bytes]) -> Frame:
        index, _, chain = self._last
        frame = frame_format.encode(kind, index + 1, 1, 1000 + len(self.frames), chain, entries)
        self.frames.append(frame)
        self._last = frame.header.end
        self._bytes += len(frame.data)
        self._ends[self._last.index] = self._bytes
        return frame

    def add_special(self, special: Special) -> Frame:
        kind, body = special_format.encode(special)
        return self.add(kind, [body])

    def store(self, disk: Disk, path: str) -> None:
        write_new(disk, path, b"".join(frame.data for frame in self.frames))

    def pieces(self, path: str, after: int, last: int, rng: random.Random | None = None) -> list[Piece]:
        """The frames of (after, last], as one piece or, given a `rng`, cut between some frames."""
        cuts = [index for index in sorted(self._ends) if after <= index <= last]
        cuts = [after, last] if rng is None else [i for i in cuts if i in (after, last) or rng.random() < 0.2]
        return [(path, self._ends[a], self._ends[b] - self._ends[a]) for a, b in itertools.pairwise(cuts)]


def some_command(rng: random.Random, keys: int) -> bytes:
    """Any command, a broken one now and then."""

    def op(kinds: list[int]) -> tuple[Any, ...]:
        kind = rng.choice(kinds)
        condition = rng.choice([None, None, None, (c.ABSENT,), (c.VALUE, b"\x01")])
        value = bytes([rng.randrange(3)]) * rng.choice([1, 30]) if kind == c.PUT else None
        return kind, rng.choice("tu"), f"{rng.randrange(keys):03d}", condition, value

    roll = rng.random()
    if roll < 0.05:
        return rng.choice([b"\xc0", b"\x91\x01", b"\xa3abc"])
    if roll < 0.2:
        return c.encode_batch([op([c.PUT, c.DELETE]) for _ in range(rng.randrange(1, 5))])
    _kind, table, key, condition, value = op([c.PUT, c.PUT, c.DELETE])
    return (
        c.encode_delete(table, key, condition)
        if value is None
        else c.encode_put(table, key, value, condition)
    )
