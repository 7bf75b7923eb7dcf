"""put_pipelined beside PySyncObj, which syncs nothing to disk and has its clients in the leader's process."""

from __future__ import annotations

from bench.harness.compare import Result, compare
from bench.harness.load import Load
from bench.harness.pysyncobj import PySyncObj, require_pysyncobj
from bench.harness.stage import Stage


def measure(stage: Stage) -> Result:
    require_pysyncobj()  # ours alone is put_pipelined
    load = Load("put", connections=8, outstanding=32)
    return compare(stage, "put_pipelined_pysyncobj", load, peer=PySyncObj)
