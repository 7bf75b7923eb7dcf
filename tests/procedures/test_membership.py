"""Membership on real processes, by `neumann-admin` and plain HTTP: a wiped disk, rejoin, a fourth node,
promotion, removal, transfer. Nothing that was acknowledged is lost on the way."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.procedures.cluster import Cluster, Member

pytestmark = pytest.mark.timeout(300)
ROWS = 30


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Formed, three voters, some rows; a voter's disk is given up after two seconds of silence."""
    with Cluster(tmp_path, sections={"raft": {"heartbeat_ms": 50, "election_timeout_ms": 200}}) as running:
        running.start("--bootstrap")
        running.wait_voters(3)
        for number in range(ROWS):
            put(running["n1"], f"k{number:02}", number)
        yield running


def put(member: Member, key: str, value: object) -> None:
    answer = member.request("PUT", f"/kv/t/{key}", value)
    assert answer.status == 200, answer


def rows(member: Member) -> dict[str, Any]:
    return {row["key"]: row["value"] for row in member.request("GET", "/kv/t").body["rows"]}


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def storage(asked: Member, node_id: str) -> str:
    lines = asked.request("GET", "/admin/members").body["members"]
    return next(str(line["storage_id"]) for line in lines if line["node_id"] == node_id)


def test_a_wiped_node_is_replaced_by_itself_and_the_cluster_is_safe_again(cluster: Cluster) -> None:
    leader = cluster.leader()
    wiped, other = (member for member in cluster.members if member is not leader)
    old = storage(leader, wiped.id)
    wiped.kill()
    shutil.rmtree(wiped.data)
    wiped.data.mkdir()
    until(lambda: leader.admin("cluster-status").code == 1, "the leader misses it")
    put(leader, "meanwhile", 1)
    wiped.start("--bootstrap")
    said = leader.must_admin("cluster-status", "--wait", "60", "--for", "healthy")
    assert said.startswith("SAFE     a write now survives the loss of 1 of 3 nodes")
    assert storage(leader, wiped.id) != old
    other.kill()
    put(wiped, "its-vote", 2)
    assert rows(wiped) == {f"k{n:02}": n for n in range(ROWS)} | {"meanwhile": 1, "its-vote": 2}


def test_rejoin_beside_the_running_server(cluster: Cluster) -> None:
    leader = cluster.leader()
    one = next(member for member in cluster.members if member is not leader)
    needed = leader.admin("rejoin", "--yes")
    assert needed.code == 9 and "nobody else leads" in needed.err
    old = storage(leader, one.id)
    said = one.must_admin("rejoin", "--yes")
    assert "set aside as" in said and "joins as new" in said
    assert [path.name for path in (one.data / "aside").glob("*/raft")] == ["raft"]
    until(lambda: storage(leader, one.id) != old, "it is another storage")
    leader.must_admin("cluster-status", "--wait", "60", "--for", "healthy")
    assert rows(one) == {f"k{n:02}": n for n in range(ROWS)}


def test_rejoin_right_after_another_voter_went_down(cluster: Cluster) -> None:
    """The leader counted whom it had heard within the last second as up, so rejoin set aside the state of
    the second of two voters that were left, and the cluster had no majority any more."""
    leader = cluster.leader()
    one, other = (member for member in cluster.members if member is not leader)
    leader.must_admin("cluster-status", "--wait", "60", "--for", "healthy")
    other.kill()
    needed = one.admin("rejoin", "--yes")
    assert needed.code == 9 and "does not know a majority" in needed.err, needed
    put(leader, "its-vote", 1)
    assert rows(one) == {f"k{n:02}": n for n in range(ROWS)} | {"its-vote": 1}


def test_two_empty_disks_of_three_begin_no_other_cluster_and_join_the_one_that_is_left(
    cluster: Cluster,
) -> None:
    """Bug: `init-cluster` on one of the empty disks made a second cluster, and every face named that as the
    way out, or none."""
    left, *emptied = cluster.members
    until(lambda: len(left.request("GET", "/kv/t?stale=true").body["rows"]) == ROWS, "it has all rows")
    for member in emptied:
        member.kill()
        shutil.rmtree(member.data)
        member.data.mkdir()
    for member in emptied:
        member.start("--bootstrap")
    one = emptied[0]

    def told() -> str:
        try:
            return str(one.request("GET", "/health").body.get("error"))
        except OSError:
            return ""

    until(lambda: told() == "n1 has a vote, and nobody leads yet", "an empty node names who has a vote")
    down = left.admin("cluster-status")
    assert down.code == 8 and "init-cluster --bootstrap --new-timeline" in down.out, down
    one.stop()
    refused = one.admin("init-cluster", "--bootstrap", "--yes")
    assert refused.code == 9 and "n1 has a vote" in refused.err and "--new-timeline" in refused.err, refused
    one.start("--bootstrap")
    left.stop()
    left.must_admin("init-cluster", "--bootstrap", "--new-timeline", "--yes")
    left.start("--bootstrap")
    until(left.serves, "the one that is left serves")
    left.must_admin("cluster-status", "--wait", "60", "--for", "voters=3")
    until(one.serves, "an emptied one serves")
    assert rows(one) == {f"k{n:02}": n for n in range(ROWS)}


def test_a_fourth_node_and_leadership_go_where_the_operator_says(cluster: Cluster, tmp_path: Path) -> None:
    first, second, third = cluster.members
    fourth = Member("n4", tmp_path)
    fourth.write_config({m.id: m.address for m in (*cluster.members, fourth)}, {})
    try:
        added = first.must_admin("member-add", f"n4={fourth.address}", "--learner")
        assert "has not joined yet" in added and added.splitlines()[-1].startswith("next  start n4")
        assert first.admin("member-add", f"n4={fourth.address}").code == 9
        fourth.start("--bootstrap")
        until(lambda: second.admin("member-promote", "n4").code == 0, "it catches up, and is promoted")
        assert third.must_admin("leader-transfer", "--to", "n4").startswith("n4 leads")
        removed = subprocess.run(
            ["curl", "-sS", "--fail-with-body", "-X", "DELETE", f"{second.admin_url}/admin/members/n4"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert removed.returncode == 0, removed
        until(lambda: "n4 was removed" in str(fourth.request("GET", "/health").body), "it says why")
        cluster.leader()
        put(first, "after", 1)
        put(second, "after", 2)
        assert rows(third) == {f"k{n:02}": n for n in range(ROWS)} | {"after": 2}
        unknown = first.admin("member-remove", "n4")
        assert unknown.code == 10 and "the members are n1, n2, n3" in unknown.err
    finally:
        if fourth.is_running():
            fourth.stop()


def test_a_leader_that_is_told_to_end_hands_over_before_it_ends(cluster: Cluster) -> None:
    """Else the others would wait for an election timeout, at each restart of a leader."""
    leader = cluster.leader()
    rest = [member for member in cluster.members if member is not leader]
    term = leader.request("GET", "/admin/status").body["term"]
    assert leader.stop() == 0
    assert f"no longer leader: term is {term + 1} now" in leader.log.read_text()
    put(rest[0], "behind", 1)
    status = rest[1].request("GET", "/admin/status").body
    assert status["term"] == term + 1 and status["leader"] in {member.id for member in rest}
    assert rows(rest[0]) == {f"k{n:02}": n for n in range(ROWS)} | {"behind": 1}
