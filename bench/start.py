"""Time until a server is ready that was killed with 10,000 rows, and with 1,000,000: it should be flat."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import neumann
from bench.harness import filled
from bench.harness.measured import Measured, Round, growth, progress, tell
from bench.harness.stage import OURS, Stage
from tests.procedures.cluster import Cluster

_SIZES = (10_000, 1_000_000)
_QUICK_SIZES = (10_000, 100_000)
_PUTS, _IN_FLIGHT = 15_000, 64
"""Written one by one before the end: the log has a snapshot and what came behind it."""
_STARTS = 5
"""In each round; the median counts."""


def measure(stage: Stage) -> Measured:
    sizes = _QUICK_SIZES if stage.quick else _SIZES
    clusters = {size: _prepare(stage.root / f"start-{size}", size) for size in sizes}
    rounds: list[Round] = []
    for number in range(1, stage.rounds + 1):
        ours: dict[str, list[float]] = {f"ready_s_at_{size}": [] for size in sizes}
        for _ in range(_STARTS):
            for size, cluster in clusters.items():
                ours[f"ready_s_at_{size}"].append(_start(cluster))
        rounds.append({OURS: {name: sorted(seen)[_STARTS // 2] for name, seen in ours.items()}})
        tell("start", number, stage.rounds, rounds[-1])
    ratio = growth(*(f"ready_s_at_{size}" for size in reversed(sizes)))
    return Measured(
        "start", f"seconds at {sizes[-1]:,} rows over those at {sizes[0]:,}", tuple(rounds), ratio
    )


def _prepare(root: Path, rows: int) -> Cluster:
    progress(f"start: filling {rows:,} rows")
    cluster = Cluster(root, ("n1",))
    member = cluster["n1"]
    filled.fill_member(member.data, rows, member.id, member.address)
    with cluster:
        cluster.start("--bootstrap")
        asyncio.run(_put(cluster.contact, rows))
        member.kill()
    return cluster


def _start(cluster: Cluster) -> float:
    member = cluster["n1"]
    begin = time.perf_counter()
    member.start("--bootstrap")
    while not member.serves():
        time.sleep(0.005)
        assert member.is_running(), member.log.read_text()
    seconds = time.perf_counter() - begin
    member.kill()
    return seconds


async def _put(contact: str, rows: int) -> None:
    rng = random.Random(7)
    async with neumann.connect(contact) as store:
        slots = asyncio.Semaphore(_IN_FLIGHT)

        async def put(number: int) -> None:
            async with slots:
                await store.put(filled.TABLE, filled.key(number), filled.value(rng).hex())

        await asyncio.gather(*(put(rng.randrange(rows)) for _ in range(_PUTS)))
