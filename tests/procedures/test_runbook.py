"""The runbook's commands as an operator types them, through a shell, against each node in turn."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.procedures.cluster import BIN, Cluster, Ended, Member, run

NODES = ("n1", "n2", "n3")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), ids=NODES) as running:
        running.start("--bootstrap")
        running.wait_voters(3)
        for number in range(20):
            assert running.members[0].request("PUT", f"/kv/t/{number:02}", number).status == 200
        yield running


@pytest.fixture(params=NODES)
def node(cluster: Cluster, request: pytest.FixtureRequest) -> Member:
    return cluster[request.param]


def typed(node: Member, line: str) -> Ended:
    """Run a line with NODE replaced, `neumann-admin` on PATH and pointed at this node."""
    environ = {**node.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return run(
        ["bash", "-o", "pipefail", "-c", line.replace("NODE", f"127.0.0.1:{node.admin_port}")], environ
    )


def test_snapshot_and_its_metrics(node: Member) -> None:
    made = typed(node, "curl -X POST http://NODE/admin/snapshot")
    snapshot = json.loads(made.out)
    assert made.code == 0
    assert node.id in snapshot["durable_on"] and len(snapshot["durable_on"]) >= 2
    assert (node.data / "raft/snapshots/latest").resolve().name == snapshot["id"]
    metrics = typed(node, "curl -s http://NODE/metrics | grep snapshot")
    values = dict(line.rsplit(" ", 1) for line in metrics.out.splitlines() if not line.startswith("#"))
    assert float(values["neumann_snapshot_last_index"]) == snapshot["index"]


def test_cluster_info_and_status(node: Member) -> None:
    info = json.loads(typed(node, "neumann-admin cluster-info").out)
    assert {member["node_id"] for member in info["members"]} == set(NODES)
    status = typed(node, "neumann-admin cluster-status")
    assert status.code in (0, 1)  # DEGRADED too: this cluster has no archive
    assert all(name in status.out for name in NODES)


def test_pause_and_resume(node: Member) -> None:
    assert typed(node, "neumann-admin pause-writes").code == 0
    refused = typed(node, "curl -s -o /dev/null -w '%{http_code}' -X PUT -d 1 http://NODE/kv/t/paused")
    assert refused.out == "503"
    assert typed(node, "neumann-admin resume-writes").code == 0
    assert typed(node, "neumann-admin resume-writes").code == 9
    accepted = typed(node, "curl -s -o /dev/null -w '%{http_code}' -X PUT -d 1 http://NODE/kv/t/paused")
    assert accepted.out == "200"


def test_verification(node: Member) -> None:
    assert typed(node, "neumann-admin verify-checksums").code == 0
    counted = typed(node, "neumann-admin stats | grep total_entries")
    listed = typed(node, "curl -s http://NODE/kv/t")
    assert counted.out.split() == ["total_entries", str(len(json.loads(listed.out)["rows"]))]
