"""The virtual loop: asyncio's own tools work on it, time jumps, and a killed process runs no more."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tests.sim.loop import START_S, ProcessDied, SimLoop, SimulationStuck, current_process


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    with SimLoop() as loop:
        yield loop


def test_time_jumps_to_the_next_timer(loop: SimLoop) -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert loop.run(main()) == START_S + 3600
    assert loop.steps < 10


def test_timers_of_one_moment_run_in_the_order_they_were_made(loop: SimLoop) -> None:
    seen: list[int] = []

    async def main() -> None:
        for number in range(20):
            asyncio.get_running_loop().call_later(1, seen.append, number)
        await asyncio.sleep(2)

    loop.run(main())
    assert seen == list(range(20))


async def _timeout() -> str:
    try:
        async with asyncio.timeout(1):
            await asyncio.Event().wait()
    except TimeoutError:
        return "timeout"
    return "no"


async def _wait_for_shield() -> str:
    inner = asyncio.ensure_future(asyncio.sleep(5, "kept"))
    try:
        await asyncio.wait_for(asyncio.shield(inner), 1)
    except TimeoutError:
        return await inner
    return "no"


async def _lock() -> str:
    lock, seen = asyncio.Lock(), []

    async def use(name: str) -> None:
        async with lock:
            seen.append(name)
            await asyncio.sleep(0.1)
            seen.append(name)

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(use(name))
    return "".join(seen)


async def _gather_and_wait() -> str:
    one, two = await asyncio.gather(asyncio.sleep(2, "x"), asyncio.sleep(1, "y"))
    task = asyncio.create_task(asyncio.sleep(1))
    done, pending = await asyncio.wait([task], timeout=0.5)
    return f"{one}{two}{len(done)}{len(pending)}"


async def _queue() -> str:
    queue: asyncio.Queue[str] = asyncio.Queue()
    asyncio.get_running_loop().call_soon(queue.put_nowait, "item")
    return await queue.get()


@pytest.mark.parametrize(
    ("main", "result"),
    [
        (_timeout, "timeout"),
        (_wait_for_shield, "kept"),
        (_lock, "aabbcc"),
        (_gather_and_wait, "xy01"),
        (_queue, "item"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_asyncio_runs_on_it(loop: SimLoop, main: Any, result: str) -> None:
    coroutine: Coroutine[Any, Any, str] = main()
    assert loop.run(coroutine) == result


def test_a_killed_process_runs_no_more(loop: SimLoop) -> None:
    """Finalising a killed coroutine would run its `finally`: code of a machine without power."""
    seen: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(10)
            seen.append("child")
        finally:
            seen.append("finally")

    async def node() -> None:
        assert current_process() is process
        asyncio.get_running_loop().call_later(2, seen.append, "timer")
        task = asyncio.create_task(child())
        await asyncio.sleep(0.5)
        seen.append("alive")
        await task

    process = loop.process("n1")

    async def main() -> None:
        call = asyncio.create_task(process.call(node()))
        await asyncio.sleep(1)
        process.kill()
        with pytest.raises(ProcessDied):
            await call
        with pytest.raises(ProcessDied):
            await process.call(node())
        await asyncio.sleep(100)

    loop.run(main())
    assert seen == ["alive"]


def test_a_stalled_process_goes_on_late_and_in_order(loop: SimLoop) -> None:
    process = loop.process("n1")
    seen: list[float] = []

    async def node() -> None:
        for number in range(3):
            asyncio.get_running_loop().call_later(number, seen.append, number)
        await asyncio.sleep(4)
        seen.append(loop.time() - START_S)

    async def main() -> None:
        call = asyncio.create_task(process.call(node()))
        await asyncio.sleep(0.5)
        process.stall()
        await asyncio.sleep(9.5)
        assert seen == [0]
        process.resume()
        await call

    loop.run(main())
    assert seen == [0, 1, 2, 10]


def test_callbacks_know_their_process(loop: SimLoop) -> None:
    seen: list[object] = []
    first, second = loop.process("n1"), loop.process("n2")

    async def main() -> None:
        shared = asyncio.get_running_loop().create_future()
        wake = lambda _: seen.append(current_process())  # noqa: E731
        first.run(shared.add_done_callback, wake)
        second.run(shared.add_done_callback, wake)
        shared.add_done_callback(wake)
        first.kill()
        shared.set_result(None)
        await asyncio.sleep(1)

    loop.run(main())
    assert seen == [second, None]


def test_an_error_nobody_handled_fails_the_run(loop: SimLoop) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(1, int, "no number")
        await asyncio.sleep(2)

    with pytest.raises(ValueError, match="no number"):
        loop.run(main())


def test_a_task_that_failed_unseen_fails_the_run(loop: SimLoop) -> None:
    async def fail() -> None:
        raise ValueError("unseen")

    async def main() -> None:
        asyncio.create_task(fail())  # noqa: RUF006
        await asyncio.sleep(2)

    with pytest.raises(ValueError, match="unseen"):
        loop.run(main())


def test_an_observer_sees_every_step_of_its_process(loop: SimLoop) -> None:
    process, seen = loop.process("n1"), []
    process.observer = lambda: seen.append(loop.time() - START_S)

    async def node() -> None:
        await asyncio.sleep(1)

    async def main() -> None:
        await process.call(node())

    loop.run(main())
    assert seen[0] == 0 and seen[-1] == 1


def test_a_dead_end_and_a_busy_loop_are_told(loop: SimLoop) -> None:
    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    async def idle() -> None:
        while True:
            await asyncio.sleep(1)

    with pytest.raises(SimulationStuck, match="nothing will ever"):
        loop.run(wait_for_ever())
    with SimLoop() as other, pytest.raises(SimulationStuck, match="no end"):
        other.run(idle(), limit_s=60)
    with SimLoop() as other, pytest.raises(SimulationStuck, match="busy"):
        other.run(spin())


def test_what_is_closed_starts_nothing_any_more() -> None:
    """Bug: a task that a `finally` block began as the loop closed was a coroutine that nobody awaited."""
    loop, seen = SimLoop(), list[str]()

    async def late() -> None:
        seen.append("late")

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("closed")
            begun = late()
            asyncio.get_running_loop().create_task(begun)

    async def main() -> None:
        asyncio.get_running_loop().create_task(work())
        await asyncio.sleep(1)

    with loop, warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.run(main())
        loop.close()
        gc.collect()
    assert seen == ["closed"]
