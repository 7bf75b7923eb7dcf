"""Rate of puts: 8 connections x 32 outstanding, 100-byte values, 10,000 keys, snapshots on."""

from __future__ import annotations

from bench.harness.compare import Result, compare
from bench.harness.load import Load
from bench.harness.stage import Stage


def measure(stage: Stage) -> Result:
    return compare(stage, "put_pipelined", Load("put", connections=8, outstanding=32))
