"""What an archive can bring back: windows of time and index that a restore will accept (R14).

Each line of history has its own; a window begins at a snapshot, or at the empty beginning, and ends where
the log that follows it ends or has a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from neumann.archive.sources import Source
from neumann.env.doors import Files
from neumann.errors import NeumannError, NotFound
from neumann.recovery.catalog import Catalog, describe_lost_log
from neumann.recovery.left import going_on
from neumann.recovery.lineage import leaves
from neumann.recovery.plan import Window, empty_start, refusal_of_latest, windows
from neumann.recovery.runs import Runs, runs
from neumann.recovery.walk import Start
from neumann.snapshot.publish import list_published


class Survey(NamedTuple):
    """`recoverable`: for each line of history, by its newest timeline, what can be reached on it; one that
    was left, and goes on, has its own (recovery/left.py).
    `unreached`: what a restore to the end of a line would be refused for, and `runs` does not name; it is
    wrong where all snapshots were looked at. `notes`: snapshots that are not used, and why."""

    catalog: Catalog
    runs: Runs
    recoverable: dict[str, list[Window]]
    unreached: list[NeumannError]
    notes: list[str]


def snapshots_in(disk: Files, directory: str) -> tuple[list[Start], list[str]]:
    """(snapshots to begin with, a line for each that can't be used) in a directory; "" has none."""
    starts, notes = [], []
    for published in list_published(disk, directory) if directory else ():
        if published.complete and published.manifest is not None:
            starts.append(Start(published.manifest, published.path, "snapshot"))
        else:
            notes.append(f"{published.path} is not used: {published.damage}")
    return starts, notes


def survey(disk: Files, source: Source, *, bodies: bool = False, since_ns: int = 0) -> Survey:
    """Look at a source by the headers of its frames; `bodies`: at every byte of the log since then.

    What is damaged is in no window.
    """
    catalog = Catalog(disk, source.wal_directory)
    starts, notes = snapshots_in(disk, source.snapshot_directory)
    for start in starts:
        catalog.learn(start.manifest.history)
    log = runs(catalog, bodies=bodies, since_ns=since_ns)
    lost = _lost_log(source, catalog, starts)
    own = {start.manifest.history.timeline for start in starts} | {head.timeline for head in catalog.heads}
    starts += empty_start(catalog, starts, 1)
    lines, going = leaves(catalog.histories.values()), going_on(catalog)
    # A timeline of which only its history is left was given up, unless nothing followed it.
    newest = max(lines, key=lambda history: history.records[-1].time_ns, default=None) if not going else None
    needed = [h for h in [*lines, *going] if h.timeline in own or h == newest]
    refusals = [refusal_of_latest(catalog, starts, history) for history in needed]
    named = {error.message for error in log.wrong}
    unreached = [lost] if lost else [e for e in refusals if e is not None and e.message not in named]
    every = sorted([*lines, *going], key=lambda history: history.timeline)
    recoverable = {str(h.timeline): windows(catalog, starts, h) for h in every}
    return Survey(catalog, log, recoverable, unreached, notes)


def _lost_log(source: Source, catalog: Catalog, starts: Sequence[Start]) -> NeumannError | None:
    """Snapshots of a cluster that archived its log, and nothing of that."""
    archived = [start.manifest.snapshot_id for start in starts if start.manifest.archiving.on]
    if not catalog.is_empty or not archived:
        return None
    what = describe_lost_log(source.wal_directory or "wal/", archived[-1])
    return NotFound(what, remedy="is it mounted, and was it copied?")
