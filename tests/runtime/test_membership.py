"""Membership on real nodes: votes bind to storages, replacement, removal, promotion, transfer."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from neumann.config import Config
from neumann.env.clock import RealClock
from neumann.format import message as message_format
from neumann.format import special
from neumann.format.frame import Kind
from neumann.format.ids import Configuration
from neumann.format.ids import Member as Line
from neumann.format.message import Envelope, VoteReply, VoteRequest
from neumann.runtime import operations, views
from neumann.runtime.member import Member
from neumann.runtime.membership import Membership
from tests.runtime.nodes import (
    Running,
    cluster,
    config_of,
    configs_of,
    is_formed,
    keys_of,
    leads,
    one_node,
    start,
    until,
    write_rows,
)


def _leader(running: list[Running]) -> Running:
    return next(one for one in running if leads(one.node))


def _member(one: Running) -> Member:
    assert one.node.member is not None
    return one.node.member


def _follower(running: list[Running]) -> Running:
    return next(one for one in running if one is not _leader(running))


def _verdict(one: Running) -> tuple[str, str]:
    return views.verdict(_member(one), None)


def _storage(one: Running) -> bytes:
    return _member(one).identity.storage_id


def _is_named(one: Running, running: list[Running], role: str = "voter") -> bool:
    """Whether the leader's configuration names this node with the storage it has now, in that role."""
    leading = [other for other in running if leads(other.node)]
    if not leading or one.node.member is None:
        return False
    named = _member(leading[0]).raft.configuration.member(one.node.config.node.id)
    return named is not None and named.role == role and named.storage_id == _storage(one)


async def test_two_storages_of_one_node_id_do_not_get_one_vote_each(tmp_path: Path) -> None:
    """A vote request was believed by its node id alone: a replaced member's old disk got a vote that its
    successor had, in the same term."""
    async with one_node(config_of(tmp_path)) as node:
        assert node.member is not None
        own, raft = node.member.identity, node.member.raft
        request = VoteRequest(raft.term + 5, raft.last.index + 1000, raft.term + 4, False, True)
        answers: list[bytes] = []
        for storage_id in (b"old" + bytes(13), b"new" + bytes(13)):
            envelope = Envelope(own.cluster_id, own.timeline, "n2", storage_id, request)
            node.on_message(message_format.encode(envelope), answers.append)
        await until(lambda: len(answers) == 2, "two answers")
        replies = [message_format.decode(payload).message for payload in answers]
        assert replies == [
            VoteReply(request.term, True, False, b"old" + bytes(13)),
            VoteReply(request.term, False, False, b"new" + bytes(13)),
        ]


async def test_a_voter_that_comes_back_with_an_empty_disk_takes_its_own_place(tmp_path: Path) -> None:
    """It was refused for ever: its node id was a voter's, its storage nobody's."""
    async with cluster(tmp_path) as running:
        leader, lost = _leader(running), _follower(running)
        await write_rows(leader.node, range(50))
        config, old = lost.node.config, _storage(lost)
        running.remove(lost)
        await lost.stop()
        shutil.rmtree(config.node.data_dir)
        raft = _member(leader).raft
        before = raft.configuration_index
        await until(lambda: _verdict(leader)[0] == "DEGRADED", "one is missed")
        assert _verdict(leader)[1] == (
            f"not heard from {config.node.id} lately; a write now survives the loss of 0 of 3 nodes"
        )
        again = await start(config)
        running.append(again)
        await until(lambda: again.node.member is not None, "it has joined")
        named = raft.configuration.member(config.node.id)
        assert named is not None and (named.storage_id, named.role) == (old, "voter"), (
            "not before it caught up"
        )
        await write_rows(leader.node, range(50, 60))
        await until(lambda: _is_named(again, running), "it votes with its new storage")
        assert is_formed(running)
        await until(lambda: _verdict(leader)[0] == "SAFE", "nothing is missed")
        assert _verdict(leader)[1] == "a write now survives the loss of 1 of 3 nodes"
        changes = _configurations(_member(leader), before)
        assert [c.member(config.node.id)[1:] for c in changes if c.member(config.node.id)] == [  # type: ignore[index]
            (_storage(again), config.node.listen, "learner"),
            (_storage(again), config.node.listen, "voter"),
        ]
        other = next(one for one in running if one not in (leader, again))
        running.remove(other)
        await other.stop()
        await until(lambda: any(leads(one.node) for one in running), "its vote is one of a majority")
        await write_rows(_leader(running).node, range(60, 70))
        assert await keys_of(again.node) == [f"{n:05d}" for n in range(70)]


