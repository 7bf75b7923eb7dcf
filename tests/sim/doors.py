"""The simulated doors of one process beside disk and network: clock, randomness, lanes, jobs, commands.

Nothing here blocks and nothing takes effect early: a lane's work and a helper's job run when their
virtual delay is over, so a crash before that moment finds a disk they never touched. A crash in the
middle of such work is `SimCrash`, raised by the disk itself; it passes through here and kills the
process, so that what the work would have answered is never heard.
"""

from __future__ import annotations

import asyncio
import importlib
import posixpath
import shlex
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import msgpack

from neumann.archive.destinations import directory_destination
from neumann.archive.push import push
from neumann.env.doors import CommandEnd, Disk, DoneCallback, FileStat, ReadableFile
from neumann.env.files import read_file, write_new
from neumann.errors import Corrupt, NeumannError, StorageFailed
from neumann.format.rpc import error_from_wire, error_to_wire
from tests.sim.loop import Process, SimLoop

EPOCH_NS = 1_700_000_000_000_000_000
"""What an unskewed wall clock shows when a run begins."""

_Work = tuple[Callable[[], Any], DoneCallback]


@dataclass(slots=True)
class Pace:
    """How long a machine's disk and helper take; `slowness` multiplies it."""

    slowness: int = 1

    def lane_s(self, random: Random) -> float:
        """One piece of lane work."""
        return self.slowness * random.uniform(0.000_1, 0.002)

    def job_s(self, random: Random) -> float:
        """One job of the helper process."""
        return self.slowness * random.uniform(0.002, 0.05)


class SimClock:
    """See env.doors.Clock. `skew_ns` makes its wall clock wrong, `drift` makes it run wrongly from now on."""

    def __init__(self, loop: SimLoop, skew_ns: int = 0) -> None:
        self.skew_ns = skew_ns
        self._rate = 1.0
        self._loop = loop
        self._since_s = self._began_s = loop.time()

    def wall_ns(self) -> int:
        elapsed_s = self._loop.time() - self._began_s
        drifted_s = (self._loop.time() - self._since_s) * (self._rate - 1.0)
        return EPOCH_NS + self.skew_ns + round((elapsed_s + drifted_s) * 1e9)

    def monotonic_ns(self) -> int:
        return round(self._loop.time() * 1e9)

    def drift(self, rate: float) -> None:
        """Go on from here at `rate` wall seconds a second."""
        now_s = self._loop.time()
        self.skew_ns += round((now_s - self._since_s) * (self._rate - 1.0) * 1e9)
        self._since_s, self._rate = now_s, rate

    def set_right(self) -> None:
        """Show the right time from now on, as a time service does in the end."""
        self.drift(1.0)
        self.skew_ns = 0


