"""Seconds from a snapshot of 500,000 rows in a backup to a data directory, beside etcd's snapshot restore."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.harness import filled
from bench.harness import load as generator
from bench.harness.etcd import Etcd
from bench.harness.load import Load, Missing, require
from bench.harness.measured import Measured, Round, progress, tell
from bench.harness.stage import OURS, THEIRS, Stage
from tests.procedures.cluster import BIN, must

_ROWS, _ROWS_QUICK = 500_000, 50_000

Command = Sequence[str | Path]


class Restore(NamedTuple):
    """A command that fills `target`, which must not be there before."""

    target: Path
    command: Command
    run: Callable[[Command], object]


def measure(stage: Stage) -> Measured:
    rows = _ROWS_QUICK if stage.quick else _ROWS
    root = stage.root / "restore"
    sides: dict[str, Restore] = {OURS: _ours(root, rows)}
    if THEIRS in stage.sides:
        try:
            sides[THEIRS] = _theirs(stage, root, rows)
        except Missing as error:
            progress(f"restore: ours alone: {error}")
    rounds: list[Round] = []
    for number in range(1, stage.rounds + 1):
        rounds.append({side: {"seconds": _seconds(restore)} for side, restore in sides.items()})
        tell("restore", number, stage.rounds, rounds[-1])
    shutil.rmtree(root)
    return Measured(
        "restore",
        f"as fast as etcd with {rows:,} rows",
        tuple(rounds),
        lambda one: one[THEIRS]["seconds"] / one[OURS]["seconds"],
        "etcd",
    )


def _ours(root: Path, rows: int) -> Restore:
    progress(f"restore: filling {rows:,} rows")
    source, repo, target = root / "source", root / "repo", root / "target"
    filled.fill_member(source, rows, "n1", "127.0.0.1:1")
    (repo / "wal").mkdir(parents=True)
    shutil.copytree(source / "raft/snapshots", repo / "snapshots", symlinks=True)
    shutil.rmtree(source)
    words: list[str | Path] = [
        "--repo",
        repo,
        "--until",
        "latest",
        "--data-dir",
        target,
        "--node-id",
        "n1",
        "--yes",
    ]
    return Restore(target, [BIN / "neumann-admin", "wal-replay", *words, "--advertise", "127.0.0.1:1"], must)


def _theirs(stage: Stage, root: Path, rows: int) -> Restore:
    etcdctl = require("etcdctl", "etcd-client")
    generator.build()
    saved, target = root / "etcd.snapshot", root / "etcd-target"
    load = Load("put", connections=8, outstanding=32, keys=rows)
    progress(f"restore: filling etcd with {rows:,} rows")
    with Etcd(stage, root / "etcd") as peer:
        peer.fill(load)
        _run_etcdctl([etcdctl, "--endpoints", peer.target(load)[1], "snapshot", "save", saved])
    return Restore(target, [etcdctl, "snapshot", "restore", saved, "--data-dir", target], _run_etcdctl)


def _run_etcdctl(command: Command) -> None:
    subprocess.run(command, env={**os.environ, "ETCDCTL_API": "3"}, check=True, capture_output=True)


def _seconds(restore: Restore) -> float:
    shutil.rmtree(restore.target, ignore_errors=True)
    begin = time.perf_counter()
    restore.run(restore.command)
    return time.perf_counter() - begin
