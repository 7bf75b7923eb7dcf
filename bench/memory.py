"""Resident size of a server with 100,000 and with 5,000,000 rows under the same load: it should be flat."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import neumann
from bench.harness import filled
from bench.harness.measured import Measured, Round, growth, progress, tell
from bench.harness.stage import OURS, Stage
from tests.procedures.cluster import Cluster

_SIZES = (100_000, 5_000_000)
_QUICK_SIZES = (100_000, 500_000)
_GETS, _PUTS, _SCANNED_ROWS, _IN_FLIGHT = 100_000, 50_000, 500_000, 64


def measure(stage: Stage) -> Measured:
    """One round: what is kept does not depend on the minute."""
    sizes = _QUICK_SIZES if stage.quick else _SIZES
    ours: dict[str, float] = {}
    for size in sizes:
        ours |= {f"{name}_at_{size}": mib for name, mib in _load(stage.root / f"memory-{size}", size).items()}
    one: Round = {OURS: ours}
    tell("memory", 1, 1, one)
    ratio = growth(*(f"resident_mib_at_{size}" for size in reversed(sizes)))
    meaning = f"resident size at {sizes[-1]:,} rows over that at {sizes[0]:,}"
    return Measured("memory", meaning, (one,), ratio)


def _load(root: Path, rows: int) -> dict[str, float]:
    progress(f"memory: filling {rows:,} rows")
    cluster = Cluster(root, ("n1",))
    member = cluster["n1"]
    filled.fill_member(member.data, rows, member.id, member.address)
    with cluster:
        cluster.start("--bootstrap")
        assert member.process is not None
        found = {"started_mib": _mib(member.process.pid, "VmRSS")}
        asyncio.run(_use(cluster.contact, rows))
        found["resident_mib"] = _mib(member.process.pid, "VmRSS")
        found["peak_mib"] = _mib(member.process.pid, "VmHWM")
    return found


async def _use(contact: str, rows: int) -> None:
    """Random gets that fill the caches, random puts that are flushed and merged, and a long scan."""
    rng = random.Random(11)
    slots = asyncio.Semaphore(_IN_FLIGHT)
    async with neumann.connect(contact) as store:

        async def get(number: int) -> None:
            async with slots:
                assert await store.get(filled.TABLE, filled.key(number)) is not None

        async def put(number: int) -> None:
            async with slots:
                await store.put(filled.TABLE, filled.key(number), filled.value(rng).hex()[:98])

        await asyncio.gather(*(get(rng.randrange(rows)) for _ in range(_GETS)))
        await asyncio.gather(*(put(rng.randrange(rows)) for _ in range(_PUTS)))
        async for _ in store.scan(filled.TABLE, limit=min(rows, _SCANNED_ROWS)):
            pass


def _mib(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = [int(line.split()[1]) for line in lines if line.startswith(f"{name}:")]
    return kib / 1024
