"""rejoin: which state a node may give up, and what becomes of the node."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from neumann.errors import BadInput, RefusedByState
from neumann.runtime import leaving
from neumann.runtime.peers import SILENT_TIMEOUTS
from neumann.runtime.rejoin import refusal, whom_to_ask
from neumann.runtime.startup import Answer, Found
from tests.runtime.nodes import (
    Running,
    cluster,
    config_of,
    keys_of,
    leads,
    one_node,
    start,
    until,
    write_rows,
)
from tests.runtime.test_startup import ALL, NEW, OLD, leader

FOUND = Found(vote=True, history=OLD)
SOLE = FOUND._replace(sole_voter=True)


def allowed(found: Found, *answers: Answer, is_stopped: bool = False) -> bool:
    return refusal(found, "n1", {a.node_id: a for a in answers}, is_stopped=is_stopped) is None


def test_a_state_that_the_leader_can_spare_may_go() -> None:
    assert allowed(FOUND, leader()._replace(spares=frozenset({"n1", "n3"})))
    removed = leader()._replace(members=frozenset({"n2", "n3"}), members_index=7)
    assert allowed(FOUND, removed), "it was removed"


def test_a_learner_that_just_joined_does_not_say_who_was_removed() -> None:
    """A new learner knows the configuration that the cluster began with, and one of the two voters gave its
    state up because it was not in there: nobody could be elected any more (seed 100008 at the time)."""
    voters = frozenset({"n1", "n2", "n3"})
    learner = Answer(
        "n3", vote=True, history=OLD, leader="n2", leader_address="h:2", members=frozenset({"n2"})
    )
    needed = leader()._replace(members=voters, members_index=9)
    found = FOUND._replace(members_index=9)
    assert not allowed(found, learner)
    assert not allowed(found, learner, needed)
    assert not allowed(found, learner._replace(members_index=5))
    assert not allowed(found._replace(members_index=0), learner, is_stopped=True)


def test_a_state_that_the_leader_needs_stays() -> None:
    needed = leader()._replace(members=ALL, spares=frozenset({"n3"}))
    refused = refusal(FOUND, "n1", {"n2": needed}, is_stopped=True)
    assert refused is not None and refused.exit_code == 9
    assert "n2 leads" in refused.message and refused.remedy


@pytest.mark.parametrize("found", [FOUND, SOLE])
def test_a_state_of_which_another_history_is_served_may_go(found: Found) -> None:
    assert allowed(found, leader(history=NEW))


def test_where_nobody_else_leads_it_stays() -> None:
    voting = Answer("n2", vote=True, history=OLD, peers=ALL)
    assert not allowed(FOUND, voting)
    assert not allowed(FOUND, voting, is_stopped=True), "it may vote with this node"
    assert not allowed(FOUND)
    assert not allowed(FOUND, voting._replace(leader="n1", leader_address="h:1"))


def test_only_a_stopped_node_of_a_cluster_that_is_stopped_goes_aside_unasked() -> None:
    assert allowed(FOUND, is_stopped=True)
    assert not allowed(SOLE, is_stopped=True), "the only voter's state is the cluster"


def test_the_leader_of_the_own_history_is_asked_again() -> None:
    spares, needs = leader("n2")._replace(spares=frozenset({"n1"})), leader("n3")
    assert whom_to_ask(FOUND, "n1", {"n2": needs, "n3": spares}) is spares
    assert whom_to_ask(FOUND, "n1", {"n3": needs}) is needs, "it may have been removed"
    assert whom_to_ask(FOUND, "n1", {"n2": spares, "n3": leader(history=NEW)}) is None
    assert whom_to_ask(FOUND._replace(vote=False), "n1", {"n2": spares}) is None, "it has no vote to lose"
    assert whom_to_ask(FOUND, "n1", {}) is None


def _leader(running: list[Running]) -> Running:
    return next(one for one in running if leads(one.node))


async def test_a_running_follower_gives_its_state_up_and_votes_again_with_a_new_storage(
    tmp_path: Path,
) -> None:
    """The new state must have a storage id of its own: the process had drawn one for its first join."""
    async with cluster(tmp_path) as running:
        leading = _leader(running)
        one = next(other for other in running if other is not leading)
        await write_rows(leading.node, range(20))
        member = leading.node.member
        assert member is not None and one.node.member is not None
        old = one.node.member.identity.storage_id
        node_id = one.node.config.node.id
        await until(lambda: node_id in member.membership.spares(), "it can be spared")
        with pytest.raises(BadInput, match="data directory of this node"):
            await one.node.rejoin(str(tmp_path / "another"))
        said = await one.node.rejoin(str(tmp_path / node_id))
        assert (Path(said["path"]) / "raft" / "vote").exists()

        def votes_again() -> bool:
            named = member.raft.configuration.member(node_id)
            assert named is not None
            again = one.node.member
            return (
                again is not None and named.role == "voter" and named.storage_id == again.identity.storage_id
            )

        await until(votes_again, "it votes again")
        assert one.node.member is not None and one.node.member.identity.storage_id != old
        assert await keys_of(one.node) == [f"{n:05d}" for n in range(20)]


async def test_who_may_give_its_state_up_next_is_not_made_a_voter(tmp_path: Path) -> None:
    """A learner that the cluster could spare was promoted as it gave its state up: of two voters one was
    gone, and nobody could be elected any more (seed 200066 of the simulation at the time)."""
    async with cluster(tmp_path) as running:
        leading = _leader(running)
        one = next(other for other in running if other is not leading)
        config = one.node.config
        running.remove(one)
        await one.stop()
        shutil.rmtree(config.node.data_dir)
        running.append(again := await start(config))
        await until(lambda: again.node.member is not None, "it has joined")
        own = again.node.paths
        going = leaving.of_disk(again.node.env.disk, own, config.node.id)
        said = await leading.node.call("leave", [*going])
        assert said == {"text": ""}
        assert leading.node.member is not None
        raft = leading.node.member.raft

        def votes() -> bool:
            named = raft.configuration.member(config.node.id)
            return named is not None and (named.role, named.storage_id) == ("voter", going.storage_id)

        silence_s = SILENT_TIMEOUTS * config.raft.election_timeout_ms / 1000
        await asyncio.sleep(2 * silence_s)
        assert not votes() and again.node.member is not None
        running.remove(again)
        await again.stop()
        running.append(await start(config))
        await until(votes, "it votes: it did not go")


async def test_who_asks_and_goes_away_leaves_no_node_without_a_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who embeds a node gives a rejoin so much time and no more: ended on its way, it had closed the member,
    and nothing opened it, or joined, any more."""
    async with cluster(tmp_path) as running:
        leading = _leader(running)
        one = next(other for other in running if other is not leading)
        old, member = one.node.member, leading.node.member
        assert old is not None and member is not None
        await until(lambda: one.node.config.node.id in member.membership.spares(), "it can be spared")
        closing, closed = asyncio.Event(), asyncio.Event()
        stop = old.stop

        async def stop_late() -> None:
            closing.set()
            await closed.wait()
            await stop()

        monkeypatch.setattr(old, "stop", stop_late)
        asked = asyncio.create_task(one.node.rejoin())
        await closing.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        closed.set()
        await until(lambda: one.node.member not in (None, old), "it is a member again")
        assert one.node.member is not None
        assert one.node.member.identity.storage_id != old.identity.storage_id, "it went on"


async def test_the_last_copy_stays(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path)) as node:
        with pytest.raises(RefusedByState, match="only voter"):
            await node.rejoin()
        assert leads(node)


async def test_a_leader_and_a_needed_voter_stay(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        leading = _leader(running)
        with pytest.raises(RefusedByState, match="nobody else leads"):
            await leading.node.rejoin()
        lost, one = (other for other in running if other is not leading)
        running.remove(lost)
        await lost.stop()
        member = leading.node.member
        assert member is not None
        await until(lambda: one.node.config.node.id not in member.membership.spares(), "it is needed")
        with pytest.raises(RefusedByState, match="does not know a majority"):
            await one.node.rejoin()
        await write_rows(one.node, range(3))
