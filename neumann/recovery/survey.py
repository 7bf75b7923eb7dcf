"""What an archive can bring back: windows of time and index that a restore will accept (R14).

Each line of history has its own; a window begins at a snapshot, or at the empty beginning, and ends where
the log that follows it ends or has a gap.
"""

from __future__ import annotations

from typing import NamedTuple

from neumann.archive.sources import Source
from neumann.env.doors import Files
from neumann.recovery.catalog import Catalog
from neumann.recovery.left import going_on
from neumann.recovery.lineage import leaves
from neumann.recovery.plan import Window, empty_start, windows
from neumann.recovery.runs import Runs, runs
from neumann.recovery.walk import Start
from neumann.snapshot.publish import list_published


class Survey(NamedTuple):
    """`recoverable`: for each line of history, by its newest timeline, what can be reached on it; one that
    was left, and goes on, has its own (recovery/left.py).
    `notes`: snapshots that are not used, and why."""

    catalog: Catalog
    runs: Runs
    recoverable: dict[str, list[Window]]
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
    starts += empty_start(catalog, starts, 1)
    lines = [*leaves(catalog.histories.values()), *going_on(catalog)]
    lines.sort(key=lambda history: history.timeline)
    recoverable = {str(h.timeline): windows(catalog, starts, h) for h in lines}
    return Survey(catalog, log, recoverable, notes)
