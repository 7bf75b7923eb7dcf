"""Rate of puts without pipelining: 256 connections x 1 outstanding."""

from __future__ import annotations

from bench.harness.compare import Result, compare
from bench.harness.load import Load
from bench.harness.stage import Stage


def measure(stage: Stage) -> Result:
    return compare(stage, "put_connections", Load("put", connections=256, outstanding=1))
