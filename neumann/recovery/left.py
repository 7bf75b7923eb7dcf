"""Timelines that a restore has left, and that a target may mean all the same.

What lies behind a fork is not on the new timeline's line, and is never taken unasked. Nor is it passed over
where nobody can have decided so:

- A timeline on which clients wrote after its newest child was made goes on: somebody restored a copy for a
  look, and started it. It is a line of history of its own.
- At a time between a fork and the making of the child, only the parent was there.

Times are the leaders' and, of a child, its restore's; a child is never older than the log that its restore
saw (`newest_time_ns`). Markers, idle seals and the like are nobody's data, and count for nothing.
"""

from __future__ import annotations

from neumann.format.frame import Kind as FrameKind
from neumann.format.history import History, HistoryRecord
from neumann.format.ids import Timeline
from neumann.recovery.catalog import Catalog
from neumann.recovery.targets import Kind, Target

_FOREVER_NS = 1 << 64


def going_on(catalog: Catalog) -> list[History]:
    """The timelines with children on which clients wrote after the newest of these was made."""
    found = []
    for history in catalog.histories.values():
        if children := _children(catalog, history):
            newest = max(children, key=lambda child: child.time_ns)
            if is_written(catalog, history.timeline, newest.fork_index, after_ns=newest.time_ns):
                found.append(history)
    return found


def contenders(catalog: Catalog, target: Target) -> list[History]:
    """The timelines with children that the target may mean."""
    found = going_on(catalog)
    if target.kind is Kind.TIME:
        until_ns = target.time_ns - target.exclusive
        found += [
            history
            for history in catalog.histories.values()
            if history not in found
            and any(
                until_ns < child.time_ns
                and is_written(catalog, history.timeline, child.fork_index, until_ns=until_ns)
                for child in _children(catalog, history)
            )
        ]
    return found


def is_written(
    catalog: Catalog, timeline: Timeline, after_index: int, *, after_ns: int = 0, until_ns: int = _FOREVER_NS
) -> bool:
    """Whether a client wrote behind that index on that timeline, later than the one time and not than the
    other, as far as the archive has it and it can be read."""
    for head in reversed(catalog.segments(timeline)):
        if head.first_time_ns > until_ns:
            continue
        found = catalog.scan(head, bodies=False)
        if found.last_time_ns and (found.last.index <= after_index or found.last_time_ns <= after_ns):
            return False
        if found.entries and any(
            header.kind is FrameKind.DATA
            and header.last_index > after_index
            and after_ns < header.time_ns <= until_ns
            for header in catalog.headers(head)
        ):
            return True
    return False


def newest_time_ns(catalog: Catalog, timeline: Timeline) -> int:
    """Of the last frame that the archive has of that timeline; 0 for none."""
    newest = catalog.segments(timeline)[-1:]
    return max((catalog.scan(head, bodies=False).last_time_ns for head in newest), default=0)


def _children(catalog: Catalog, history: History) -> list[HistoryRecord]:
    return [
        other.records[-1]
        for other in catalog.histories.values()
        if len(other.records) == len(history.records) + 1 and other.descends_from(history)
    ]
