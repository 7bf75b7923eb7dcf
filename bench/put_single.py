"""Latency of a put where one client waits for each: 1 connection x 1 outstanding."""

from __future__ import annotations

from bench.harness.compare import Result, compare
from bench.harness.load import Load
from bench.harness.stage import Stage


def measure(stage: Stage) -> Result:
    return compare(stage, "put_single", Load("put", connections=1, outstanding=1), figure="p50_ms")
