"""Client sessions on real nodes: what a restart and a joiner know of them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from neumann.format.command import encode_open, with_session
from neumann.format.ids import VOTER
from neumann.machine.outcome import Outcome
from neumann.runtime.node import Node
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
