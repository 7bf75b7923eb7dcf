"""One computer of the world: its disk, clock and pace outlive the processes that run on it.

A process is one run of a node, with its own doors. A crash kills it and leaves the disk as a power
failure, or only the death of the process, would leave it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

from neumann.config import Config
from neumann.env.doors import Env
from neumann.errors import NeumannError
from neumann.format import rpc
from neumann.format.command import row_key
from neumann.format.names import Paths
from neumann.runtime.node import Node
from neumann.runtime.sinks import FutureSink, Version
from tests.sim.checkers.violation import require
from tests.sim.disk import SimCrash, SimDisk
from tests.sim.doors import EPOCH_NS, Mounts, Pace, SimClock, SimCommands, SimEntropy, SimJobs, SimLane
from tests.sim.loop import Process, SimLoop
from tests.sim.net import Network, SimNet

SHARED_ROOT = "/shared"
"""Where every machine sees the one shared disk, as a mounted archive."""


class Burst:
    """The sink of many writes at once, as one connection's pipelined requests are."""

    def __init__(self, count: int) -> None:
        self.answers: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        self._results: list[object] = [None] * count
        self._missing = count

    def wrote(self, ids: Sequence[int], first_index: int, outcomes: Sequence[int] | None) -> None:
        for place, call_id in enumerate(ids):
            self._put(call_id, [None, [first_index + place, outcomes[place] if outcomes else 0]])

    def got(self, ids: Sequence[int], rows: Sequence[Version | None]) -> None:
        raise AssertionError("nobody asked for rows")

    def failed(self, ids: Sequence[int], error: NeumannError) -> None:
        for call_id in ids:
            self._put(call_id, [rpc.error_to_wire(error), None])

    def flush(self) -> None:
        if not self._missing and not self.answers.done():
            self.answers.set_result(self._results)

    def _put(self, call_id: int, answer: object) -> None:
        require(self._results[call_id] is None, "a sink gets each id once")
        self._results[call_id] = answer
        self._missing -= 1


class Rotten(NamedTuple):
    """A file in which a bit rotted: its kind (rot.py), and which file it was, whatever its name is now."""

    kind: str
    inode: int


