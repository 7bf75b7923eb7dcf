"""Entries a second of `wal-replay` from an archive of 2,000,000 entries of 100 bytes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from bench.harness.archived import write_archive
from bench.harness.measured import Measured, Round, progress, tell
from bench.harness.stage import OURS, Stage
from tests.procedures.cluster import BIN, must

_ENTRIES, _ENTRIES_QUICK = 2_000_000, 200_000
_FEW_KEYS = 10_000
_AIM_PER_S = 200_000


def measure(stage: Stage) -> Measured:
    entries = _ENTRIES_QUICK if stage.quick else _ENTRIES
    archives = {"": entries // 2, f"_on_{_FEW_KEYS}_keys": _FEW_KEYS}
    for name, keys in archives.items():
        progress(f"replay: writing {entries:,} entries on {keys:,} keys")
        write_archive(stage.root / f"archive{name}", entries, keys)
    rounds: list[Round] = []
    for number in range(1, stage.rounds + 1):
        ours = {
            f"entries_per_s{name}": entries / _replay(stage.root / f"archive{name}", stage.root / "replayed")
            for name in archives
        }
        rounds.append({OURS: ours})
        tell("replay", number, stage.rounds, rounds[-1])
    return Measured(
        "replay",
        f"{_AIM_PER_S:,} entries a second",
        tuple(rounds),
        lambda one: one[OURS]["entries_per_s"] / _AIM_PER_S,
    )


def _replay(archive: Path, data: Path) -> float:
    """Seconds of the whole command: plan, replay, verification, swap."""
    shutil.rmtree(data, ignore_errors=True)
    words: list[str | Path] = [
        "--wal-dir",
        archive,
        "--until",
        "latest",
        "--data-dir",
        data,
        "--node-id",
        "n1",
        "--yes",
    ]
    begin = time.perf_counter()
    must([BIN / "neumann-admin", "wal-replay", *words, "--advertise", "127.0.0.1:1"])
    return time.perf_counter() - begin
