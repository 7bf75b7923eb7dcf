"""Rows a second in atomic batches of 100: 4 connections x 4 outstanding."""

from __future__ import annotations

from bench.harness.compare import Result, compare
from bench.harness.load import Load
from bench.harness.stage import Stage


def measure(stage: Stage) -> Result:
    return compare(stage, "bulk_load", Load("bulk", connections=4, outstanding=4))
