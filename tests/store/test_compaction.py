"""Which tables are merged: a function of the manifest, bounded in tables, and never one too large."""

from __future__ import annotations

import random

import pytest

from neumann.format.manifest import Compaction, Manifest, TableRef
from neumann.format.special import Pause
from neumann.store.compaction import FAN, INPUTS_MAX, TIER_BYTES_MIN, choose, drops_tombstones, install
from tests.store.rows import manifest_of

SMALL, MIDDLE, LARGE = 1000, TIER_BYTES_MIN * 2, TIER_BYTES_MIN * FAN * 2


def table(number: int, raw_bytes: int) -> TableRef:
    return TableRef(number.to_bytes(32, "big"), 1, 0, raw_bytes, "a", "b")


def tables(*sizes: int) -> Manifest:
    """A manifest with tables of these sizes, newest first."""
    return manifest_of(*(table(number, size) for number, size in enumerate(sizes)), index=9)


def chosen(manifest: Manifest) -> list[int]:
    compaction = choose(manifest)
    return [int.from_bytes(digest, "big") for digest in compaction.inputs] if compaction else []


@pytest.mark.parametrize(
    ("sizes", "inputs"),
    [
        ([], []),
        ([SMALL] * (FAN - 1), []),
        ([SMALL] * FAN, range(FAN)),
        ([SMALL] * (FAN + 3), range(FAN + 3)),
        ([SMALL] * (FAN - 1) + [LARGE], []),
        ([SMALL] * FAN + [LARGE], range(FAN)),
        ([LARGE] + [SMALL] * FAN, range(1, FAN + 1)),
        ([MIDDLE] * FAN + [LARGE], range(FAN)),
        ([SMALL, *([MIDDLE] * FAN), LARGE], range(FAN + 1)),
        ([MIDDLE, SMALL] * FAN, range(2 * FAN)),
        ([SMALL] * (INPUTS_MAX + 5), range(5, INPUTS_MAX + 5)),
    ],
)
def test_neighbours_of_one_tier_are_merged(sizes: list[int], inputs: range) -> None:
    assert chosen(tables(*sizes)) == list(inputs)


def test_nothing_is_chosen_while_one_is_in_flight_or_writes_are_paused() -> None:
    manifest = tables(*[SMALL] * FAN)
    in_flight = choose(manifest)
    assert in_flight is not None and in_flight.chosen_index == 9
    assert choose(manifest._replace(compaction=in_flight)) is None
    assert choose(manifest._replace(pause=Pause("op", 0, ""))) is None


def test_tombstones_go_only_with_the_oldest_table() -> None:
    manifest = tables(*[SMALL] * FAN)
    assert drops_tombstones(manifest._replace(compaction=choose(manifest)))
    manifest = tables(*[SMALL] * FAN, LARGE)
    assert not drops_tombstones(manifest._replace(compaction=choose(manifest)))


def test_install_puts_the_output_in_the_inputs_place() -> None:
    a, b, c, d, merged = (table(number, SMALL) for number in range(5))
    compaction = Compaction(1, (b.digest, c.digest), 1)
    assert install((a, b, c, d), compaction, merged) == (a, merged, d)
    assert install((a, b, c), compaction, None) == (a,)


def test_tables_stay_few_and_rows_are_rewritten_seldom() -> None:
    """2,000 flushes, merges that take as long as their size: the reason for tiers."""
    rng = random.Random(1)
    manifest = manifest_of(index=1)
    rewritten = written = number = tables_max = 0
    due = 0
    for index in range(2, 2_000):
        number += 1
        size = rng.choice([1, 2, 2, 3]) * 500_000
        written += size
        manifest = manifest._replace(
            point=manifest.point._replace(index=index), tables=(table(number, size), *manifest.tables)
        )
        compaction = manifest.compaction
        if compaction is not None and index >= due:
            number += 1
            merged = sum(t.raw_bytes for t in manifest.tables if t.digest in compaction.inputs)
            rewritten += merged
            placed = install(manifest.tables, compaction, table(number, merged))
            manifest = manifest._replace(tables=placed, compaction=None)
        if manifest.compaction is None and (compaction := choose(manifest)):
            size = sum(t.raw_bytes for t in manifest.tables if t.digest in compaction.inputs)
            due = index + 1 + size // 20_000_000
            manifest = manifest._replace(compaction=compaction)
        tables_max = max(tables_max, len(manifest.tables))
    assert tables_max <= INPUTS_MAX * 3
    assert rewritten <= 5 * written
    print(tables_max, rewritten / written)
