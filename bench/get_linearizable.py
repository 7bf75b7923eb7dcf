"""Rate of linearizable gets of present keys: 8 connections x 32 outstanding, warm."""

from __future__ import annotations

from bench.harness.compare import Result, compare
from bench.harness.load import Load
from bench.harness.stage import Stage


def measure(stage: Stage) -> Result:
    return compare(stage, "get_linearizable", Load("get", connections=8, outstanding=32))
