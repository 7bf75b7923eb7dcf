"""Which tables are merged, and what a snapshot's layout is: functions of the log alone (R5).

Nothing here knows of time, jobs or restarts. A compaction is chosen from a manifest, stands in it while
each node merges at its own pace, and is installed by the marker that names it (design section 5).

Tables stand in tiers by uncompressed size, FAN times as large from tier to tier. FAN neighbours of one
tier, with the smaller ones between them, are merged into one; the lowest tier goes first. So a row is
rewritten about once a tier, and a read passes fewer than FAN tables of each.
"""

from __future__ import annotations

from neumann.format.manifest import Compaction, Manifest, TableRef
from neumann.format.special import Marker
from neumann.machine.state import MachineState

FAN = 8
TIER_BYTES_MIN = 4 * 1024 * 1024
INPUTS_MAX = 64


def choose(manifest: Manifest) -> Compaction | None:
    """The compaction that begins at this manifest. None while one is in flight or writes are paused."""
    if manifest.compaction is not None or manifest.pause is not None:
        return None
    tiers = [_tier(table) for table in manifest.tables]
    for tier in sorted(set(tiers)):
        first = count = 0
        for place in range(len(tiers) + 1):
            if place < len(tiers) and tiers[place] <= tier:
                count += tiers[place] == tier
                continue
            if count >= FAN:
                inputs = manifest.tables[first:place][-INPUTS_MAX:]
                digests = tuple(table.digest for table in inputs)
                return Compaction(manifest.point.index, digests, manifest.feature_level)
            first, count = place + 1, 0
    return None


def _tier(table: TableRef) -> int:
    tier, bytes_max = 0, TIER_BYTES_MIN
    while table.raw_bytes > bytes_max:
        tier, bytes_max = tier + 1, bytes_max * FAN
    return tier


def drops_tombstones(manifest: Manifest) -> bool:
    """Whether the compaction in flight has the oldest table: nothing is below that a tombstone hides."""
    assert manifest.compaction is not None
    return manifest.compaction.inputs[-1] == manifest.tables[-1].digest


def installs(before: Manifest, marker: Marker) -> bool:
    """Whether this marker installs the compaction in flight. One that names another changes nothing."""
    return before.compaction is not None and marker.compaction == before.compaction.chosen_index


def install(
    tables: tuple[TableRef, ...], compaction: Compaction, output: TableRef | None
) -> tuple[TableRef, ...]:
    """The tables with the compaction's inputs replaced by its output (None: no row was left)."""
    digests = [table.digest for table in tables]
    first = digests.index(compaction.inputs[0])
    end = first + len(compaction.inputs)
    assert tuple(digests[first:end]) == compaction.inputs
    return (*tables[:first], *((output,) if output else ()), *tables[end:])


def next_manifest(
    before: Manifest, state: MachineState, marker: Marker, flushed: TableRef | None, merged: TableRef | None
) -> Manifest:
    """The snapshot at a marker: `state` is the machine's there, `before` the snapshot before it.

    `flushed` is the table of what was written between them, None for nothing; `merged` the output of
    the compaction in flight, used only if the marker installs it.
    """
    assert marker.snapshot and state.applied.index > before.point.index
    tables = (flushed, *before.tables) if flushed else before.tables
    compaction = before.compaction
    if installs(before, marker):
        assert compaction is not None
        tables, compaction = install(tables, compaction, merged), None
    manifest = before._replace(
        point=state.applied,
        time_ns=state.time_ns,
        configuration=state.configuration,
        pause=state.pause,
        archiving=state.archiving,
        tables=tables,
        compaction=compaction,
        feature_level=state.feature_level,
        sessions=state.sessions.records(),
    )
    return manifest if compaction else manifest._replace(compaction=choose(manifest))
