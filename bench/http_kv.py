"""Rate of curl's requests, PUT or GET by a coin: 64 keep-alive connections over all three nodes."""

from __future__ import annotations

from bench.harness.compare import Result, compare
from bench.harness.load import Load
from bench.harness.stage import Stage


def measure(stage: Stage) -> Result:
    return compare(stage, "http_kv", Load("mixed", connections=64, outstanding=1, http=True))
