"""Rows a second of CPU time of a scan over everything, in process, beside RocksDB and LevelDB."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain

from bench.harness import collector, filled, peers
from bench.harness.measured import Measured, Round, rate_ratio, tell
from bench.harness.stage import OURS, THEIRS, Stage
from neumann.env.disk import RealDisk
from neumann.store.store import Store
from neumann.store.view import View

_ROWS, _ROWS_QUICK = 1_000_000, 100_000
_CACHE_BYTES = 64 * 1024 * 1024


def measure(stage: Stage) -> Measured:
    rows = _ROWS_QUICK if stage.quick else _ROWS
    directory, manifest = filled.shared_store(stage.root, rows)
    kinds = peers.installed()
    for name, kind in kinds.items():
        filled.fill_peer(kind, stage.root / name, rows, _CACHE_BYTES)
    rounds: list[Round] = []
    for number in range(1, stage.rounds + 1):
        view = Store.open(RealDisk(), str(directory), manifest, _CACHE_BYTES).view()
        with collector.as_in_a_server():
            ours = {
                "rows_per_s": _rate(view.scan, rows),
                "rows_backwards_per_s": _rate(partial(view.scan, reverse=True), rows),
                "rows_in_columns_per_s": _rate(partial(_columns, view), rows),
            }
        theirs: dict[str, float] = {}
        for name, kind in kinds.items():
            store = kind(stage.root / name, _CACHE_BYTES)
            theirs[f"{name}_rows_per_s"] = _rate(store.items, rows)
            store.close()
        one = {OURS: ours, THEIRS: theirs}
        rounds.append(one)
        tell("scan", number, stage.rounds, one)
    ratio = rate_ratio("rows_per_s", "rocksdict_rows_per_s")
    return Measured("scan", "rows against rocksdict", tuple(rounds), ratio, "rocksdict, plyvel")


def _columns(view: View) -> Iterator[str]:
    return chain.from_iterable(run.keys for run in view.runs())


def _rate(scan: Callable[[], Iterable[object]], rows: int) -> float:
    begin = time.process_time()
    found = sum(1 for _ in scan())
    assert found == rows
    return rows / (time.process_time() - begin)
