"""Every request is answered: also where leadership or the node ends while it waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

import neumann
from neumann.errors import NeumannError, OutcomeUnknown, StorageFailed, Unavailable
from neumann.format.command import row_key
from neumann.runtime.sinks import FutureSink, Version
from tests.runtime.nodes import (
    cluster,
    config_of,
    configs_of,
    leads,
    one_node,
    put,
    start,
    unhandled_errors,
    until,
)

ROW = row_key("t", "a")


async def test_a_node_that_has_failed_answers(tmp_path: Path) -> None:
    """What came after the failure was queued for a leader that would never propose again."""
    async with one_node(config_of(tmp_path)) as node:
        member = node.member
        assert member is not None
        member.fail(StorageFailed("the disk is gone"))
        write, read = FutureSink(), FutureSink()
        node.submit_writes(write, (0,), (put("a"),))
        node.submit_gets(read, (0,), (ROW,), stale=False)
        async with asyncio.timeout(5):
            for waiting in (write.future, read.future):
                with pytest.raises(Unavailable, match="the disk is gone"):
                    await waiting


class _Counting:
    """A sink that counts answers by their word."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()

    def wrote(self, ids: Sequence[int], first_index: int, outcomes: Sequence[int] | None) -> None:
        self.answers["ok"] += len(ids)

    def got(self, ids: Sequence[int], rows: Sequence[Version | None]) -> None:
        self.answers["ok"] += len(ids)

    def failed(self, ids: Sequence[int], error: NeumannError) -> None:
        self.answers[error.code] += len(ids)

    def flush(self) -> None:
        """Nothing is collected."""


async def test_what_waits_to_be_forwarded_is_bounded(tmp_path: Path) -> None:
    """A node that does not lead took any number of requests, a task each, and held them for seconds."""
    first, second = configs_of(tmp_path, 2)
    second = replace(second, raft=replace(second.raft, proposal_bytes_max=1_000_000))
    leading, following = await start(first), await start(second)
    try:
        await until(lambda: following.node.member is not None, "n2 has joined")
        await leading.stop()
        member = following.node.member
        assert member is not None
        await until(lambda: not member.raft.leader, "n2 knows that nobody leads")
        sink = _Counting()
        count = 10_000
        following.node.submit_writes(sink, range(count), [put("a")] * count)
        half = count // 2  # as many wait as fit, and one run of any size
        for _ in range(2):
            following.node.submit_gets(sink, range(half), [ROW] * half, stale=False)
        assert sink.answers["back_pressure"] > count
        await until(lambda: sink.answers.total() == 2 * count, "all are answered")
        assert sink.answers["unavailable"] + sink.answers["back_pressure"] == 2 * count
    finally:
        await following.stop()


async def test_a_leader_that_is_about_to_stop_hands_over_and_still_answers(tmp_path: Path) -> None:
    """The program closed all connections first, so every write under way at a planned stop was unknown to
    its client."""
    async with cluster(tmp_path) as running:
        old = next(one for one in running if leads(one.node))
        async with neumann.connect(old.node.config.node.listen) as db:
            await db.put("t", "a", 1)
            await old.node.hand_over()
            assert not leads(old.node)
            await until(lambda: any(leads(one.node) for one in running if one is not old), "another leads")
            assert (await old.node.write(put("b")))[0] > 0
            await db.put("t", "c", 1)


async def test_a_member_that_carried_a_ready_out_in_part_ends(tmp_path: Path) -> None:
    """An error on the way from the core to the log was only logged: the core took for durable what had never
    reached the log. The program watches its callbacks; an embedded node has nobody who does."""
    async with one_node(config_of(tmp_path)) as node:
        member = node.member
        assert member is not None
        with unhandled_errors() as told, patch.object(member.wal, "stage", side_effect=AssertionError("no")):
            async with asyncio.timeout(5.0):
                with pytest.raises(OutcomeUnknown):
                    await node.write(put("a"))
        assert [str(one["exception"]) for one in told] == ["no"]
        with pytest.raises(Unavailable, match="the node stops: no"):
            await node.write(put("b"))
        assert node.failed.done()


@pytest.mark.parametrize("given", ["tick", "persisted"])
async def test_a_member_whose_core_did_not_bear_what_it_was_given_ends(tmp_path: Path, given: str) -> None:
    """The same of what no peer sends: a tick, and what is durable."""
    async with one_node(config_of(tmp_path)) as node:
        member = node.member
        assert member is not None
        with unhandled_errors() as told, patch.object(member.raft, given, side_effect=AssertionError("no")):
            async with asyncio.timeout(5.0):
                await asyncio.gather(node.write(put("a")), return_exceptions=True)
                await asyncio.shield(node.failed)
        assert {str(one["exception"]) for one in told} == {"no"}


async def test_a_member_that_framed_in_part_ends(tmp_path: Path) -> None:
    """An error while writes were framed was only logged in an embedded node: who wrote waited for ever."""
    async with one_node(config_of(tmp_path)) as node:
        member = node.member
        assert member is not None
        with (
            unhandled_errors() as told,
            patch.object(member.raft, "propose", side_effect=AssertionError("no")),
        ):
            async with asyncio.timeout(5.0):
                with pytest.raises((OutcomeUnknown, Unavailable)):
                    await node.write(put("a"))
        assert [str(one["exception"]) for one in told] == ["no"]
        assert node.failed.done()


async def test_a_member_that_began_a_round_of_reads_in_part_ends(tmp_path: Path) -> None:
    """An error while a round of reads began was only logged in an embedded node: readers waited for ever."""
    async with one_node(config_of(tmp_path)) as node:
        member = node.member
        assert member is not None
        refused = patch.object(member.raft, "read_index", side_effect=AssertionError("no"))
        with unhandled_errors() as told, refused:
            async with asyncio.timeout(5.0):
                with pytest.raises(Unavailable):
                    await node.barrier()
        assert [str(one["exception"]) for one in told] == ["no"]
        assert node.failed.done()
