"""Rows a second of CPU time that a compaction merges, eight tables into one, beside RocksDB's."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from bench.harness import filled, peers
from bench.harness.measured import Measured, Round, rate_ratio, tell
from bench.harness.stage import OURS, THEIRS, Stage
from neumann.env.disk import RealDisk
from neumann.store import jobs

_TABLES = 8
_ROWS, _ROWS_QUICK = 800_000, 80_000
_CACHE_BYTES = 64 * 1024 * 1024


def measure(stage: Stage) -> Measured:
    rows = _ROWS_QUICK if stage.quick else _ROWS
    kinds = peers.installed()
    directory = stage.root / "merge"
    inputs = filled.overlapping_tables(directory, _TABLES, rows // _TABLES)
    rounds: list[Round] = []
    for number in range(1, stage.rounds + 1):
        one = {OURS: {"rows_per_s": _ours(directory, inputs, rows)}, THEIRS: {}}
        if "rocksdict" in kinds:
            one[THEIRS] = {
                "rocksdict_rows_per_s": _theirs(kinds["rocksdict"], stage.root / "merge-rocksdict", rows)
            }
        rounds.append(one)
        tell("merge", number, stage.rounds, one)
    ratio = rate_ratio("rows_per_s", "rocksdict_rows_per_s")
    return Measured("merge", "rows against rocksdict", tuple(rounds), ratio, "rocksdict")


def _ours(directory: Path, inputs: list[str], rows: int) -> float:
    params = {
        "directory": str(directory),
        "block_bytes": filled.BLOCK_BYTES,
        "inputs": inputs,
        "drop_tombstones": True,
    }
    begin = time.process_time()
    merged = jobs.merge(RealDisk(), params)["table"]
    seconds = time.process_time() - begin
    assert merged.rows == rows
    (directory / f"{merged.name}.table").unlink()
    return rows / seconds


def _theirs(kind: peers.Kind, directory: Path, rows: int) -> float:
    shutil.rmtree(directory, ignore_errors=True)
    store = kind(directory, _CACHE_BYTES)
    store.put_all(filled.plain_rows(rows))
    begin = time.process_time()
    store.merge()
    seconds = time.process_time() - begin
    store.close()
    return rows / seconds