class Machine:
    """`node` is what runs on it now, if anything does. `is_full`: its disk has no room, on purpose.
    `is_held`: somebody works on it, and starts it himself. `is_stale`: what it has is of a timeline that
    the cluster has left. `rotten`: in which of its files bits rotted, by path, while not all is known to be
    mended; then `was_refused` says that its last start was, and `stops_for_rot` how often its
    node ended by itself for that. `asked_to_rejoin`: the process that was."""

    def __init__(
        self, loop: SimLoop, network: Network, random: Random, config: Config, shared: SimDisk
    ) -> None:
        self.config = config
        self.name = config.node.id
        self.address = config.node.advertise
        self.paths = Paths(config.node.data_dir)
        self.pace = Pace()
        self.clock = SimClock(loop)
        self.disk = SimDisk(clock_ns=lambda: EPOCH_NS)
        self.process: Process | None = None
        self.node: Node | None = None
        self.commands: SimCommands | None = None
        self.starts = 0
        self.disks = 1
        self.is_full = False
        self.is_held = False
        self.is_stale = False
        self.rotten: dict[str, Rotten] = {}
        self.was_refused = False
        self.stops_for_rot = 0
        self.asked_to_rejoin: Process | None = None
        self._syncs_failed = 0
        self._loop = loop
        self._network = network
        self._random = random
        self._shared = shared
        self._net: SimNet | None = None
        self.disk.make_dirs(self.paths.root)

    @property
    def may_be_new(self) -> bool:
        """Whether it may have given its state up: it is known when it is a member again."""
        return self.asked_to_rejoin is not None

    @property
    def has_rotted(self) -> bool:
        """Whether anything on its disk did, and may not be mended yet."""
        return bool(self.rotten)

    def rots(self, path: str, kind: str, offset: int, bit: int) -> None:
        """A bit of that file does."""
        self.rotten[path] = Rotten(kind, self.disk.stat(path).inode)
        self.disk.flip(path, offset, bit)

    @property
    def running(self) -> tuple[Process, Node]:
        """What runs on it, where something surely does."""
        assert self.process is not None and self.node is not None, f"{self.name} is down"
        return self.process, self.node

    @property
    def rotten_kinds(self) -> set[str]:
        """Of all that did."""
        return {rotten.kind for rotten in self.rotten.values()}

    def kinds_at(self, path: str) -> set[str]:
        """As what the file of that name rotted: under this name, or under another one of the same file."""
        inode = self._inode(path)
        known = self.rotten.items()
        return {rotten.kind for at, rotten in known if at == path or rotten.inode == inode}

    def began_anew(self) -> None:
        """It gave its state up: what rotted in that is no matter any more, but what it has now may have
        rotted before anybody saw it."""
        self.rotten = {path: old for path, old in self.rotten.items() if self._inode(path) == old.inode}

    def _inode(self, path: str) -> int | None:
        return self.disk.stat(path).inode if not self.disk.is_dead and self.disk.exists(path) else None

    def has_asked_for(self, name: str) -> bool:
        """Whether its process asked any other machine for a file of that name."""
        return self._net is not None and name in self._net.asked_for

    def made_whole(self) -> None:
        """All that it has is good now."""
        self.rotten.clear()
        self.was_refused = False
        self.stops_for_rot = 0

    @property
    def is_up(self) -> bool:
        """Whether a process runs on it."""
        return self.process is not None and self.process.is_alive

    def is_down(self) -> bool:
        """Whether nothing runs on it, and nobody works on it."""
        return not self.is_up and not self.is_held

    def power_on(self) -> Process:
        """A fresh process, with nothing in it yet."""
        assert not self.is_up
        try:
            self.disk.check_alive()
        except SimCrash:
            self.disk = self.disk.crash(self._random)
        self.starts += 1
        self._syncs_failed = self.disk.syncs_failed
        self.process = process = self._loop.process(f"{self.name}.{self.starts}")
        process.at_death(self._died)
        return process

    async def start(self) -> Node:
        """Start a node in the process that is on, and listen. ProcessDied if a crash comes first."""
        process = self.process
        assert process is not None and self.node is None
        env = self.env(process)
        node = await process.call(Node.start(self.config, env, bootstrap=True))
        assert self._net is not None
        self.node = node
        self._network.listen(self.address, process, self._serve, self._net.handler)
        return node

    async def stop(self) -> None:
        """An orderly end: SIGTERM."""
        process, node = self.running
        await process.call(node.stop())
        self._network.hang_up(self.address)
        process.observer = None
        process.kill()
        self.disk = self.disk.kill()

    def crash(self, loses_power: bool) -> None:
        """Kill what runs; without power the disk forgets what was not synced."""
        assert self.process is not None
        self.process.kill()
        self.disk = self.disk.crash(self._random) if loses_power else self.disk.kill()

    @property
    def is_excused(self) -> bool:
        """Whether its node may stop, or refuse to start: its disk did not do what it was told."""
        return self.is_full or self.disk.syncs_failed > self._syncs_failed

    def exit(self) -> None:
        """The process ends by itself, with nothing more done; the machine stays up."""
        assert self.process is not None
        self.process.kill()
        self.disk = self.disk.kill()

    def replace_disk(self) -> None:
        """Everything on it is gone, for good; nothing runs."""
        assert not self.is_up
        self.disks += 1
        self.disk = SimDisk(clock_ns=lambda: EPOCH_NS)
        self.disk.make_dirs(self.paths.root)

    def crash_at_operation(self, count: int) -> None:
        """Lose power at the count-th change of the disk from now on."""
        self.disk.crash_at = self.disk.operations + count

    def _died(self) -> None:
        self.node = None

    def env(self, process: Process) -> Env:
        """The doors of that process."""

        def random() -> Random:
            return Random(self._random.getrandbits(64))

        self._net = self._network.door(process, self.name)
        return Env(
            clock=self.clock,
            entropy=SimEntropy(random()),
            disk=self.disk,
            net=self._net,
            jobs=SimJobs(self._loop, self.disk, self.pace, random()),
            lane=lambda _: SimLane(process, self.pace, random()),
            run_command=self._shell(random()),
            places=Mounts(self.disk, self._shared, SHARED_ROOT),
        )

    def _shell(self, random: Random) -> SimCommands:
        self.commands = SimCommands(self._loop, self.disk, self._shared, SHARED_ROOT, self.pace, random)
        return self.commands

    async def _serve(self, method: str, params: tuple[Any, ...]) -> Any:
        """What server/rpc.py does with a request."""
        node = self.node
        assert node is not None
        sink = FutureSink()
        match method, params:
            case "write", (bytes() as command,):
                node.submit_writes(sink, (0,), (command,))
                return await sink.future
            case "writes", (tuple() as commands,):
                burst = Burst(len(commands))
                node.submit_writes(burst, range(len(commands)), commands)
                return await burst.answers
            case "get", (str() as table, str() as key, bool() as stale):
                node.submit_gets(sink, (0,), (row_key(table, key),), stale=stale)
                found = await sink.future
                return found if found is not None and found[0] is not None else None
            case "leader.write", _:
                node.submit_forwarded(sink, 0, params)
                return await sink.future
        return await node.call(method, params)
