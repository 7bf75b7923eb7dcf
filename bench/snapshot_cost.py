"""Time and bytes of a snapshot after 10,000 changed rows, at 10,000 to 1,000,000 rows: it should be flat."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

from bench.harness import filled
from bench.harness.measured import Measured, Round, growth, progress, tell
from bench.harness.stage import OURS, Stage
from neumann.client import Put
from neumann.config import Config
from neumann.embedded import NODE_ID, EmbeddedStore

_SIZES = (10_000, 100_000, 1_000_000)
_LARGE = 10_000_000
_CHANGED_ROWS, _BATCH_ROWS = 10_000, 100
_SNAPSHOTS = 3
"""In each round; the median counts."""


def measure(stage: Stage) -> Measured:
    sizes = _SIZES[:2] if stage.quick else (*_SIZES, _LARGE) if stage.large else _SIZES
    rounds: list[Round] = []
    for size in sizes:
        progress(f"snapshot_cost: filling {size:,} rows")
        filled.fill_member(stage.root / f"snapshot-{size}", size, NODE_ID, "127.0.0.1:1")
    for number in range(1, stage.rounds + 1):
        ours: dict[str, float] = {}
        for size in sizes:
            seconds, written = asyncio.run(_snapshots(stage.root / f"snapshot-{size}", size, number))
            ours |= {f"seconds_at_{size}": seconds, f"bytes_at_{size}": written}
        rounds.append({OURS: ours})
        tell("snapshot_cost", number, stage.rounds, rounds[-1])
    for size in sizes:
        shutil.rmtree(stage.root / f"snapshot-{size}")
    meaning = f"seconds at {sizes[-1]:,} rows over those at {sizes[0]:,}"
    ratio = growth(f"seconds_at_{sizes[-1]}", f"seconds_at_{sizes[0]}")
    return Measured("snapshot_cost", meaning, tuple(rounds), ratio)


async def _snapshots(data: Path, rows: int, seed: int) -> tuple[float, float]:
    """Medians of (seconds, bytes written besides the log)."""
    config = Config()
    config = replace(config, snapshot=replace(config.snapshot, interval_entries=10**9, interval_bytes=10**12))
    found = []
    rng = random.Random(seed)
    async with EmbeddedStore(str(data), config) as store:
        await store.snapshot()
        for _ in range(_SNAPSHOTS):
            await _change(store, rows, rng)
            while store.node.member is not None and store.node.member.checkpointer.is_busy:
                await asyncio.sleep(0.05)
            before = _files(data)
            begin = time.perf_counter()
            await store.snapshot()
            seconds = time.perf_counter() - begin
            after = _files(data)
            found.append((seconds, float(sum(after[inode] for inode in after.keys() - before.keys()))))
    seconds_sorted, bytes_sorted = (sorted(column) for column in zip(*found, strict=True))
    return seconds_sorted[_SNAPSHOTS // 2], bytes_sorted[_SNAPSHOTS // 2]


async def _change(store: EmbeddedStore, rows: int, rng: random.Random) -> None:
    """Put so many rows of those that there are."""
    numbers = rng.sample(range(rows), _CHANGED_ROWS)
    for start in range(0, _CHANGED_ROWS, _BATCH_ROWS):
        part = numbers[start : start + _BATCH_ROWS]
        await store.batch([Put(filled.TABLE, filled.key(n), rng.randbytes(49).hex()) for n in part])


def _files(data: Path) -> dict[int, int]:
    """Inode -> size of each file but the log's."""
    found = {}
    for path in data.rglob("*"):
        if path.suffix != ".wal" and path.is_file() and not path.is_symlink():
            stat = path.stat()
            found[stat.st_ino] = stat.st_size
    return found
