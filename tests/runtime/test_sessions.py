"""Client sessions on real nodes: what a restart and a joiner know of them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from neumann.errors import BackPressure, DiskFull, NeumannError, Paused
from neumann.format.command import ABSENT, encode_open, encode_put, pack_value, with_session
from neumann.format.ids import VOTER
from neumann.machine.outcome import Outcome
from neumann.runtime.node import Node
from neumann.runtime.sinks import FutureSink
from tests.runtime.nodes import (
    config_of,
    configs_of,
    is_formed,
    leads,
    one_node,
    put,
    start,
    until,
    write_rows,
)


async def test_a_restart_knows_what_was_answered(tmp_path: Path) -> None:
    """From the snapshot's manifest, and from the log behind it."""
    config = config_of(tmp_path)
    async with one_node(config) as node:
        session, _ = await node.write(encode_open())
        before = await node.write(with_session(put("a"), session, 1))
        await node.snapshot()
        behind = await node.write(with_session(put("b"), session, 2))
    async with one_node(config) as node:
        assert await node.write(with_session(put("b"), session, 2)) == behind
        assert await node.write(with_session(put("a"), session, 1)) == before
        assert (await node.write(with_session(put("c"), session, 3)))[1] == Outcome.APPLIED
        row = await node.get("t", "a")
        assert row is not None and row[1] == before[0]


async def test_a_joiner_takes_the_sessions_over_and_answers_alike_when_it_leads(tmp_path: Path) -> None:
    running = [await start(config) for config in configs_of(tmp_path, 3)]
    try:
        await until(lambda: is_formed(running), "three voters")
        leading = next(one.node for one in running if leads(one.node))
        place = next(i for i, one in enumerate(running) if not leads(one.node))
        config = running[place].node.config
        await running[place].stop()
        shutil.rmtree(config.node.data_dir)
        session, _ = await leading.write(encode_open())
        told = await leading.write(with_session(put("a"), session, 1))
        await write_rows(leading, range(50))
        made = await leading.snapshot()
        running[place] = await start(config)
        joiner = running[place].node
        await until(lambda: snapshot_index(joiner) >= made["index"], "it has the snapshot")
        assert joiner.member is not None and joiner.member.manifest.sessions
        await until(lambda: votes(joiner, leading), "it votes in its own place")
        await leading.leader_transfer(config.node.id)
        await until(lambda: leads(joiner), "the joiner leads")
        assert await joiner.write(with_session(put("a"), session, 1)) == told
    finally:
        await asyncio.gather(*(one.stop() for one in running))


def snapshot_index(node: Node) -> int:
    """Of its newest snapshot."""
    return node.member.manifest.point.index if node.member is not None else 0


def votes(node: Node, leading: Node) -> bool:
    """Whether it is a voter with the disk that it has now, and as far as the leader."""
    if node.member is None or leading.member is None:
        return False
    own = node.member.identity
    known = leading.member.raft.configuration.member(own.node_id)
    is_voter = known is not None and (known.storage_id, known.role) == (own.storage_id, VOTER)
    return is_voter and node.applied_index == leading.applied_index


async def test_a_retry_that_meets_a_pause_a_full_disk_or_back_pressure_is_answered(tmp_path: Path) -> None:
    """A client that had not heard its answer asked again and was told "paused", or "full": it took a write
    that was applied for one that was not done."""
    async with one_node(config_of(tmp_path)) as node:
        member = node.member
        assert member is not None
        session, _ = await node.write(encode_open())
        raw = with_session(put("a"), session, 1)
        told = await node.write(raw)
        failed = await node.write(with_session(encode_put("t", "a", pack_value(2), (ABSENT,)), session, 2))
        new = with_session(put("b"), session, 3)

        async def is_answered(refusal: type[NeumannError]) -> None:
            assert await node.write(raw) == told
            repeated = with_session(encode_put("t", "a", pack_value(2), (ABSENT,)), session, 2)
            assert await node.write(repeated) == failed and failed[1] == Outcome.CONDITION_FAILED
            for other in (new, put("b")):
                with pytest.raises(refusal):
                    await node.write(other)

        await node.pause_writes(max_s=60)
        await is_answered(Paused)
        await node.resume_writes()
        member.space.stop()
        member.space.refusal = DiskFull("no room")
        await is_answered(DiskFull)
        member.space.refusal = None
        member.proposer._unanswered_bytes_max = 1
        member.proposer._unanswered_bytes += 1
        await is_answered(BackPressure)
        member.proposer._unanswered_bytes -= 1
        assert (await node.write(new))[1] == Outcome.APPLIED
        row = await node.get("t", "a")
        assert row is not None and row[1] == told[0]


async def test_several_at_once_are_answered_each_in_its_way(tmp_path: Path) -> None:
    async with one_node(config_of(tmp_path)) as node:
        session, _ = await node.write(encode_open())
        first = await node.write(with_session(put("a"), session, 1))
        await node.pause_writes(max_s=60)
        sink = _Answers()
        node.submit_writes(sink, (7, 8, 9), (put("x"), with_session(put("a"), session, 1), b"\x90"))
        await until(lambda: len(sink.told) == 3, "all are answered")
        assert sink.told[8] == first and isinstance(sink.told[7], Paused) and isinstance(sink.told[9], Paused)


class _Answers(FutureSink):
    """By call id."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[int, object] = {}

    def wrote(self, ids: Sequence[int], first_index: int, outcomes: Sequence[int] | None) -> None:
        for place, call_id in enumerate(ids):
            self.told[call_id] = (first_index + place, outcomes[place] if outcomes else 0)

    def failed(self, ids: Sequence[int], error: NeumannError) -> None:
        self.told |= dict.fromkeys(ids, error)
