"""member-add, member-promote, member-remove, leader-transfer: on any node, with what each refuses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from neumann.errors import BadInput, NotFound, NotLeader, OutcomeUnknown, RefusedByState, Unavailable
from neumann.runtime import member_operations, views
from neumann.runtime.node import FORWARDED_WRITE
from neumann.runtime.sinks import FutureSink
from tests.ports import free_ports
from tests.runtime.nodes import (
    Running,
    cluster,
    config_of,
    keys_of,
    leads,
    one_node,
    put,
    start,
    until,
    write_rows,
)


def _leader(running: list[Running]) -> Running:
    return next(one for one in running if leads(one.node))


def _followers(running: list[Running]) -> list[Running]:
    return [one for one in running if not leads(one.node)]


def _id(one: Running) -> str:
    return one.node.config.node.id


async def _caught_up(running: list[Running], node_id: str) -> None:
    """Until the leader says so."""

    def holds() -> bool:
        member = _leader(running).node.member
        return member is not None and member.membership.has_caught_up(node_id)

    await until(holds, f"{node_id} has caught up")


def _heard(one: Running) -> set[str]:
    assert one.node.member is not None
    return views.heard_lately(one.node.member)


async def _roles(one: Running) -> dict[str, str]:
    return {line["node_id"]: line["role"] for line in (await one.node.members())["members"]}


async def test_a_fourth_node_is_added_stays_learner_is_promoted_and_removed(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        asked = _followers(running)[0].node
        await write_rows(asked, range(20))
        (port,) = free_ports(1)
        address = f"127.0.0.1:{port}"
        said = await asked.member_add("n4", address, learner=True)
        line = next(line for line in said["members"] if line["node_id"] == "n4")
        assert (line["role"], line["joined"], said["voters_wanted"]) == ("learner", False, 3)
        with pytest.raises(RefusedByState, match="not joined"):
            await asked.member_promote("n4")
        with pytest.raises(RefusedByState, match="n4 is a learner already"):
            await asked.member_add("n4", address)
        with pytest.raises(RefusedByState, match="address of n4"):
            await asked.member_add("n5", address)
        config = config_of(tmp_path, "n4", {**asked.config.node.peers, "n4": address})
        running.append(await start(config))
        await until(lambda: running[-1].node.member is not None, "it has joined")
        await until(lambda: running[-1].node.applied_index > 0, "it applies")
        await _caught_up(running, "n4")
        assert (await _roles(running[0]))["n4"] == "learner", "it is held"
        said = await running[-1].node.member_promote("n4")
        assert sum(line["role"] in ("leader", "voter") for line in said["members"]) == 4
        with pytest.raises(RefusedByState, match="voter already"):
            await asked.member_promote("n4")
        said = await asked.member_remove("n4")
        assert list(said["removed"]) == ["n4"] and "n4" not in await _roles(running[0])
        await until(
            lambda: "n4 was removed" in running[-1].node.serving()[1], "it says why it does not serve"
        )
        with pytest.raises(Unavailable, match="n4 was removed"):
            await running[-1].node.write(put("x"))
        await write_rows(asked, range(20, 30))
        await asked.member_add("n4", address)
        await until(lambda: running[-1].node.serving()[0], "taken in again, with the disk that it has")
        assert await keys_of(running[-1].node) == [f"{n:05d}" for n in range(30)]


async def test_a_leader_that_is_removed_hands_over_and_says_why_it_does_not_serve(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        leader = _leader(running)
        rest = _followers(running)
        said = await rest[0].node.member_remove(_id(leader))
        assert list(said["removed"]) == [_id(leader)]
        await until(lambda: any(leads(one.node) for one in rest), "another leads")
        await until(lambda: "was removed" in leader.node.serving()[1], "it says why")
        assert set(await _roles(rest[1])) == {_id(one) for one in rest}
        await write_rows(rest[0].node, range(5))
        term = rest[0].node.member.raft.term  # type: ignore[union-attr]
        own = leader.node.config.node
        announced = await _leader(rest).node.call("announce", [own.id, b"n" * 16, own.listen])
        assert not announced["accepted"] and "removed" in announced["text"], "it is remembered"
        assert rest[0].node.member.raft.term == term  # type: ignore[union-attr]


async def test_leadership_goes_where_it_is_asked_to_go(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        for heir in _followers(running):
            said = await heir.node.leader_transfer(_id(heir))
            assert said["leader"] == _id(heir)
            await until(lambda heir=heir: leads(heir.node), "it leads")  # type: ignore[misc]
        assert (await heir.node.leader_transfer(_id(heir)))["leader"] == _id(heir)


async def test_a_transfer_that_another_node_wins_is_asked_of_that_one(tmp_path: Path) -> None:
    """The leader that had stepped down waited for the wanted one until the request's time was over, though
    it followed another one by then."""
    async with cluster(tmp_path) as running:
        wanted, winner = _followers(running)
        member = _leader(running).node.member
        assert member is not None
        transfer_to = member.raft.transfer_to
        with patch.object(member.raft, "transfer_to", lambda _: transfer_to(_id(winner))):
            async with asyncio.timeout(10.0):
                said = await wanted.node.leader_transfer(_id(wanted), timeout_s=60.0)
        assert said["leader"] == _id(wanted)


async def test_a_transfer_that_was_not_seen_to_end_is_unknown(tmp_path: Path) -> None:
    """It was told to be not done, while the wanted node was being elected."""
    async with cluster(tmp_path) as running:
        leader, (wanted, _) = _leader(running), _followers(running)
        assert leader.node.member is not None
        with pytest.raises(OutcomeUnknown, match=_id(wanted)):
            await member_operations.transfer(leader.node.member, _id(wanted), 0.0)
        await until(lambda: leads(wanted.node), "it takes over")


async def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path)) as node:
        before = await node.members()
        with pytest.raises(RefusedByState, match="only voter"):
            await node.member_remove("n1")
        for unknown in (node.member_remove("n9"), node.member_promote("n9"), node.leader_transfer("n9")):
            with pytest.raises(NotFound, match="n9 is no member; the members are n1"):
                await unknown
        for bad in (node.member_add("n/2", "h:1"), node.member_add("n2", "nowhere")):
            with pytest.raises(BadInput):
                await bad
        after = await node.members()
        assert (after["index"], len(after["members"])) == (before["index"], 1)


async def test_one_change_at_a_time(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        leader = _leader(running)
        assert leader.node.member is not None
        for one in _followers(running):
            running.remove(one)
            await one.stop()
        raft = leader.node.member.raft
        configuration = raft.configuration
        leader.node.member.proposer.propose_now(configuration)
        with pytest.raises(Unavailable, match="another change"):
            await leader.node.call("admin.member_add", [{"id": "n9", "address": "127.0.0.1:9"}])


async def test_a_removal_that_would_leave_no_majority_is_refused(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        leader = _leader(running)
        lost, left = _followers(running)
        running.remove(lost)
        await lost.stop()
        await until(lambda: _id(lost) not in _heard(leader), "it is silent")
        with pytest.raises(RefusedByState, match="only 1 of 2 voters"):
            await left.node.member_remove(_id(left))
        said = await left.node.member_remove(_id(lost))
        assert list(said["removed"]) == [_id(lost)]


async def test_without_auto_promote_a_learner_waits_for_the_operator(tmp_path: Path) -> None:
    (first, second) = free_ports(2)
    peers = {"n1": f"127.0.0.1:{first}", "n2": f"127.0.0.1:{second}"}
    configs = [config_of(tmp_path, node_id, peers) for node_id in peers]
    configs = [replace(c, raft=replace(c.raft, auto_promote=False)) for c in configs]
    running = [await start(config) for config in configs]
    try:
        await until(lambda: running[1].node.member is not None and leads(running[0].node), "both are members")
        await _caught_up(running, "n2")
        assert (await _roles(running[1]))["n2"] == "learner"
        said = await running[1].node.member_promote("n2")
        assert [line["role"] for line in said["members"]] == ["leader", "voter"]
    finally:
        for one in running:
            await one.stop()


async def test_a_forwarded_write_is_never_sent_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes that each took the other for the leader passed a request to and fro until its time ended."""
    params = [put("k")]
    async with cluster(tmp_path) as running:
        one, other = _followers(running)
        with pytest.raises(NotLeader):
            await one.node.env.net.call(other.node.config.node.listen, FORWARDED_WRITE, params, 5.0)

        async def never(*_: object) -> None:
            raise AssertionError("sent on")

        monkeypatch.setattr(other.node.env.net, "call", never)
        sink = FutureSink()
        other.node.submit_forwarded(sink, 0, params)
        with pytest.raises(NotLeader):
            await sink.future
        monkeypatch.undo()
        await one.node.write(put("k", 7))
        assert await other.node.get("t", "k") is not None
