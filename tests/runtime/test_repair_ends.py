"""Who waits for a mending is told how it ended: by a peer's rubbish, or by the end of the node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from neumann.env import Env, real_env
from neumann.env.doors import DoneCallback
from neumann.errors import Corrupt, NeumannError, Unavailable
from neumann.format import names
from neumann.format.command import ABSENT, encode_put, pack_value
from neumann.format.names import Paths
from neumann.runtime.metrics import Metrics
from neumann.runtime.repair import Repair, _Asked
from tests.runtime.nodes import TIMEOUT_S, cluster, leads, until
from tests.runtime.test_repair import flip, tables, with_a_snapshot


class _AtOnce:
    """A lane that runs at once."""

    def submit(self, work: Callable[[], Any], done: DoneCallback) -> None:
        try:
            result = work()
        except Corrupt as error:
            done(None, error)
        else:
            done(result, None)

    async def run(self, work: Callable[[], Any]) -> Any:
        return work()

    def close(self) -> None:
        """Nothing to end."""


def _answered_with(answer: object, env: Env) -> None:
    """From now on peers answer what is asked of their tables with this."""
    call = env.net.call

    async def asked(address: str, method: str, params: list[object], timeout_s: float) -> Any:
        if method == "table.read":
            return answer
        return await call(address, method, params, timeout_s)

    env.net.call = asked  # type: ignore[method-assign]


@pytest.mark.parametrize("answer", [None, 7], ids=repr)
async def test_a_peer_that_answers_with_what_is_no_bytes_holds_nobody_up(
    tmp_path: Path, answer: object
) -> None:
    """The mending died unheard: a read was never answered, and apply stood for ever, without a failure."""
    async with cluster(tmp_path) as running:
        follower = (await with_a_snapshot(running)).node
        leading = next(one.node for one in running if leads(one.node))
        path = max(tables(tmp_path, follower.config.node.id), key=lambda p: p.stat().st_size)
        flip(path, 100)
        _answered_with(answer, follower.env)
        async with asyncio.timeout(TIMEOUT_S):
            with pytest.raises(Corrupt, match=path.name):
                await follower.get("t", "00007", stale=True)
            await leading.write(encode_put("t", "00007", pack_value(1), (ABSENT,)))
            assert isinstance(await follower.failed, Corrupt)


@asynccontextmanager
async def _with_a_peer_that_hangs(root: Path) -> AsyncIterator[tuple[Repair, Corrupt]]:
    """A repair whose peer takes its time, and damage to a table."""
    env = real_env()
    paths = Paths(str(root))
    repair = Repair(env, env.lane("repair"), paths, Metrics(), lambda: ["peer:1"], lambda _: None)

    async def hangs(_: _Asked, __: str) -> None:
        await asyncio.sleep(10 * TIMEOUT_S)

    repair._fetch = hangs  # type: ignore[method-assign]
    try:
        yield repair, Corrupt("rotten", detail={"path": f"{paths.store}/{names.table_name(bytes(32))}"})
    finally:
        await env.net.close()
        await env.jobs.close()


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_a_repair_that_stops_tells_who_waits(tmp_path: Path, turns: int) -> None:
    """Who had submitted work was forgotten, however far its mending had come: a get under way at an install
    or a rejoin was never answered. Who awaited one was cancelled, though nobody had cancelled him."""
    async with _with_a_peer_that_hangs(tmp_path) as (repair, damage):
        told: list[tuple[Any, BaseException | None]] = []

        def read() -> Any:
            raise damage

        async def reading() -> Any:
            raise damage

        repair.submit(_AtOnce(), read, lambda *said: told.append(said))
        awaiting = asyncio.create_task(repair.reading(reading))
        for _ in range(turns):
            await asyncio.sleep(0)
        await repair.stop()
        [(_, error)] = told
        assert isinstance(error, Unavailable)
        with pytest.raises(NeumannError) as failure:
            await awaiting
        assert isinstance(failure.value, Unavailable if turns else Corrupt)
        repair.submit(_AtOnce(), read, lambda *said: told.append(said))
        assert told[1:] == [(None, damage)], "and who comes later"


async def test_a_mending_that_fails_in_an_unforeseen_way_is_told_too(tmp_path: Path) -> None:
    """Only our own errors and those of the system were expected; any other one was logged, and no more."""
    async with _with_a_peer_that_hangs(tmp_path) as (repair, damage):
        told: list[tuple[Any, BaseException | None]] = []
        planted = ValueError("planted")

        async def fails(_: _Asked, __: str) -> None:
            raise planted

        def read() -> Any:
            raise damage

        repair._fetch = fails  # type: ignore[method-assign]
        repair.submit(_AtOnce(), read, lambda *said: told.append(said))
        await until(lambda: bool(told), "it is told")
        assert told == [(None, planted)]
        await repair.stop()


async def test_who_meets_damage_in_several_files_waits_for_each(tmp_path: Path) -> None:
    """The second file that was damaged ended it: a scan was refused, and an apply that read such rows ended
    the node, though a peer had both."""
    async with _with_a_peer_that_hangs(tmp_path) as (repair, _):
        damaged = [f"{tmp_path}/store/{names.table_name(bytes([n]) * 32)}" for n in range(3)]

        async def fetched(asked: _Asked, _: str) -> None:
            if asked.path != again:
                damaged.remove(asked.path)

        def read() -> str:
            if damaged:
                raise Corrupt("rotten", detail={"path": damaged[0]})
            return "rows"

        async def reading() -> str:
            return read()

        async def submitted() -> tuple[Any, BaseException | None]:
            told: list[tuple[Any, BaseException | None]] = []
            repair.submit(_AtOnce(), read, lambda *said: told.append(said))
            await until(lambda: bool(told), "it is told")
            return told[0]

        repair._fetch = fetched  # type: ignore[method-assign]
        files, again = list(damaged), ""
        assert await repair.reading(reading) == "rows"
        damaged += files
        assert await submitted() == ("rows", None)
        damaged, again = list(files), files[2]
        with pytest.raises(Corrupt, match="rotten"):
            await repair.reading(reading)
        result, error = await submitted()
        assert result is None and isinstance(error, Corrupt), "what is damaged again at once is not for ever"
        await repair.stop()
