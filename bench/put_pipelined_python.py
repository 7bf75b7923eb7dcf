"""put_pipelined with our load from a raw Python client instead of the Go one (etcd's stays Go)."""

from __future__ import annotations

from bench.harness.compare import Result, compare
from bench.harness.load import Load
from bench.harness.stage import Stage


def measure(stage: Stage) -> Result:
    load = Load("put", connections=8, outstanding=32, python_client=True)
    return compare(stage, "put_pipelined_python", load)
