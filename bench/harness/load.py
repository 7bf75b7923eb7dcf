"""The load generator, built from `bench/loadgen` with Debian's Go (and clientv3 for etcd), and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.stage import Stage

_SOURCE = Path(__file__).resolve().parent.parent / "loadgen"
_BINARY = _SOURCE / "build" / "loadgen"
_GO_PATH = "/usr/share/gocode"
_FILL_IN_FLIGHT = 256
_ANSWERS_TIMEOUT_S = 60.0  # for the last answers
_FILL_RATE_MIN = 500  # rows a second; a machine that fills more slowly measures nothing
_CLIENT = Path(_GO_PATH, "src/go.etcd.io/etcd/clientv3")


class Missing(Exception):
    """A system package is missing; the text names it."""


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop: `connections` x `outstanding` operations of `kind` in flight.

    `kind` is put, get, mixed (each operation is drawn to be one or the other) or bulk.
    """

    kind: str
    connections: int
    outstanding: int
    keys: int = 10_000
    value_bytes: int = 100
    batch_rows: int = 100
    rate: int = 0
    """Above 0 an open loop: so many operations begin each second whatever becomes of the earlier ones,
    each is timed from when it was due, and `outstanding` only bounds what a connection has in flight."""
    http: bool = False
    """HTTP/1.1 with keep-alive at all nodes in turn, not the native protocol at the leader."""
    python_client: bool = False
    """Drive neumann with bench/rawclient.py; it knows puts only."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the load generator saw. `rate` is rows a second; times in ms from request to answer."""

    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float = 0.0
    """CPU time of all three nodes per row, warm-up included."""


class LoadFailed(Exception):
    """An operation was answered wrongly or not at all."""


def require(program: str, package: str) -> Path:
    """The program's path; Missing names the Debian package."""
    found = shutil.which(program)
    if found is None:
        raise _missing(package)
    return Path(found)


def require_etcd_client() -> None:
    """Missing if the load generator is built without its etcd driver."""
    if not _CLIENT.is_dir():
        raise _missing("golang-etcd-server-dev")


def _missing(package: str) -> Missing:
    return Missing(f"the system package {package} is missing; install it with: apt-get install {package}")


def build() -> None:
    """Build the load generator; a second time this costs Go's look at its cache."""
    go = require("go", "golang-go")
    environ = {**os.environ, "GO111MODULE": "off", "GOPATH": _GO_PATH, "GOFLAGS": ""}
    tags = ["-tags", "etcd"] if _CLIENT.is_dir() else []
    command: list[str | Path] = [go, "build", *tags, "-o", _BINARY, "."]
    done = subprocess.run(command, cwd=_SOURCE, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise LoadFailed(f"go build of {_SOURCE} failed:\n{done.stderr}")


def drive(target: str, endpoint: str, load: Load, stage: Stage, seed: int) -> Figures:
    """One round of `load`; `endpoint` is HOST:PORT, or several with commas, taken in turn."""
    return _run(target, endpoint, load, seed, seconds=stage.seconds, warmup_s=stage.warmup_s)


def fill(target: str, endpoint: str, load: Load) -> None:
    """Put each key once, so that a get always finds a row and a put replaces one."""
    # More than this in flight makes etcd refuse ("too many requests") on a slow disk.
    outstanding = 1 if load.http else max(1, _FILL_IN_FLIGHT // load.connections)
    filling = Load("fill", load.connections, outstanding, load.keys, load.value_bytes, http=load.http)
    _run(target, endpoint, filling, seed=0, seconds=0.0, warmup_s=0.0, patience_s=load.keys / _FILL_RATE_MIN)


def _run(
    target: str,
    endpoint: str,
    load: Load,
    seed: int,
    seconds: float,
    warmup_s: float,
    patience_s: float = 0.0,
) -> Figures:
    flags: dict[str, object] = {
        "endpoint": endpoint,
        "connections": load.connections,
        "outstanding": load.outstanding,
        "keys": load.keys,
        "value-bytes": load.value_bytes,
        "seconds": seconds,
        "warmup": warmup_s,
        "seed": seed,
    }
    program: list[str | Path] = [sys.executable, "-m", "bench.rawclient"]
    if target != "neumann" or not load.python_client:
        program = [_BINARY]
        flags |= {"target": target, "workload": load.kind, "batch": load.batch_rows, "rate": load.rate}
    words = [word for name, value in flags.items() for word in (f"-{name}", str(value))]
    limit_s = warmup_s + seconds + patience_s + _ANSWERS_TIMEOUT_S
    try:
        done = subprocess.run([*program, *words], capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{target}: the load did not end within {limit_s:g} s") from error
    if done.returncode:
        raise LoadFailed(done.stderr.strip())
    return figures_of(target, json.loads(done.stdout))


def figures_of(target: str, seen: dict[str, Any]) -> Figures:
    """From the load generator's JSON; LoadFailed if an operation failed or none was answered."""
    if seen["errors"] or not seen["operations"]:
        raise LoadFailed(f"{target}: {seen['errors']} operations failed; the first: {seen['error']}")
    return Figures(seen["rate"], seen["p50_ms"], seen["p99_ms"], seen["max_ms"])
