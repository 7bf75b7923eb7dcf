"""Merges sorted sources of rows, newest first: of each address the newest version comes out, in order.

It goes in runs and not row by row. All rows up to the least last address of the runs at hand are
complete: one behind the other, oldest first, their places are sorted by address. The sort finds them sorted
in stretches, and is stable, so of equal addresses the newest comes last. Measured, this beats a heap three
to one (C does all the work on rows), and runs of a few blocks stay in the processor's cache. In reverse the
same happens from the other end.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import compress
from operator import eq, itemgetter, ne

from neumann.format.table import NO_ROWS, Columns, concatenate

BLOCKS_AT_ONCE = 4
"""Of each source, for a merge of whole tables."""


def merge(
    sources: Sequence[Iterator[Columns]], *, drop_tombstones: bool, reverse: bool = False
) -> Iterator[Columns]:
    """Runs of rows; each ascends. In reverse the runs descend, and so must those of the sources."""
    waiting = [next(source, NO_ROWS) for source in sources]
    while any(run.keys for run in waiting):
        if reverse:
            bound = max(run.keys[0] for run in waiting if run.keys)
        else:
            bound = min(run.keys[-1] for run in waiting if run.keys)
        complete: list[Columns] = []
        for number, run in enumerate(waiting):
            if not run.keys:
                continue
            taken, rest = _split(run, bound, reverse)
            if taken.keys:
                complete.append(taken)
            waiting[number] = rest if rest.keys else next(sources[number], NO_ROWS)
        merged = complete[0] if len(complete) == 1 else _newest(complete)
        if drop_tombstones:
            merged = without_tombstones(merged)
        if merged.keys:
            yield merged


def _split(run: Columns, bound: str, reverse: bool) -> tuple[Columns, Columns]:
    """(rows on this side of the bound, with it; the rest)."""
    count = len(run.keys)
    if reverse:
        place = bisect_left(run.keys, bound)
        return (run, NO_ROWS) if place == 0 else (run.cut(place, count), run.cut(0, place))
    place = bisect_right(run.keys, bound)
    return (run, NO_ROWS) if place == count else (run.cut(0, place), run.cut(place, count))


def _newest(runs: list[Columns]) -> Columns:
    """One run of the newest version of each address; `runs` come newest first."""
    joined = concatenate(runs[::-1])
    places = sorted(range(len(joined.keys)), key=joined.keys.__getitem__)
    keys = itemgetter(*places)(joined.keys)
    if any(map(eq, keys, keys[1:])):
        is_newest = [*map(ne, keys, keys[1:]), True]
        places, keys = list(compress(places, is_newest)), tuple(compress(keys, is_newest))
        if len(keys) == 1:
            return joined.cut(places[0], places[0] + 1)
    gather = itemgetter(*places)
    return Columns(keys, gather(joined.values), gather(joined.revisions), gather(joined.times))


def without_tombstones(rows: Columns) -> Columns:
    """The live rows among these."""
    if None not in rows.values:
        return rows
    is_live = [value is not None for value in rows.values]
    keys, values, revisions, times = rows
    return Columns(
        list(compress(keys, is_live)),
        list(compress(values, is_live)),
        list(compress(revisions, is_live)),
        list(compress(times, is_live)),
    )
