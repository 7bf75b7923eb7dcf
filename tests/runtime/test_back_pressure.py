"""[raft] proposal_bytes_max: what waits for its answer is bounded, and who is above it hears so at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from neumann.config import Config
from neumann.errors import BackPressure
from neumann.format.command import row_key
from neumann.runtime.applier import Applier
from neumann.runtime.node import Node
from neumann.runtime.sinks import FutureSink
from neumann.store.store import COLD
from tests.runtime.nodes import cluster, config_of, leads, one_node, put, until

LIMIT = 20_000


class Stalled:
    """Applies nothing while it is on: what is committed is not answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_on = False
        run = Applier._run

        def stop_or_run(applier: Applier) -> None:
            if not self.is_on:
                run(applier)

        monkeypatch.setattr(Applier, "_run", stop_or_run)

    def end(self, node: Node) -> None:
        """Go on."""
        self.is_on = False
        assert node.member is not None
        node.member.applier.wake()


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stalled]:
    yield Stalled(monkeypatch)


def limited(config: Config) -> Config:
    return replace(config, raft=replace(config.raft, proposal_bytes_max=LIMIT))


def send(node: Node, count: int, size: int = 100) -> list[asyncio.Future[object]]:
    """Writes as they come from connections."""
    sinks = [FutureSink() for _ in range(count)]
    for number, sink in enumerate(sinks):
        node.submit_writes(sink, (0,), (put(f"{number:05d}", "x" * size),))
    return [sink.future for sink in sinks]


async def refused_of(waiting: list[asyncio.Future[object]]) -> int:
    """How many were refused by now; all for the one reason."""
    errors = [one.exception() for one in waiting if one.done()]
    assert all(isinstance(error, BackPressure) for error in errors)
    return len(errors)


async def test_what_is_committed_and_not_applied_counts(tmp_path: Path, stalled: Stalled) -> None:
    """Only what queued was counted: with a slow apply a leader framed and held any number of writes."""
    async with one_node(limited(config_of(tmp_path))) as node:
        stalled.is_on = True
        waiting: list[asyncio.Future[object]] = []
        for _ in range(40):
            waiting += send(node, 5)
            await asyncio.sleep(0.005)
        assert node.member is not None
        assert len(node.member.proposer.waiting) > 1, "some are framed"
        refused = await refused_of(waiting)
        assert 100 < refused < 190
        stalled.end(node)
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert sum(isinstance(end, tuple) for end in ended) == 200 - refused
        assert all(isinstance(end, tuple) for end in await asyncio.gather(*send(node, 20))), "there is room"
        assert node.member.proposer._unanswered_bytes == 0


async def test_a_single_write_above_the_limit_is_taken(tmp_path: Path) -> None:
    """Else its client would be told to try again for ever."""
    async with one_node(limited(config_of(tmp_path))) as node:
        [written] = send(node, 1, size=10 * LIMIT)
        await written


async def test_a_single_read_above_the_limit_is_taken(tmp_path: Path) -> None:
    """A read of so many rows was told to wait for answers where nothing else waited: refused for ever."""
    async with one_node(limited(config_of(tmp_path))) as node:
        sink = FutureSink()
        node.submit_gets(sink, range(LIMIT), [row_key("t", "a")] * LIMIT, stale=False)
        assert await sink.future is None and node.member is not None
        assert node.member.reader._waiting_bytes == 0


async def test_bad_commands_leave_nothing_behind(tmp_path: Path) -> None:
    async with one_node(limited(config_of(tmp_path))) as node:
        for _ in range(50):
            node.submit_writes(FutureSink(), (0, 1, 2), (put("a"), b"\xc1" * 1000, put("b")))
            await node.write(put("c"))
        assert node.member is not None and node.member.proposer._unanswered_bytes == 0


async def test_a_follower_bounds_what_it_forwards_on_every_face(tmp_path: Path, stalled: Stalled) -> None:
    """Writes that came over HTTP were forwarded without a bound."""
    async with cluster(tmp_path) as running:
        leader = next(one.node for one in running if leads(one.node))
        follower = next(one.node for one in running if not leads(one.node))
        follower._forwards._bytes_max = LIMIT
        stalled.is_on = True
        writing = [asyncio.create_task(follower.write(put(f"{number}"))) for number in range(20)]
        await asyncio.sleep(0)
        overflow = send(follower, 5)
        await asyncio.sleep(0.05)
        refused = sum(isinstance(task.exception(), BackPressure) for task in writing if task.done())
        assert 10 < refused < 20 and await refused_of(overflow) == 5
        stalled.is_on = False
        for one in running:
            stalled.end(one.node)
        ended = await asyncio.gather(*writing, return_exceptions=True)
        assert sum(isinstance(end, tuple) for end in ended) == 20 - refused
        assert follower._forwards._bytes == 0 and leader is not follower


@pytest.mark.parametrize("stale", [False, True])
async def test_reads_that_wait_for_the_disk_count(tmp_path: Path, stale: bool) -> None:
    """They counted only until their index was applied, and stale ones never: any number waited for a disk
    that was slower than those who asked."""
    config = limited(config_of(tmp_path))
    config = replace(config, store=replace(config.store, cache_bytes_max=0))
    row, gate = row_key("t", "a"), threading.Event()
    async with one_node(config) as node:
        await node.write(put("a", 7))
        await node.snapshot()
        member = node.member
        assert member is not None
        store, reader = member.store, member.reader
        await until(lambda: store.peek(row) is COLD, "it is in a table")
        member._read_lane.submit(gate.wait, lambda *_: None)
        sinks = [FutureSink() for _ in range(200)]
        try:
            for sink in sinks:
                node.submit_gets(sink, (0,), (row,), stale=stale)
                await asyncio.sleep(0.001)
            refused = await refused_of([sink.future for sink in sinks])
            assert 100 < refused < 190 and reader._waiting_bytes <= LIMIT
        finally:
            gate.set()
        found = await asyncio.gather(*(sink.future for sink in sinks), return_exceptions=True)
        assert sum(not isinstance(end, BaseException) for end in found) == 200 - refused
        assert reader._waiting_bytes == 0
        sink = FutureSink()
        node.submit_gets(sink, (0,), (row,), stale=stale)
        assert await sink.future is not None, "there is room"
