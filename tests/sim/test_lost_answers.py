"""Bug 32: the leader dies between commit and reply, and the client tries again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from neumann.errors import NeumannError, OutcomeUnknown
from neumann.format import command
from neumann.format.command import row_key
from neumann.machine.sessions import Sessions
from tests.sim.keeping import form
from tests.sim.world import World

LIMIT_S = 20.0
INCREMENTS = 5


def _counted(seed: str) -> tuple[int, int]:
    """(acknowledged increments, the counter): each is committed, its leader dies before it can answer, and
    it is sent again, through whoever is there, until somebody answers."""
    world = World(seed)
    told: list[tuple[int, int]] = []

    async def send(raw: bytes) -> tuple[int, int]:
        door, number = world.network.door(None, "client"), 0
        while True:
            number += 1
            machine = world.machines[number % len(world.machines)]
            try:
                index, outcome = await door.call(machine.address, "write", [raw], 2.0)
                return int(index), int(outcome)
            except NeumannError:
                await asyncio.sleep(0.05)

    async def lose_answer(raw: bytes) -> None:
        """Send it to the leader, which dies as soon as it has committed it."""
        await world.until(lambda: world.leader() is not None, LIMIT_S, "a leader")
        leading = world.leading()
        call = asyncio.create_task(
            world.network.door(None, "client").call(leading.address, "write", [raw], 2.0)
        )
        while raw not in world.committed.model.commands.values():
            await asyncio.sleep(0.000_1)
        world.network.cut(leading.name, "client")  # so that an answer on its way is lost as well
        world.crash(leading)
        with pytest.raises(OutcomeUnknown):
            await call
        world.network.mend(leading.name, "client")
        await world.start(leading)

    async def script() -> None:
        await form(world)
        session, _ = await send(command.encode_open())
        revision = 0
        for serial in range(1, INCREMENTS + 1):
            condition: tuple[Any, ...] = (command.REVISION, revision) if revision else (command.ABSENT,)
            put = command.encode_put("t", "counter", command.pack_value(serial), condition)
            raw = command.with_session(put, session, serial)
            await lose_answer(raw)
            told.append(await send(raw))
            revision = told[-1][0]
        await world.until(world.is_converged, LIMIT_S, "all replicas equal")

    with world:
        world.loop.run(script())
        member = world.member(world.machines[0])
        assert member is not None
        row = member.store.get(row_key("t", "counter"))
        assert row is not None and row[0] is not None
        return sum(outcome == 0 for _, outcome in told), int(command.unpack_value(row[0]))


def test_each_increment_that_lost_its_answer_counts_once() -> None:
    assert _counted("bug 32") == (INCREMENTS, INCREMENTS)


def test_it_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the memory of answers the retry finds its own write, and is told that it failed."""
    recall = Sessions.recall

    def forget(self: Sessions, session_id: int, serial: int, index: int) -> tuple[int, int] | None:
        answer = recall(self, session_id, serial, index)
        return None if answer is not None and answer[0] != index else answer

    monkeypatch.setattr(Sessions, "recall", forget)
    acknowledged, counter = _counted("bug 32")
    assert acknowledged < counter
