"""All beginnings of a run, and of each the subsets of what was not synced: each is a restart.

A disk that was judged before, with the same promise, is not judged again: what a change adds may be lost,
so most disks appear behind several changes. A sample of the restarts is itself cut off at each change
that the start makes, and started once more.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import NamedTuple

from tests.crash.restart import Restart
from tests.crash.witness import Promise, Witness
from tests.sim.disk import SimDisk
from tests.sim.record import Change
from tests.sim.replay import Replay, digest_of


class Bounds(NamedTuple):
    """How much is tried. `every`: of the beginnings, each so-manieth; `path`: and only those that end with a
    change of such a path; `subsets`: so many subsets of unsynced changes, all if there are no more; `torn`:
    and so many with torn writes; `again`: each so-manieth restart is cut off at every change that it makes,
    0 for none."""

    every: int = 1
    path: str = ""
    subsets: int = 16
    torn: int = 2
    again: int = 0


class Tally:
    """What was done."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {what}" for what, count in self.counts.items())


def go_through(seen: Witness, bounds: Bounds, tally: Tally, seed: int = 0) -> None:
    """Try them. The first that fails is raised, with the place as a note."""
    logger = logging.getLogger("neumann")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # each start says what it cut, finished or undid
    try:
        _go_through(seen, bounds, tally, seed)
    finally:
        logger.setLevel(level)


def _go_through(seen: Witness, bounds: Bounds, tally: Tally, seed: int) -> None:
    replay, judged = Replay(seen.begin), set[tuple[bytes, Promise]]()
    promises = _promises(seen)
    for number, change in enumerate([None, *seen.changes]):
        if change is not None:
            replay.repeat(change)
        promise = next(promises)
        if number % bounds.every or bounds.path not in (change.path if change is not None else ""):
            continue
        tally.counts["beginnings"] += 1
        where = f"behind change {number}" + (f", {change.what} {change.path}" if change else "")
        rng = Random(f"{seed}/{number}")
        for image in replay.images(rng, bounds.subsets, bounds.torn):
            tally.counts["subsets"] += 1
            key = digest_of(image), promise._replace(changes=0)
            if key not in judged:
                judged.add(key)
                _restart(seen, promise, image, f"{seed}/{number}", where, bounds, tally)


def _promises(seen: Witness) -> Iterator[Promise]:
    """What is promised behind 0, 1, 2... changes: a crash may come as soon as it was said."""
    made = [*seen.promises_made, None]
    for promise, following in pairwise(made):
        assert promise is not None
        end = following.changes if following is not None else len(seen.changes) + 1
        for _ in range(promise.changes, end):
            yield promise


def _restart(
    seen: Witness, promise: Promise, image: SimDisk, seed: str, where: str, bounds: Bounds, tally: Tally
) -> None:
    tally.counts["restarts"] += 1
    again = bounds.again and tally.counts["restarts"] % bounds.again == 0
    begin = image.fork() if again else None
    _judge(Restart(seen, promise, image, seed), where)
    if begin is None:
        return
    record: list[Change] = []
    first = Replay(begin)
    if not Restart(seen, promise, begin, seed).started(record):
        raise AssertionError("it started a moment ago")
    rng = Random(seed)
    for number, change in enumerate(record):
        first.repeat(change)
        for twice in first.images(rng, 2, 1):
            tally.counts["restarts of starts"] += 1
            _judge(
                Restart(seen, promise, twice, seed), f"{where}; then behind change {number + 1} of the start"
            )


def _judge(restart: Restart, where: str) -> None:
    try:
        restart.run()
    except BaseException as error:
        error.add_note(where)
        raise
