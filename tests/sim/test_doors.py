"""The simulated doors keep what env/doors.py promises, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from random import Random
from typing import Any

import pytest

from neumann.env.files import read_file, write_new
from neumann.errors import StorageFailed
from tests.sim.disk import SimDisk
from tests.sim.doors import Pace, SimClock, SimCommands, SimJobs, SimLane
from tests.sim.loop import Process, SimLoop


class Bench:
    """One process with a disk."""

    def __init__(self) -> None:
        self.loop = SimLoop()
        self.process: Process = self.loop.process("n1")
        self.disk = SimDisk()
        self.shared = SimDisk()
        for disk in (self.disk, self.shared):
            disk.make_dirs("/shared/wal")
            disk.make_dirs("/data")

    def lane(self, slowness: int = 1) -> SimLane:
        return SimLane(self.process, Pace(slowness), Random(1))

    def run(self, script: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
        with self.loop:
            self.loop.run(script(self))


def test_a_lane_works_in_order_and_only_when_its_delay_is_over() -> None:
    async def script(bench: Bench) -> None:
        lane = bench.lane()
        seen: list[int] = []
        for number in range(10):
            lane.submit(partial(seen.append, number), lambda result, error: None)
        await asyncio.sleep(0)
        assert seen == []
        began_s = bench.loop.time()
        assert await lane.run(lambda: "done") == "done"
        assert seen == list(range(10)) and bench.loop.time() > began_s

    Bench().run(script)


def test_a_lane_hands_over_errors() -> None:
    async def script(bench: Bench) -> None:
        with pytest.raises(FileNotFoundError):
            await bench.lane().run(lambda: bench.disk.open("/nothing"))

    Bench().run(script)


def test_closing_a_lane_finishes_its_work() -> None:
    async def script(bench: Bench) -> None:
        lane, seen = bench.lane(), []
        lane.submit(lambda: seen.append("work"), lambda result, error: seen.append("told"))
        lane.close()
        assert seen == ["work"]
        await asyncio.sleep(0)
        assert seen == ["work", "told"]

    Bench().run(script)


def test_work_of_a_killed_process_never_happens() -> None:
    async def script(bench: Bench) -> None:
        bench.lane().submit(lambda: write_new(bench.disk, "/data/x", b""), lambda result, error: None)
        bench.process.kill()
        await asyncio.sleep(10)
        assert not bench.disk.exists("/data/x")

    Bench().run(script)


def test_a_crash_in_the_middle_of_work_kills_and_is_never_heard() -> None:
    async def script(bench: Bench) -> None:
        heard: list[object] = []
        bench.disk.crash_at = bench.disk.operations + 1
        bench.lane().submit(
            lambda: write_new(bench.disk, "/data/x", b"abc"), lambda result, error: heard.append(error)
        )
        await asyncio.sleep(10)
        assert not bench.process.is_alive and not heard

    Bench().run(script)


def test_jobs_run_on_the_disk_and_report_as_the_helper_does() -> None:
    async def script(bench: Bench) -> None:
        jobs = SimJobs(bench.loop, bench.disk, Pace(), Random(1))
        with pytest.raises(StorageFailed, match="flush"):
            params = {"directory": "/data", "block_bytes": 1024, "pieces": [["/data/no.wal", 0, 1]]}
            await jobs.run("neumann.store.jobs:flush", params | {"first": 1, "last": 1, "skipped": []})

    Bench().run(script)


def test_commands() -> None:
    async def script(bench: Bench) -> None:
        run = SimCommands(bench.loop, bench.disk, bench.shared, "/shared", Pace(), Random(1))
        write_new(bench.disk, "/data/a", b"bytes")
        ended = await run("test ! -f /shared/wal/a && cp /data/a /shared/wal/a", "/data", 10.0)
        assert ended.reason == "ok" and read_file(bench.shared, "/shared/wal/a") == b"bytes"
        assert not bench.disk.exists("/shared/wal/a")
        assert (await run("test ! -f /shared/wal/a && cp a /shared/wal/a", "/data", 10.0)).status == 1
        assert (await run("cp /data/b /shared/wal/b", "/data", 10.0)).reason == "exit"
        assert (await run("rsync a b", "/data", 10.0)).reason == "not_found"
        assert (await run("true", "/data", 0.000001)).reason == "timeout"

    Bench().run(script)


def test_a_skewed_clock() -> None:
    async def script(bench: Bench) -> None:
        right, fast = SimClock(bench.loop), SimClock(bench.loop, skew_ns=5)
        fast.drift(2.0)
        assert fast.wall_ns() - right.wall_ns() == 5
        await asyncio.sleep(1)
        assert fast.wall_ns() - right.wall_ns() == 1_000_000_005
        assert fast.monotonic_ns() == right.monotonic_ns()
        fast.drift(0.5)
        await asyncio.sleep(1)
        assert fast.wall_ns() - right.wall_ns() == 500_000_005
        fast.set_right()
        await asyncio.sleep(1)
        assert fast.wall_ns() == right.wall_ns()

    Bench().run(script)
