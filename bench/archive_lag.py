"""How far the archive is behind at a steady 10,000 puts a second: cp, wal-push to a directory and to S3."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import load as generator
from bench.harness.load import Load
from bench.harness.measured import Measured, Numbers, Round, progress, tell
from bench.harness.stage import OURS, Stage
from tests import distant
from tests.procedures.cluster import BIN, Cluster, must

ARCHIVE_TIMEOUT_S = 2
_RATE, _RATE_QUICK = 10_000, 2_000
"""The second is what two cores bear beside three nodes, an archiver and an S3 server in Python."""
_SECONDS, _SECONDS_QUICK = 30.0, 8.0
_ALLOWED_S = 3 * ARCHIVE_TIMEOUT_S
_LOOK_S = 0.25


def measure(stage: Stage) -> Measured:
    generator.build()
    rounds: list[Round] = []
    with distant.store() as store:
        os.environ.update(store.environ)
        places = {
            "cp": lambda root: f"cp %p {root}/%f",
            "wal_push_directory": lambda root: f"{BIN}/neumann-admin wal-push %p {root}",
            "wal_push_s3": lambda root: (
                f"{BIN}/neumann-admin wal-push %p s3://{distant.BUCKET}/{root.parent.name}"
            ),
        }
        for number in range(1, stage.rounds + 1):
            found: dict[str, float] = {}
            for name, command in places.items():
                progress(f"archive_lag: {name}, round {number} of {stage.rounds}")
                root = stage.root / f"lag-{name}-{number}"
                found |= {f"{name}_{key}": value for key, value in _one(stage, root, command).items()}
            rounds.append({OURS: found})
            tell("archive_lag", number, stage.rounds, rounds[-1])
    return Measured(
        "archive_lag",
        f"less than {_ALLOWED_S} s behind, the worst of all, with archive_timeout {ARCHIVE_TIMEOUT_S} s",
        tuple(rounds),
        lambda one: _ALLOWED_S / max(v for name, v in one[OURS].items() if name.endswith("lag_max_s")),
    )


def _one(stage: Stage, root: Path, command: Callable[[Path], str]) -> Numbers:
    """Three nodes under the load: puts a second, lag as the leader tells it, and seconds until it is 0."""
    archive = root / "archive"
    archive.mkdir(parents=True)
    wal = {"archive_command": command(archive), "archive_timeout": ARCHIVE_TIMEOUT_S}
    seconds = _SECONDS_QUICK if stage.quick else _SECONDS
    # A busy machine's pauses shall not end a leadership: what is asked is how far the archive is behind.
    with Cluster(root, sections={"wal": wal, "raft": {"election_timeout_ms": 15000}}) as cluster:
        cluster.start("--bootstrap")
        cluster.wait_voters(3)
        leader = cluster.leader()
        lags: list[float] = []
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_LOOK_S):
                told = leader.status().get("archive", {}).get("lag_seconds")
                if told is not None:
                    lags.append(float(told))

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            load = Load("put", connections=8, outstanding=4096, rate=_RATE_QUICK if stage.quick else _RATE)
            steady = Stage(stage.root, 1, seconds, stage.warmup_s)
            figures = generator.drive("neumann", leader.address, load, steady, seed=1)
        finally:
            ended.set()
            watching.join()
        half = lags[len(lags) // 2 :]
        begin = time.monotonic()
        must([BIN / "neumann-admin", "archive-flush", "--timeout", "120"], leader.environ, 150)
        return {
            "puts_per_s": figures.rate,
            "lag_max_s": max(lags),
            "lag_second_half_mean_s": sum(half) / len(half),
            "flush_s": time.monotonic() - begin,
        }
