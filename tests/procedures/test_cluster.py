"""Three real processes: they form, any takes a write, a killed leader loses nothing, disks are equal."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.procedures.cluster import Cluster, Member
from tests.procedures.disks import compare_disks

WRITERS = 6
LOAD_BEFORE_KILL_S, LOAD_AFTER_S = 1.5, 3.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Formed, three voters. Small snapshot intervals, so that tables and sealed segments come soon."""
    with Cluster(tmp_path, sections={"snapshot": {"interval_entries": 200}}) as running:
        running.start("--bootstrap")
        running.wait_voters(3)
        yield running


class Writer(threading.Thread):
    """Puts rows of its own, one after the other, on changing nodes; keeps what was acknowledged."""

    def __init__(self, name: str, members: list[Member]) -> None:
        super().__init__(name=name, daemon=True)
        self.ending = threading.Event()
        self.acknowledged: dict[str, int] = {}
        self._members = itertools.cycle(members)

    def run(self) -> None:
        member = next(self._members)
        for number in itertools.count():
            if self.ending.is_set():
                return
            key = f"{self.name}-{number}"
            try:
                answer = member.request("PUT", f"/kv/load/{key}", {"n": number}, timeout_s=5)
            except OSError:
                member = next(self._members)
                continue
            if answer.status == 200:
                self.acknowledged[key] = answer.body["revision"]
            else:
                assert answer.status in (429, 503, 504), answer
                member = next(self._members)


def test_any_node_takes_a_write_and_every_node_reads_it(cluster: Cluster) -> None:
    for writer in cluster.members:
        answer = writer.request("PUT", f"/kv/cities/{writer.id}", {"name": writer.id})
        assert answer.status == 200, answer
        for reader in cluster.members:
            read = reader.request("GET", f"/kv/cities/{writer.id}")
            assert (read.status, read.body) == (200, {"name": writer.id})
            assert read.headers["ETag"] == f'"{answer.body["revision"]}"'


def test_killed_leader_loses_no_acknowledged_write_and_disks_end_equal(cluster: Cluster) -> None:
    writers = [Writer(f"w{number}", cluster.members) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    time.sleep(LOAD_BEFORE_KILL_S)
    leader = cluster.leader()
    leader.kill()
    time.sleep(LOAD_AFTER_S)
    before_restart = sum(len(writer.acknowledged) for writer in writers)
    leader.start("--bootstrap")
    cluster.wait_serving()
    for writer in writers:
        writer.ending.set()
        writer.join()
    acknowledged = {key: index for writer in writers for key, index in writer.acknowledged.items()}
    assert len(acknowledged) > before_restart > 0

    for member in cluster.members:
        found = {row["key"]: row["revision"] for row in scan(member, "load")}
        assert acknowledged.items() <= found.items()
    compare_disks(cluster)


def test_three_voters_of_which_two_are_down_are_waited_for(cluster: Cluster) -> None:
    """Bug: `--wait --for voters=3` counted who is configured, and ended with 0 beside `DOWN`."""
    alone, *others = cluster.members
    for member in others:
        member.kill()
    cluster.wait_for(lambda status: status["verdict"] == "DOWN", "a lost majority")
    said = alone.admin("cluster-status", "--wait", "1", "--for", "voters=3")
    assert said.code == 8, said
    assert said.out.startswith("DOWN") and "after 1 s" in said.err
    others[0].start()
    said = alone.admin("cluster-status", "--wait", "30", "--for", "voters=3")
    assert said.code == 0 and said.out.startswith("DEGRADED"), said


def scan(member: Member, table: str) -> list[dict[str, object]]:
    """All rows of a table over HTTP, page by page."""
    rows: list[dict[str, object]] = []
    cursor = ""
    while True:
        answer = member.request("GET", f"/kv/{table}?limit=5000" + (f"&cursor={cursor}" if cursor else ""))
        assert answer.status == 200, answer
        rows += answer.body["rows"]
        cursor = answer.body["cursor"]
        if not cursor:
            return rows
