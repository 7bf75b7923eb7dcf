"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from pathlib import Path

_SYNCS = 200
_BLOCK = b"\0" * 4096


def describe(root: Path) -> dict[str, object]:
    """Cores, what already ran on them, interpreter, file system of `root` and an fdatasync's cost there."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "executable": os.path.realpath(sys.executable),
        "python_loop_ns": round(python_loop_ns()),
        "file_system": file_system(root),
        "fdatasync_us": round(fdatasync_us(root)),
    }


def python_loop_ns() -> float:
    """Time of one turn of an empty loop: tells an optimised build of Python from one that is not."""
    turns = 1_000_000
    begin = time.perf_counter_ns()
    for _ in range(turns):
        pass
    return (time.perf_counter_ns() - begin) / turns


def fdatasync_us(root: Path) -> float:
    """Median time of one after an append of 4 KiB."""
    path = root / "fdatasync"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        times = []
        for _ in range(_SYNCS):
            os.write(handle, _BLOCK)
            begin = time.perf_counter_ns()
            os.fdatasync(handle)
            times.append(time.perf_counter_ns() - begin)
    finally:
        os.close(handle)
        path.unlink()
    return statistics.median(times) / 1000


def file_system(root: Path) -> str:
    """Its type by the longest mount point above `root`; `tmpfs` makes every figure worthless."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [(len(point), kind) for point, kind in mounts if root.resolve().is_relative_to(point)]
    return max(above)[1] if above else "unknown"
