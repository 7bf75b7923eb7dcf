"""What log an archive really has: runs of segments without a gap, and everything that is wrong with it.

Computed from the files themselves, as intervals, and never from what somebody once noted (wal-list,
wal-verify). What a run is worth, that is which states can be reached, survey.py tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from neumann.errors import (
    ArchiveGap,
    BeyondArchive,
    Corrupt,
    FormatTooNew,
    NeumannError,
    NotFound,
    WrongHistory,
)
from neumann.format import names
from neumann.format.ids import LogPoint, Timeline
from neumann.recovery.catalog import Catalog, Head, describe_gap
from neumann.snapshot.segment_file import End


class Run(NamedTuple):
    """Segments of one timeline without a gap between them. Entries first..last, times of both ends."""

    timeline: Timeline
    first_index: int
    last_index: int
    first_time_ns: int
    last_time_ns: int
    files: int
    bytes: int
    entries: int


class Runs(NamedTuple):
    """`found` in order; `wrong`: an error for each gap, damage or stranger; `checked`: how many files
    were read to the last byte, and not by the headers of their frames."""

    found: list[Run]
    wrong: list[NeumannError]
    checked: int


def runs(catalog: Catalog, *, bodies: bool, since_ns: int = 0) -> Runs:
    """The runs of the whole archive. `bodies`: check every byte of what reaches beyond `since_ns`."""
    found: list[Run] = []
    wrong: list[NeumannError] = [problem.error for problem in catalog.problems]
    wrong += _strangers(catalog)
    last: LogPoint | None = None
    checked = 0
    for head, following in zip_longest(catalog.heads, catalog.heads[1:]):
        is_old = following is not None and ends_before(head, following, since_ns)
        checked += bodies and not is_old
        read = catalog.scan(head, bodies=bodies and not is_old)
        if read.end is not End.SEALED and not catalog.is_begun(head):
            wrong.append(Corrupt(read.damage))
        times = read.first_time_ns, read.last_time_ns
        run = Run(head.timeline, head.first_index, read.last.index, *times, 1, head.bytes, read.entries)
        before = found[-1] if found and found[-1].timeline == head.timeline else None
        if before is not None and last == head.previous:
            found[-1] = _join(before, run)
        else:
            if before is not None:
                wrong.append(gap(head.timeline, before.last_index + 1, head.first_index - 1))
            found.append(run)
        last = read.last
    return Runs(found, wrong, checked)


def gap(timeline: Timeline, first_index: int, last_index: int) -> NeumannError:
    """The error for entries that are missing between two files, or for files that don't go together."""
    kind = WrongHistory if last_index < first_index else ArchiveGap
    return kind(describe_gap(timeline, first_index, last_index))


def ends_before(head: Head, following: Head, time_ns: int) -> bool:
    """Whether all of a segment is known, by what follows it, to be older than that moment."""
    return following.timeline == head.timeline and 0 < following.first_time_ns <= time_ns


def worst(wrong: Sequence[NeumannError]) -> int:
    """The exit code for all of these: damage before strangers before gaps before what is not there at all;
    0 for none."""
    for kind in (Corrupt, FormatTooNew, WrongHistory, ArchiveGap, BeyondArchive, NotFound):
        if any(isinstance(error, kind) for error in wrong):
            return kind.exit_code
    return NeumannError.exit_code if wrong else 0


def _strangers(catalog: Catalog) -> list[NeumannError]:
    """More than one cluster's files, and timelines that no history tells of."""
    found: list[NeumannError] = []
    clusters = sorted(cluster_id.hex() for cluster_id in catalog.cluster_ids())
    if len(clusters) > 1:
        found.append(WrongHistory(f"files of {len(clusters)} clusters: {' and '.join(clusters)}"))
    damaged = {problem.timeline for problem in catalog.problems if not problem.first_index}
    for timeline in sorted({head.timeline for head in catalog.heads} - catalog.histories.keys() - damaged):
        found.append(
            ArchiveGap(
                f"timeline {timeline}: its history file is missing from the archive",
                remedy=f"copy raft/{names.history_name(timeline)} there, from where the leader's data lie",
            )
        )
    return found


def _join(before: Run, after: Run) -> Run:
    return before._replace(
        last_index=after.last_index,
        first_time_ns=before.first_time_ns or after.first_time_ns,
        last_time_ns=after.last_time_ns or before.last_time_ns,
        files=before.files + 1,
        bytes=before.bytes + after.bytes,
        entries=before.entries + after.entries,
    )
