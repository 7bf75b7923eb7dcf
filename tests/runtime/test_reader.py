"""Reads at a node: rounds at the leader, or questions to it, and never an answer from before the question."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from neumann.env import real_env
from neumann.errors import (
    BackPressure,
    NeumannError,
    NotLeader,
    OutcomeUnknown,
    TimelineChanged,
    Unavailable,
    WrongHistory,
)
from neumann.format.command import row_key
from neumann.format.names import Paths
from neumann.runtime import leader_index, reader
from neumann.runtime.metrics import Metrics
from neumann.runtime.reader import Reader
from neumann.runtime.repair import Repair
from neumann.runtime.sinks import FutureSink
from neumann.store.store import Store
from tests.raft.build import core_with, frames, make_durable, vote_reply
from tests.raft.harness import ELECTION_TICKS
from tests.runtime.nodes import Running, cluster, leads, put, until, write_rows
from tests.store.rows import manifest_of

ROW = row_key("t", "a")


class Desk:
    """A reader over an empty store. `questions` are those under way to the leader, answered by the test."""

    def __init__(self, directory: Path) -> None:
        env = real_env()
        self.core = core_with(frames((1, 1)))
        self.lane = env.lane("read")
        self.questions: list[asyncio.Future[int]] = []
        self.applied = 0
        self.failures: list[BaseException] = []
        store = Store.open(env.disk, str(directory), manifest_of(), 0)
        self.reader = Reader(
            self.core,
            store,
            self.lane,
            Repair(env, env.lane("repair"), Paths(str(directory)), Metrics(), list, store.reopen),
            env.clock,
            Metrics(),
            waiting_bytes_max=10_000,
            applied_index=lambda: self.applied,
            pump=self.pump,
            leads=lambda: self.core.role == "leader",
            ask_leader=self._ask,
            on_failure=self.failures.append,
        )

    async def _ask(self) -> int:
        self.questions.append(asyncio.get_running_loop().create_future())
        return await self.questions[-1]

    def pump(self) -> None:
        """What a member does with a Ready, as far as reads go."""
        while (ready := self.core.ready()) is not None:
            make_durable(self.core, ready)
            if ready.lost_reads:
                self.reader.lost(ready.lost_reads)

    def elect(self) -> None:
        """The core leads, and has committed nothing in its term."""
        for _ in range(2 * ELECTION_TICKS):
            self.core.tick()
        self.pump()
        self.core.step("a", vote_reply(self.core.term + 1, True, True))
        self.pump()
        self.core.step("a", vote_reply(self.core.term, True, False))
        self.pump()
        assert self.core.role == "leader" and not self.core.own_term_committed

    def read(self) -> asyncio.Future[Any]:
        """One read of a row that is not there."""
        sink = FutureSink()
        self.reader.submit(sink, (0,), (ROW,))
        return sink.future

    def apply(self, index: int) -> None:
        """The state has come so far."""
        self.applied = index
        self.reader.applied(index)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.reader.stop(Unavailable("the test is over"))
    made.lane.close()
    assert not made.failures


async def turn() -> None:
    """Let everything that is due happen."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_question_for_all_reads_that_wait(desk: Desk) -> None:
    first = [desk.read() for _ in range(5)]
    await turn()
    assert len(desk.questions) == 1
    later = [desk.read() for _ in range(5)]
    barrier = desk.reader.barrier()
    await turn()
    assert len(desk.questions) == 1, "the next one waits for the answer"
    desk.questions[0].set_result(0)
    await turn()
    assert all(one.done() for one in first) and len(desk.questions) == 2
    desk.questions[1].set_result(0)
    await turn()
    assert all(one.done() for one in later) and barrier.done()


async def test_a_read_is_not_answered_by_a_question_that_was_asked_before_it_came(desk: Desk) -> None:
    """What is acknowledged between the two would be missed: the index may be from before it."""
    early = desk.read()
    await turn()
    late = desk.read()
    desk.questions[0].set_result(3)
    desk.apply(3)
    await turn()
    assert early.done() and not late.done()
    desk.questions[1].set_result(4)
    await turn()
    assert not late.done(), "the state is behind the index"
    desk.apply(4)
    await turn()
    assert late.done()


@pytest.mark.parametrize("error", [Unavailable("x"), OutcomeUnknown("x"), NotLeader("x")])
async def test_a_question_that_failed_is_asked_again(desk: Desk, error: NeumannError) -> None:
    read = desk.read()
    await turn()
    desk.questions[0].set_exception(error)
    await until(lambda: len(desk.questions) == 2, "again")
    joined = desk.read()
    await turn()
    desk.questions[1].set_exception(error)
    await until(lambda: len(desk.questions) == 3, "again")
    desk.questions[2].set_result(0)
    await turn()
    assert read.done() and joined.done()


