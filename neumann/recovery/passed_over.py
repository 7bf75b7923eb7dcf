"""What a plan does not take, in lines for people: its `notes`. A plan that leaves out what is there says so.

What can't be left out at all is refused by plan.py, and here where the log of `latest` is not there.
"""

from __future__ import annotations

from itertools import pairwise

from neumann.env.doors import Disk
from neumann.errors import NeumannError, NotFound
from neumann.format.names import Paths
from neumann.format.times import time_text
from neumann.recovery import left
from neumann.recovery.catalog import Catalog, describe_lost_log
from neumann.recovery.plan import Plan
from neumann.recovery.targets import Kind


def of_an_empty_log(directory: str, plan: Plan) -> list[str]:
    """Latest is where the log ends, and where archiving was on there was one: NotFound if nothing has it."""
    manifest = plan.start.manifest
    if plan.target.kind is not Kind.LATEST or not manifest.archiving.on:
        return []
    what = describe_lost_log(directory, manifest.snapshot_id)
    if plan.uses:
        return [f"{what}: what is in no node's own log is not restored"]
    raise NotFound(
        what,
        remedy=f"is it mounted, and was it copied? --until-index {plan.cut.index} takes the snapshot alone",
        detail={"snapshot_index": plan.cut.index},
    )


def of_the_tail(catalog: Catalog, plan: Plan) -> list[str]:
    """R6: only committed entries are archived; of those in a node's own log nobody knows."""
    taken = [use for use in plan.uses if catalog.is_tail(use.head)]
    if not taken:
        return []
    first, last = taken[0].after_index + 1, taken[-1].through_index
    return [f"entries {first}..{last} are from {catalog.tail}: they may never have been committed"]


def of_what_was_left(catalog: Catalog, plan: Plan) -> list[str]:
    """`latest` follows the newest timeline, also where nothing was written on it since it was restored."""
    if plan.target.kind is not Kind.LATEST:
        return []
    own = plan.cut.history.timeline
    notes = [] if plan.origin[0] == own else [f"nothing was written on timeline {own}"]
    for parent, child in pairwise(plan.cut.history.records):
        if left.is_written(catalog, parent.timeline, child.fork_index):
            notes.append(
                f"what was written on timeline {parent.timeline} behind index {child.fork_index} was left by "
                f"the restore of {time_text(child.time_ns)}: --timeline {parent.timeline} has it"
            )
    return notes


def of_the_own_log(disk: Disk, paths: Paths, plan: Plan) -> list[str]:
    """The log of the data directory may go further than the archive: its end is nowhere else, perhaps."""
    if plan.target.kind is not Kind.LATEST:
        return []
    history = plan.cut.history
    try:
        own = Catalog(disk, paths.wal)
        newest = [h for h in own.segments(history.timeline) if h.cluster_id == history.cluster_id][-1:]
        if not newest or not left.is_written(own, history.timeline, plan.cut.index):
            return []
        end = own.scan(newest[0], bodies=False).last.index
    except (NeumannError, OSError) as error:
        return [f"the log in {paths.wal} can't be read, and may go on behind index {plan.cut.index}: {error}"]
    return [
        f"the log in {paths.root} goes on to index {end}, committed or not: --include-tail {paths.root} "
        "takes it; where the cluster runs, archive-flush archives it"
    ]
