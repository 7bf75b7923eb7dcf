"""Which tables are merged: a function of the manifest, bounded in tables, and never one too large."""

from __future__ import annotations

import random

import pytest

from neumann.format.ids import LogPoint
from neumann.format.manifest import Compaction, Manifest, TableRef
from neumann.format.special import Marker, Pause
from neumann.machine.state import MachineState
from neumann.store.compaction import (
    FAN,
    INPUTS_MAX,
    TIER_BYTES_MIN,
    choose,
    drops_tombstones,
    install,
    next_manifest,
)
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


def snapshot_at(before: Manifest, marker: Marker, flushed: TableRef | None) -> Manifest:
    state = MachineState.from_manifest(before)
    state.applied = LogPoint(before.point.index + 1, 1, 5)
    return next_manifest(before, state, marker, flushed, MERGED)


MERGED, FLUSHED = table(98, SMALL), table(99, SMALL)


def test_only_the_marker_that_names_it_installs_a_compaction() -> None:
    before = tables(*[SMALL] * FAN)
    in_flight = choose(before)
    before = before._replace(compaction=in_flight)
    for named in (0, 8, 12345):
        after = snapshot_at(before, Marker(snapshot=True, compaction=named), FLUSHED)
        assert after.tables == (FLUSHED, *before.tables) and after.compaction == in_flight
    after = snapshot_at(before, Marker(snapshot=True, compaction=9), FLUSHED)
    assert after.tables == (FLUSHED, MERGED) and after.compaction is None


def test_a_snapshot_of_nothing_new_still_has_its_own_point() -> None:
    before = tables(SMALL)
    after = snapshot_at(before, Marker(snapshot=True, compaction=9), None)
    assert after == before._replace(point=LogPoint(10, 1, 5))


def test_the_next_compaction_is_chosen_by_the_snapshot_that_makes_it_due() -> None:
    after = snapshot_at(tables(*[SMALL] * (FAN - 1)), Marker(snapshot=True), FLUSHED)
    assert after.compaction is not None and after.compaction.chosen_index == after.point.index
    assert after.compaction.inputs == tuple(t.digest for t in after.tables)


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
    assert tables_max <= INPUTS_MAX
    assert rewritten <= 4 * written