@contextlib.asynccontextmanager
async def _a_disk_lost(tmp_path: Path) -> AsyncIterator[tuple[list[Running], Config]]:
    """Three voters without auto_promote, of which the third is stopped and has no disk any more: the others,
    the leader first, and its settings. Who is added to them is stopped too."""
    configs = [replace(c, raft=replace(c.raft, auto_promote=False)) for c in configs_of(tmp_path, 3)]
    running = [await start(config) for config in configs]
    try:
        leader, other, lost = running
        await until(lambda: all(one.node.member for one in running) and leads(leader.node), "all are members")
        for node_id in (other.node.config.node.id, lost.node.config.node.id):
            await until(partial(_member(leader).membership.has_caught_up, node_id), "it has all")
            await leader.node.member_promote(node_id)
        running.remove(lost)
        await lost.stop()
        shutil.rmtree(lost.node.config.node.data_dir)
        yield running, lost.node.config
    finally:
        for one in running:
            await one.stop()


async def test_a_successor_that_is_silent_for_a_moment_votes_again_without_an_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it was not heard just as its first entry was committed, the second one never came: without
    auto_promote the voter whose disk was lost stayed a learner."""
    async with _a_disk_lost(tmp_path) as (running, lost):
        member, silent = _member(running[0]), [True]
        has_caught_up = member.membership.has_caught_up

        def first_not(node_id: str) -> bool:
            is_learner = node_id in member.raft.configuration.learners
            return not (is_learner and silent and silent.pop()) and has_caught_up(node_id)

        monkeypatch.setattr(member.membership, "has_caught_up", first_not)
        again = await start(lost)
        running.append(again)
        await until(lambda: _is_named(again, running), "it votes with its new storage")
        assert not silent


async def test_whoever_leads_gives_a_replaced_voter_its_vote_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was being replaced was the memory of one leader: after a change of leader between the two entries
    the second one never came without auto_promote, and the cluster was left with a voter less."""
    async with _a_disk_lost(tmp_path) as (running, lost):
        leader, other = running
        monkeypatch.setattr(_member(leader).membership, "_finish_replacement", lambda: False)
        again = await start(lost)
        running.append(again)
        await until(lambda: _is_named(again, running, "learner"), "the first entry")
        await leader.node.leader_transfer(other.node.config.node.id)
        await until(lambda: _is_named(again, running), "it votes with its new storage")
        assert leads(other.node) and not _member(other).raft.configuration.replaced


def test_a_second_replacement_does_not_end_the_first(tmp_path: Path) -> None:
    """Only the last one that began was remembered; the one before, not heard just then, stayed a learner."""
    names = ("n1", "n2", "n3")
    members = tuple(Line(name, name.encode() * 8, f"{name}:1", "voter") for name in names)
    raft = SimpleNamespace(
        node_id="n1", configuration=Configuration(members), configuration_pending=False, commit_index=0
    )
    proposed: list[Configuration] = []
    config = config_of(tmp_path)
    membership = Membership(
        replace(config, raft=replace(config.raft, auto_promote=False)),
        RealClock(),
        cast(Any, raft),
        cast(Any, SimpleNamespace(began=lambda: None, successors={}, is_silent=lambda _: True)),
        cast(Any, SimpleNamespace(propose_now=proposed.append)),
    )
    heard: set[str] = set()
    membership.has_caught_up = heard.__contains__  # type: ignore[method-assign]
    for name in ("n2", "n3"):
        raft.configuration = raft.configuration.replacing(name, b"new" + bytes(13))
    for name in ("n3", "n2"):
        heard.add(name)
        membership.look()
        raft.configuration = proposed[-1]
    assert [c.voters for c in proposed] == [("n1", "n3"), names] and raft.configuration.replaced == ()
    heard.clear()
    membership.look()
    assert len(proposed) == 2
    assert raft.configuration.replacing("n2", b"x" * 16).without("n2").replaced == ()