class SimEntropy:
    """See env.doors.Entropy: all of it from the seed."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def token(self, length: int) -> bytes:
        return self._random.randbytes(length)

    def randrange(self, stop: int) -> int:
        return self._random.randrange(stop)


class SimLane:
    """See env.doors.Lane: work runs at the end of its delay, one after the other."""

    def __init__(self, process: Process, pace: Pace, random: Random) -> None:
        self._process = process
        self._loop = process.loop
        self._pace = pace
        self._random = random
        self._queue: deque[_Work] = deque()
        self._is_closed = False

    def submit(self, work: Callable[[], Any], done: DoneCallback) -> None:
        assert not self._is_closed, "work for a closed lane"
        self._queue.append((work, done))
        if len(self._queue) == 1:
            self._begin()

    async def run(self, work: Callable[[], Any]) -> Any:
        future = self._loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.submit(work, done)
        return await future

    def close(self) -> None:
        self._is_closed = True
        while self._queue:
            self._finish()

    def _begin(self) -> None:
        self._loop.call_later(self._pace.lane_s(self._random), self._end, context=self._process.context())

    def _end(self) -> None:
        if self._queue:
            self._finish()
        if self._queue:
            self._begin()

    def _finish(self) -> None:
        work, done = self._queue[0]
        result, error = None, None
        try:
            result = work()
        except Exception as caught:
            error = caught
        self._queue.popleft()
        self._loop.call_soon(done, result, error, context=self._process.context())


class SimJobs:
    """See env.doors.Jobs: the helper's function runs on the node's own disk, one job at a time."""

    def __init__(self, loop: SimLoop, disk: Disk, pace: Pace, random: Random) -> None:
        self._loop = loop
        self._disk = disk
        self._pace = pace
        self._random = random
        self._turn = asyncio.Lock()

    async def run(self, function: str, params: Mapping[str, object]) -> dict[str, Any]:
        request = msgpack.packb(params, use_bin_type=True)
        async with self._turn:
            await asyncio.sleep(self._pace.job_s(self._random))
            answer = msgpack.packb(self._work(function, request), use_bin_type=True)
        failure, result = msgpack.unpackb(answer, use_list=False, strict_map_key=False)
        if failure is not None:
            raise error_from_wire(failure)
        return dict(result)

    async def close(self) -> None:
        """Nothing outlives the process."""

    def _work(self, function: str, request: bytes) -> tuple[object, object]:
        """As env/worker.py does it."""
        module, _, name = function.partition(":")
        assert module.startswith("neumann."), f"a job outside the package: {function}"
        params = msgpack.unpackb(request, use_list=False, strict_map_key=False)
        try:
            return None, getattr(importlib.import_module(module), name)(self._disk, params)
        except NeumannError as error:
            return error_to_wire(error), None
        except OSError as error:
            return error_to_wire(StorageFailed(f"{name}: {error}")), None
        except (ValueError, KeyError, TypeError) as error:
            return error_to_wire(Corrupt(f"{name} could not read its input: {error!r}")), None


class Mounts:
    """env.doors.Files over both: what is below `shared_root` lies on the shared disk."""

    def __init__(self, disk: Disk, shared: Disk, shared_root: str) -> None:
        self._disk = disk
        self._shared = shared
        self._shared_root = shared_root

    def of(self, path: str) -> Disk:
        """The disk that this path lies on."""
        return self._shared if path.startswith(self._shared_root) else self._disk

    def open(self, path: str) -> ReadableFile:
        return self.of(path).open(path)

    def exists(self, path: str) -> bool:
        return self.of(path).exists(path)

    def stat(self, path: str) -> FileStat:
        return self.of(path).stat(path)

    def list(self, path: str) -> list[str]:
        return self.of(path).list(path)

    def read_link(self, path: str) -> str:
        return self.of(path).read_link(path)


class SimCommands:
    """`run_command`: a shell that knows cp, wal-push, test [!] -f, true and false, joined by &&.

    Paths below `shared_root` lie on the shared disk, as a mounted archive would; others on the node's.
    """

    def __init__(
        self, loop: SimLoop, disk: Disk, shared: Disk, shared_root: str, pace: Pace, random: Random
    ) -> None:
        self._loop = loop
        self._disk = disk
        self._shared = shared
        self._shared_root = shared_root
        self._pace = pace
        self._random = random
        self._under_way = Counter[str]()

    def targets(self, path: str) -> list[str]:
        """What a `cp` of this file that is under way is to write."""
        copies = [shlex.split(command) for command in +self._under_way if command.startswith("cp ")]
        return [target for _, source, target in copies if source == path]

    def replaces(self, path: str) -> bool:
        """Whether a `cp` of this file is under way, over one that is there."""
        return any(map(self._shared.exists, self.targets(path)))

    async def __call__(self, command: str, directory: str, timeout_s: float) -> CommandEnd:
        self._under_way[command] += 1
        try:
            return await self._run(command, directory, timeout_s)
        finally:
            self._under_way[command] -= 1

    async def _run(self, command: str, directory: str, timeout_s: float) -> CommandEnd:
        delay_s = self._pace.job_s(self._random)
        if delay_s > timeout_s:
            await asyncio.sleep(timeout_s)
            return CommandEnd("timeout", -1, f"no end within {timeout_s:g} s; killed")
        await asyncio.sleep(delay_s)
        for step in command.split("&&"):
            status, stderr = self._execute(shlex.split(step), directory)
            if status:
                reason = "not_found" if status == 127 else "exit"
                return CommandEnd(reason, status, stderr)
        return CommandEnd("ok", 0, "")

    def _execute(self, words: list[str], directory: str) -> tuple[int, str]:
        def place(name: str) -> tuple[Disk, str]:
            path = posixpath.join(directory, name)
            return (self._shared if path.startswith(self._shared_root) else self._disk), path

        match words:
            case ["true"]:
                return 0, ""
            case ["false"]:
                return 1, ""
            case ["test", "-f", name]:
                disk, path = place(name)
                return int(not disk.exists(path)), ""
            case ["test", "!", "-f", name]:
                disk, path = place(name)
                return int(disk.exists(path)), ""
            case ["cp", source, target]:
                return _copy(place(source), place(target))
            case ["neumann-admin", "wal-push", path, target]:
                return self._push(place(path), place(target))
        return 127, f"{words[0]}: not found"

    def _push(self, source: tuple[Disk, str], target: tuple[Disk, str]) -> tuple[int, str]:
        """As cli/push.py does it."""
        try:
            push(*source, directory_destination(*target, self._random.randbytes(8)))
        except NeumannError as error:
            return error.exit_code, str(error)
        return 0, ""


def _copy(source: tuple[Disk, str], target: tuple[Disk, str]) -> tuple[int, str]:
    """As cp does: overwrites, syncs nothing."""
    disk, path = target
    try:
        data = read_file(*source)
        if disk.exists(path):
            disk.unlink(path)
        write_new(disk, path, data)
    except OSError as error:
        return 1, f"cp: {error}"
    return 0, ""
