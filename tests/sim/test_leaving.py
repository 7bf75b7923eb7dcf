"""What happens between a node's question whether its state may go and its going (runtime/leaving.py)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from neumann.errors import NeumannError, RefusedByState
from neumann.format.command import encode_put, pack_value
from neumann.runtime import leaving
from neumann.runtime.node import Node
from tests.sim.keeping import form
from tests.sim.machine import Machine
from tests.sim.world import World

LIMIT_S = 20.0
ALONE_S = 5.0
WRITE = encode_put("t", "k", pack_value(1))


def _run(world: World, script: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with world:
        world.loop.run(script(), 120.0)


async def _formed(world: World) -> tuple[Machine, list[Machine]]:
    """The leader's machine and the others, each of which can be spared."""
    leading = await form(world)
    others = [machine for machine in world.machines if machine is not leading]
    leader = world.leader()
    assert leader is not None
    await world.until(lambda: len(leader.membership.spares()) == 3, LIMIT_S, "each can be spared")
    return leading, others


async def _call(machine: Machine, verb: Callable[[Node], Coroutine[Any, Any, Any]]) -> Any:
    assert machine.process is not None and machine.node is not None
    return await machine.process.call(verb(machine.node))


async def _rejoin(machine: Machine) -> str:
    """How it ended: "" if it was set aside."""
    machine.asked_to_rejoin = machine.process
    try:
        await _call(machine, lambda node: node.rejoin())
    except NeumannError as error:
        machine.asked_to_rejoin = None
        return str(error)
    return ""


async def _serves(world: World) -> None:
    """A write is committed: a majority of the voters is there."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            await world.until(lambda: world.leader() is not None, LIMIT_S, "one leads")
            with contextlib.suppress(NeumannError):  # a leader may lose a majority, and find it again
                await _call(world.leading(), lambda node: node.write(WRITE, 5.0))
                return


def _after(asking: Callable[..., Awaitable[Any]], planted: Callable[[], Awaitable[None]]) -> Any:
    """The same question; when it is answered, something happens before the node goes on."""

    async def ask(*args: Any) -> Any:
        answer = await asking(*args)
        await planted()
        return answer

    return ask


def test_another_leader_between_the_question_and_the_going(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader said that a node's state may go; leadership went to another one, which removed the first, as
    the node was still up: then the node went, and of two voters one was gone for good."""
    world = World("leaving")

    async def script() -> None:
        first, (second, goer) = await _formed(world)
        node = goer.node
        assert node is not None

        async def change() -> None:
            await _call(first, lambda node: node.leader_transfer(second.name))
            await world.until(lambda: world.member(second) is world.leader(), LIMIT_S, "the second leads")
            await _call(second, lambda node: node.member_remove(first.name))

        formation = node.host.formation
        monkeypatch.setattr(formation, "ask_who_is_up", _after(formation.ask_who_is_up, change))
        said = await _rejoin(goer)
        assert "nothing was changed" in said
        await _serves(world)
        leader = world.leader()
        assert leader is not None and leader.raft.configuration.voters == tuple(
            sorted((second.name, goer.name))
        )

    _run(world, script)


def test_another_leader_after_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was told that its state may go counts for nothing any more, also to a leader that knows nothing of
    it: nobody is removed on its word, and the cluster goes on however late it goes."""
    world = World("leaving")

    async def script() -> None:
        first, (second, goer) = await _formed(world)

        async def change() -> None:
            await _call(first, lambda node: node.leader_transfer(second.name))
            await world.until(lambda: world.member(second) is world.leader(), LIMIT_S, "the second leads")
            with pytest.raises(RefusedByState, match="no majority"):
                await _call(second, lambda node: node.member_remove(first.name))
            await asyncio.sleep(2 * ALONE_S)
            await _serves(world)

        monkeypatch.setattr(leaving, "ask", _after(leaving.ask, change))
        assert await _rejoin(goer) == ""
        await _serves(world)
        await world.until(world.is_formed, 2 * LIMIT_S, "three voters and a leader")

    _run(world, script)


@pytest.mark.parametrize("seed", range(4))
def test_two_that_ask_at_once(seed: int) -> None:
    """Each was spared with the other in mind, and both went: of three voters one was left."""
    world = World(f"leaving/{seed}")

    async def script() -> None:
        _, goers = await _formed(world)
        said = await asyncio.gather(*(_rejoin(goer) for goer in goers))
        assert any(said), "one of them stays"
        await _serves(world)
        await world.until(world.is_formed, 2 * LIMIT_S, "three voters and a leader")

    _run(world, script)


def test_who_is_refused_at_the_last_word_counts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had closed its member to ask: it opens it again, with a start number that the leader counts."""
    world = World("leaving")

    async def script() -> None:
        _, (second, goer) = await _formed(world)
        node, before = goer.node, world.member(goer)
        assert node is not None and before is not None

        async def crash() -> None:
            world.crash(second)
            await asyncio.sleep(ALONE_S)

        formation = node.host.formation
        monkeypatch.setattr(formation, "ask_who_is_up", _after(formation.ask_who_is_up, crash))
        assert "nothing was changed" in await _rejoin(goer)
        await _serves(world)
        after = world.member(goer)
        assert after is not None and after.identity == before.identity and goer.node is node
        await world.start(second)
        await world.until(world.is_formed, LIMIT_S, "three voters and a leader")

    _run(world, script)


def test_a_leader_of_an_earlier_term_has_no_say() -> None:
    """It may not know what a later one changed on the word of this node."""
    world = World("leaving")

    async def script() -> None:
        leading, (goer, _) = await _formed(world)
        assert goer.process is not None and goer.node is not None
        going = goer.process.run(leaving.of_disk, goer.disk, goer.paths, goer.name)
        leader = world.leader()
        assert leader is not None and going.term == leader.raft.term
        later = going._replace(term=going.term + 1)
        said = await _call(leading, lambda node: node.call("leave", [*later]))
        assert f"older than {later.term}" in said["text"]

    _run(world, script)