async def test_not_before_the_old_storage_has_been_silent_for_ten_election_timeouts(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        leader, lost = _leader(running), _follower(running)
        own = lost.node.config.node
        announced = await leader.node.call("announce", [own.id, b"n" * 16, own.listen])
        assert not announced["accepted"] and "silent" in announced["text"]
        elsewhere = await leader.node.call("announce", [own.id, b"n" * 16, "127.0.0.1:1"])
        assert not elsewhere["accepted"] and own.listen in elsewhere["text"]


async def test_a_disk_that_comes_back_while_its_successor_catches_up_is_the_voter_still(
    tmp_path: Path,
) -> None:
    """The newcomer must not cost the cluster what the old disk has before it is as good as that."""
    async with cluster(tmp_path) as running:
        leader, lost = _leader(running), _follower(running)
        config, old = lost.node.config, _storage(lost)
        running.remove(lost)
        await lost.stop()
        kept = tmp_path / "kept"
        shutil.move(config.node.data_dir, kept)
        membership = _member(leader).membership
        membership._caught_up = lambda *_: False  # type: ignore[method-assign]  # for as long as we need
        again = await start(config)
        await until(lambda: again.node.member is not None, "it has joined")
        await until(lambda: config.node.id in _member(leader).peers.successors, "it is served")
        await asyncio.sleep(0.3)
        named = _member(leader).raft.configuration.member(config.node.id)
        assert named is not None and (named.storage_id, named.role) == (old, "voter"), "it has not caught up"
        await again.stop()
        shutil.rmtree(config.node.data_dir)
        shutil.move(kept, config.node.data_dir)
        del membership._caught_up
        back = await start(config)
        running.append(back)
        await until(lambda: _is_named(back, running), "the old disk votes")
        assert _storage(back) == old
        await until(lambda: config.node.id not in _member(leader).peers.successors, "no successor any more")
        await asyncio.sleep(0.3)
        assert _is_named(back, running)


def _configurations(member: Member, after: int) -> list[Configuration]:
    """Those in the log behind this index."""
    found = []
    for frame in member.wal.read_frames(after, member.raft.last.index):
        if frame.header.kind is Kind.CONFIGURATION:
            entry = special.decode(frame)
            assert isinstance(entry, Configuration)
            found.append(entry)
    return found


async def test_who_joined_behind_a_snapshot_is_not_told_to_have_it(tmp_path: Path) -> None:
    """Bug: whoever reported a newer snapshot counted as a holder of the one that was asked for, so the
    answer to POST /admin/snapshot named a node that had come with an empty disk and joined behind it."""
    async with cluster(tmp_path) as running:
        leader, lost = _leader(running), _follower(running)
        await write_rows(leader.node, range(20))
        made = await leader.node.snapshot()
        config = lost.node.config
        running.remove(lost)
        await lost.stop()
        shutil.rmtree(config.node.data_dir)
        await write_rows(leader.node, range(20, 40))
        newer = await leader.node.snapshot()
        running.append(await start(config))
        await until(lambda: _is_named(running[-1], running), "it is a voter again")
        member, digest = _member(leader), bytes.fromhex(made["digest"])

        def newest(node_id: str) -> int:
            state = member.peers.states.get(node_id)
            return state.status.snapshot_index if state is not None else 0

        others = {one.node.config.node.id for one in running} - {leader.node.config.node.id}
        await until(lambda: min(map(newest, others)) >= newer["index"], "all have told of a newer one")
        held: dict[str, bool] = {}
        await operations.look_for_holders(member, made["index"], made["id"], digest, held)
        assert held == {node_id: node_id != config.node.id for node_id in others}
