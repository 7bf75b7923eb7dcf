"""p99 of a put at a steady 10,000 a second while snapshots are made, beside neumann without them."""

from __future__ import annotations

from bench.harness.compare import Result, compare
from bench.harness.load import Load
from bench.harness.neumann import WithoutSnapshots
from bench.harness.stage import Stage


def measure(stage: Stage) -> Result:
    load = Load("put", connections=8, outstanding=4096, rate=10_000)
    return compare(stage, "put_open_loop", load, figure="p99_ms", peer=WithoutSnapshots)