async def test_who_waited_too_long_for_a_leader_hears_why(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LEADER_WAIT_S", 0.05)
    waiting, barrier = desk.read(), desk.reader.barrier()
    asked = 0
    while not waiting.done():
        await asyncio.sleep(0.01)
        for question in desk.questions[asked:]:
            asked += 1
            question.set_exception(Unavailable("nobody leads"))
    for ended in (waiting, barrier):
        with pytest.raises(Unavailable, match="nobody leads"):
            await ended


async def test_another_history_at_the_leaders_address_is_told(desk: Desk) -> None:
    read = desk.read()
    await turn()
    desk.questions[0].set_exception(WrongHistory("another cluster"))
    with pytest.raises(WrongHistory):
        await read


async def test_reads_that_leadership_left_behind_are_asked_of_the_next_leader(desk: Desk) -> None:
    """Only the reads of the round on its way were told; those behind it waited for an apply that need
    never come."""
    desk.elect()
    first = desk.read()
    await turn()
    second, asked = desk.read(), desk.reader.read_index()
    await turn()
    desk.core.step_down("the test wants it")
    desk.pump()
    await turn()
    assert not first.done() and not second.done() and len(desk.questions) == 1
    with pytest.raises(NotLeader):
        await asked
    desk.questions[0].set_result(0)
    await turn()
    assert first.done() and second.done()


async def test_a_node_that_does_not_lead_passes_no_question_on(desk: Desk) -> None:
    with pytest.raises(NotLeader):
        await desk.reader.read_index()
    await turn()
    assert not desk.questions


async def test_what_waits_is_bounded_and_ends_with_the_member(desk: Desk) -> None:
    waiting = [desk.read() for _ in range(60)]
    await turn()
    refused = [one for one in waiting if one.done()]
    assert len(refused) > 10
    for one in refused:
        with pytest.raises(BackPressure):
            await one
    desk.reader.stop(Unavailable("it stops"))
    for one in (*waiting, desk.read()):
        with pytest.raises((BackPressure, Unavailable)):
            await asyncio.wait_for(one, 1)


# --- real nodes ---------------------------------------------------------------------------------------


def followers(running: list[Running]) -> list[Running]:
    """Those that do not lead."""
    return [one for one in running if not leads(one.node)]


async def test_a_follower_serves_gets_scans_and_queries_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sent each get to the leader, which had all the work. Now a question goes there for many."""
    asked = Counter[str]()
    ask = leader_index.ask

    async def count(net: Any, *rest: Any) -> int:
        asked["questions"] += 1
        return await ask(net, *rest)

    monkeypatch.setattr(leader_index, "ask", count)
    async with cluster(tmp_path) as running:
        leader = next(one.node for one in running if leads(one.node))
        follower = followers(running)[0].node
        await write_rows(leader, range(300))
        asked.clear()
        sinks = [FutureSink() for _ in range(300)]
        for number, sink in enumerate(sinks):
            follower.submit_gets(sink, (0,), (row_key("t", f"{number:05d}"),), stale=False)
        rows = await asyncio.gather(*(sink.future for sink in sinks))
        assert all(row is not None for row in rows)
        assert asked["questions"] < 5
        for number in range(20):
            await leader.write(put("new", number))
            assert (row := await follower.get("t", "new")) is not None and row[0] == bytes([number])
            page = await follower.scan("t", prefix="new")
            assert [found[1] for found in page.rows] == [row[0]]
        result = await follower.query("SELECT count(*) FROM t")
        assert list(result.rows[0]) == [301]


async def test_reads_at_a_follower_wait_for_the_next_leader(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        leader = next(one for one in running if leads(one.node))
        await leader.node.write(put("a"))
        reading = followers(running)
        await leader.stop()
        found = await asyncio.gather(*(one.node.get("t", "a") for one in reading for _ in range(20)))
        assert all(found)
        scans = await asyncio.gather(*(one.node.scan("t") for one in reading))
        assert [len(page.rows) for page in scans] == [1, 1]


@pytest.mark.parametrize(
    ("change", "error"),
    [(lambda c, t: (bytes(16), t), WrongHistory), (lambda c, t: (c, "9-0000000000000000"), TimelineChanged)],
)
async def test_a_node_of_another_history_gets_no_index(
    tmp_path: Path, change: Callable[[bytes, str], tuple[bytes, str]], error: type[NeumannError]
) -> None:
    async with cluster(tmp_path, 1) as running:
        node = running[0].node
        assert node.member is not None
        own = node.member.identity
        asked = change(own.cluster_id, str(own.timeline))
        assert await node.call(leader_index.METHOD, (own.cluster_id, str(own.timeline))) > 0
        with pytest.raises(error):
            await node.call(leader_index.METHOD, asked)
