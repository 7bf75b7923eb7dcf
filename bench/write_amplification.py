"""Bytes written to disk for each byte of rows in 2,000,000 random puts, beside RocksDB and LevelDB."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from bench.harness import peers
from bench.harness.measured import Measured, Round, progress, tell
from bench.harness.stage import OURS, THEIRS, Stage

_PUTS, _PUTS_QUICK = 2_000_000, 200_000


def measure(stage: Stage) -> Measured:
    """One round: bytes hardly depend on the minute."""
    puts = _PUTS_QUICK if stage.quick else _PUTS
    ours = _run(stage, OURS, puts)
    theirs: dict[str, float] = {}
    for name in peers.installed():
        theirs |= {f"{name}_{figure}": value for figure, value in _run(stage, name, puts).items()}
    one: Round = {OURS: ours, THEIRS: theirs}
    tell("write_amplification", 1, 1, one)
    return Measured(
        "write_amplification",
        f"bytes on disk for each byte of {puts:,} random puts",
        (one,),
        lambda one: one[OURS]["write_amplification"],
        "rocksdict, plyvel",
    )


def _run(stage: Stage, side: str, puts: int) -> dict[str, float]:
    progress(f"write_amplification: {puts:,} puts, {side}")
    directory = stage.root / f"puts-{side}"
    command = [sys.executable, "-m", "bench.harness.random_puts", side, str(directory), str(puts)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(directory)
    return dict(json.loads(done.stdout))
