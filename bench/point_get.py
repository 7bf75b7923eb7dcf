"""In-process gets a second of CPU time, warm, cold and of absent rows, beside RocksDB and LevelDB."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness import collector, filled, peers
from bench.harness.measured import Measured, Round, rate_ratio, tell
from bench.harness.stage import OURS, THEIRS, Stage
from neumann.env.disk import RealDisk
from neumann.format.command import row_key
from neumann.format.manifest import Manifest
from neumann.store.store import Store

_ROWS, _ROWS_QUICK = 1_000_000, 100_000
_HOT_ROWS = 10_000
_COLD_GETS, _ABSENT_GETS = 10_000, 10_000
_CACHE_BYTES = 64 * 1024 * 1024
_COLD_CACHE_BYTES = 8
"""For each row of the store: room for filters and for one row in fifty."""


def measure(stage: Stage) -> Measured:
    rows = _ROWS_QUICK if stage.quick else _ROWS
    directory, manifest = filled.shared_store(stage.root, rows)
    kinds = peers.installed()
    for name, kind in kinds.items():
        filled.fill_peer(kind, stage.root / name, rows, _CACHE_BYTES)
    rounds: list[Round] = []
    for number in range(1, stage.rounds + 1):
        one: dict[str, dict[str, float]] = {OURS: _ours(directory, manifest, rows, number), THEIRS: {}}
        for name, kind in kinds.items():
            found = _theirs(partial(kind, stage.root / name), rows, number)
            one[THEIRS] |= {f"{name}_{figure}": value for figure, value in found.items()}
        rounds.append(one)
        tell("point_get", number, stage.rounds, one)
    meaning = "warm gets against rocksdict"
    ratio = rate_ratio("warm_gets_per_s", "rocksdict_warm_gets_per_s")
    return Measured("point_get", meaning, tuple(rounds), ratio, "rocksdict, plyvel")


def _ours(directory: Path, manifest: Manifest, rows: int, seed: int) -> dict[str, float]:
    def open_store(cache_bytes: int) -> Callable[[str], object]:
        store = Store.open(RealDisk(), str(directory), manifest, cache_bytes)

        def get(row: str) -> object:
            found = store.peek(row)
            return found if isinstance(found, tuple) or found is None else store.get(row)

        return get

    with collector.as_in_a_server():
        return _rates(open_store, partial(row_key, filled.TABLE), rows, seed)


def _theirs(open_store: Callable[[int], peers.Peer], rows: int, seed: int) -> dict[str, float]:
    opened: list[peers.Peer] = []

    def open_peer(cache_bytes: int) -> Callable[[bytes], object]:
        for store in opened:
            store.close()
        opened[:] = [open_store(cache_bytes)]
        return opened[0].get

    try:
        return _rates(open_peer, str.encode, rows, seed)
    finally:
        opened[0].close()


def _rates(
    open_store: Callable[[int], Callable[[Any], object]], address: Callable[[str], Any], rows: int, seed: int
) -> dict[str, float]:
    """Cold: a cache that holds no row for long, the file system's is warm. Warm: the same again and again."""
    rng = random.Random(seed)
    hot = [address(filled.key(rng.randrange(rows))) for _ in range(_HOT_ROWS)]
    cold = [address(filled.key(rng.randrange(rows))) for _ in range(_COLD_GETS)]
    absent = [address(filled.key(rng.randrange(rows)) + "-") for _ in range(_ABSENT_GETS)]
    get = open_store(_COLD_CACHE_BYTES * rows)
    _rate(get, cold)  # the file system's cache
    figures = {"cold_gets_per_s": _rate(get, cold), "cold_absent_gets_per_s": _rate(get, absent)}
    assert all(get(key) is not None for key in cold[:100]) and get(absent[0]) is None
    get = open_store(_CACHE_BYTES)
    _rate(get, hot)
    _rate(get, hot)
    return {**figures, "warm_gets_per_s": _rate(get, hot * 5)}


def _rate(get: Callable[[Any], object], keys: Sequence[Any]) -> float:
    begin = time.process_time()
    for key in keys:
        get(key)
    return len(keys) / (time.process_time() - begin)
