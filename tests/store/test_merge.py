"""Merging: the newest version of each row, in order, from both ends, however the runs are cut."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from neumann.format.table import Columns
from neumann.store.memtable import sorted_columns
from neumann.store.merge import merge
from tests.store.rows import Rows, in_order, live, pairs, some_rows


def cut(rng: random.Random, rows: Rows, reverse: bool) -> Iterator[Columns]:
    """The rows in runs of any length, as a source gives them."""
    columns = sorted_columns(rows)
    places = sorted({0, len(rows), *rng.choices(range(len(rows) + 1), k=rng.randrange(8))})
    runs = [columns.cut(a, b) for a, b in itertools.pairwise(places)]
    return reversed(runs) if reverse else iter(runs)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("drop_tombstones", [False, True])
def test_newest_wins(reverse: bool, drop_tombstones: bool) -> None:
    rng = random.Random(11)
    for _ in range(200):
        generations = [some_rows(rng, rng.randrange(40), revision=100 * n) for n in range(rng.randrange(6))]
        newest: Rows = {}
        for rows in generations:
            newest.update(rows)
        sources = [cut(rng, rows, reverse) for rows in reversed(generations)]
        runs = [pairs(run) for run in merge(sources, drop_tombstones=drop_tombstones, reverse=reverse)]
        merged = [pair for run in (reversed(runs) if reverse else runs) for pair in run]
        assert merged == (live(newest) if drop_tombstones else in_order(newest))
        assert all(runs)
