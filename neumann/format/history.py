"""Timeline history: where each line of history left its parent, and ancestry between them.

A history is a chain of records from the cluster's first timeline to the newest. Its newest record's
CRC is the chain value of that timeline's base: the `parent` of its first frame (design section 8). The
file `<timeline>.history` in the archive, and each manifest, hold the whole chain.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import msgpack

from neumann.errors import Corrupt
from neumann.format import record
from neumann.format.checksum import crc32c
from neumann.format.fields import build, checked
from neumann.format.ids import LogPoint, Timeline

_MAGIC = b"NEUHST01"


class HistoryRecord(NamedTuple):
    """How one timeline began.

    The parent's entries up to `fork_index` (time `fork_time_ns`) are part of it; its own begin behind
    `base_index` in a term above `base_term`. `parent` is None for the first. `time_ns` is when it was
    made, and not before what was found of its parent's log; `reason` is one line for people.
    """

    timeline: Timeline
    parent: Timeline | None
    fork_index: int
    fork_time_ns: int
    base_index: int
    base_term: int
    time_ns: int
    reason: str


class History(NamedTuple):
    """A timeline with all its ancestors, oldest first. Never empty."""

    cluster_id: bytes
    records: tuple[HistoryRecord, ...]

    @property
    def timeline(self) -> Timeline:
        """The newest."""
        return self.records[-1].timeline

    @property
    def base(self) -> LogPoint:
        """Where the newest timeline's own log begins."""
        last = self.records[-1]
        return LogPoint(last.base_index, last.base_term, chain_of(last))

    def record_of(self, timeline: Timeline) -> HistoryRecord | None:
        """That timeline's record, if it is in this history."""
        return next((r for r in self.records if r.timeline == timeline), None)

    def descends_from(self, other: History) -> bool:
        """True if `other` is this very history or an ancestor of it."""
        if self.cluster_id != other.cluster_id:
            return False
        return self.records[: len(other.records)] == other.records

    def child(self, new: HistoryRecord) -> History:
        """This history continued by one more timeline."""
        assert new.parent == self.timeline
        return History(self.cluster_id, (*self.records, new))


def relation(ours: History, theirs: History) -> str:
    """ "same", "ancestor" (theirs is ours'), "descendant", "sibling" or "foreign" (R11)."""
    if ours.cluster_id != theirs.cluster_id:
        return "foreign"
    if ours.records == theirs.records:
        return "same"
    if ours.descends_from(theirs):
        return "ancestor"
    return "descendant" if theirs.descends_from(ours) else "sibling"


def chain_of(entry: HistoryRecord) -> int:
    """The CRC of the record: the chain value that its timeline's log begins with."""
    return crc32c(msgpack.packb(_plain(entry), use_bin_type=True))


def _plain(entry: HistoryRecord) -> list[object]:
    parent = list(entry.parent) if entry.parent else None
    return [list(entry.timeline), parent, *entry[2:]]


def to_plain(history: History) -> list[object]:
    """For packing inside another record, such as a manifest."""
    return [history.cluster_id, [_plain(r) for r in history.records]]


def from_plain(plain: object) -> History:
    """The inverse of to_plain. ValueError for what is no history."""
    cluster_id, rows = checked(plain, (bytes, tuple))
    if not rows:
        raise ValueError("not a timeline history")
    records = tuple(map(_record, rows))
    if any(after.parent != before.timeline for before, after in pairwise(records)):
        raise ValueError("a timeline whose parent is not the one before it")
    return History(cluster_id, records)


def _record(row: object) -> HistoryRecord:
    if type(row) is not tuple or len(row) != len(HistoryRecord._fields):
        raise ValueError("not a timeline's record")
    timeline, parent = build(Timeline, row[0]), None if row[1] is None else build(Timeline, row[1])
    return HistoryRecord(timeline, parent, *checked(row[2:], (int, int, int, int, int, str)))


def encode(history: History) -> bytes:
    """The history file's bytes."""
    return record.encode(_MAGIC, to_plain(history))


def decode(data: bytes, where: str) -> History:
    """The history in a history file; Corrupt names `where`."""
    try:
        return from_plain(record.decode(_MAGIC, data, where))
    except ValueError as error:
        raise Corrupt(f"{where}: not a timeline history: {error}") from error
