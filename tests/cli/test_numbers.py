"""What a node tells of itself in /metrics and stats, against its files."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from neumann.runtime import gauges
from neumann.runtime.metrics import Metrics
from tests.cli.conftest import Server, run_admin

MINUTE_NS = 60_000_000_000


def metric(server: Server, name: str) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as response:
        [line] = [
            line for line in response.read().decode().splitlines() if line.startswith(f"neumann_{name} ")
        ]
    return float(line.split()[1])


def size(directory: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in directory.glob(pattern))


def test_bytes_are_those_on_disk_and_a_restart_forgets_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: `store_bytes` was the uncompressed size, `wal_bytes` left out what is reserved, and the newest
    snapshot was of 1970 after every restart."""
    server = Server(tmp_path)
    environ = {"NEUMANN_ADMIN": server.url}
    server.start("--bootstrap")
    for number in range(3):
        assert run_admin(("put", "t", f"k{number}", f'"{"x" * 100_000}"'), environ, monkeypatch).code == 0
    made = run_admin(("snapshot", "--format", "json"), environ, monkeypatch).json
    wal, store = server.data_dir / "raft/wal", server.data_dir / "store"
    for _ in range(2):
        assert metric(server, "store_bytes") == size(store, "*.table") < 100_000
        assert metric(server, "wal_bytes") == size(wal, "*.wal") > 1 << 20
        stats = run_admin(("stats", "--format", "json"), environ, monkeypatch).json
        assert (stats["store_bytes"], stats["wal_bytes"]) == (size(store, "*.table"), size(wal, "*.wal"))
        before = metric(server, "snapshot_last_success_timestamp_seconds")
        assert metric(server, "snapshot_last_index") == made["index"]
        server.stop()
        server.start()
    after = metric(server, "snapshot_last_success_timestamp_seconds")
    assert abs(after - before) < 60
    server.stop()


def test_a_conflict_of_timelines_is_over_when_nobody_of_another_is_heard() -> None:
    """Bug: one message of an old timeline, and the gauge was 1 until the process ended."""
    metrics = Metrics()
    assert gauges.of_node(metrics, True, "", 5)["timeline_conflict"] == 0
    metrics.reject_peer("storage", 5)
    assert gauges.of_node(metrics, True, "", 6)["timeline_conflict"] == 0
    metrics.reject_peer("timeline", 5)
    assert gauges.of_node(metrics, True, "", 4 + MINUTE_NS)["timeline_conflict"] == 1
    assert gauges.of_node(metrics, True, "", 5 + MINUTE_NS)["timeline_conflict"] == 0
    assert metrics.rejected_peers == {"storage": 1, "timeline": 1}
