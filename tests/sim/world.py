"""The simulated world: machines that run whole nodes, a network between them, clients, and the rules.

One seed decides everything: delays, faults, what clients do and which unsynced bytes a crash leaves.
After every step of a node its core is looked at and compared with all the others (checkers/); files
are compared from time to time and at the end. A broken rule, an error that nobody handled, or a node
that refuses to start fails the run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple, Self

from neumann.config import Config
from neumann.errors import NeumannError, NotFound
from neumann.format import message
from neumann.format.frame import Frame
from neumann.format.ids import LogPoint
from neumann.recovery import swap
from neumann.runtime.member import Member
from tests.sim.checkers.archive import Archive
from tests.sim.checkers.clients import Clients
from tests.sim.checkers.committed import Committed
from tests.sim.checkers.election import ElectionSafety
from tests.sim.checkers.layout import Layout
from tests.sim.checkers.log_matching import LogMatching
from tests.sim.checkers.matches import Matches
from tests.sim.checkers.promises import Promises
from tests.sim.checkers.replicas import compare_rows
from tests.sim.checkers.segments import SealedSegments
from tests.sim.checkers.sessions import Sessions
from tests.sim.checkers.timelines import check_stale, check_stale_answer
from tests.sim.checkers.violation import Violation, require
from tests.sim.clients import Client, Setting
from tests.sim.disk import SimDisk
from tests.sim.excuses import MAY_LOSE, may_refuse, may_stop
from tests.sim.loop import ProcessDied, SimLoop, current_process
from tests.sim.machine import Machine
from tests.sim.net import Network
from tests.sim.operator import Operator
from tests.sim.retrying import RetryingClient
from tests.sim.settings import ARCHIVE, make_config
from tests.sim.trace import Trace

FILES_CHECK_S = 0.5
"""Of the machines whose process ended, those that are rebooted before it is started again."""
SKEW_NS = 400_000_000
ARCHIVED_SHARE = 0.5
_REPAIRS = {
    "mended %s": "repaired",
    "written anew": "repaired",
    "nobody needs it": "let go",
    "does not campaign until": "floors",
}
"""What a log line with these words counts as."""


class _TraceHandler(logging.Handler):
    """Puts what the nodes log into the trace."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = current_process()
        where = process.name if process is not None else "-"
        for text, event in _REPAIRS.items():
            self._world.counts[event] += text in str(record.msg)
        self._world.note("log", where, record.levelname, record.getMessage())


class _Seen(NamedTuple):
    """What was last seen of a node; it is looked at closely only when something changed."""

    role: str
    term: int
    leader: str
    commit_index: int
    last: LogPoint
    member: Member


class World:
    """Machines n1..nN. Use it as a context manager inside of which `loop.run` is called."""

    def __init__(
        self,
        seed: str,
        node_count: int = 3,
        keep_trace: bool = False,
        configure: Callable[[str, dict[str, str], Random, bool], Config] = make_config,
    ) -> None:
        self.seed = seed
        self.loop = SimLoop()
        self.trace = Trace(keep_trace)
        self.network = Network(self.loop, self.random("network"), self.trace)
        self.shared = SimDisk()
        self.shared.make_dirs(ARCHIVE)
        self.is_archived = self.random("archive").random() < ARCHIVED_SHARE
        peers = {f"n{i}": f"n{i}:7878" for i in range(1, node_count + 1)}
        self.machines = []
        for name in peers:
            config = configure(name, peers, self.random(f"{name}/config"), self.is_archived)
            machine = Machine(self.loop, self.network, self.random(name), config, self.shared)
            machine.clock.skew_ns = self.random(f"{name}/clock").randrange(-SKEW_NS, SKEW_NS)
            self.machines.append(machine)
        self.segments = SealedSegments()
        self.layout = Layout()
        self.archives: list[Archive] = []
        self.committed = Committed()
        self.clients = Clients(self.committed)
        self.network.sniffers.append(self._hear)
        self._begin_timeline()
        self.counts: Counter[str] = Counter()
        self.fault_kinds: set[str] = set()
        self._client_count = 0
        self._operators: list[Operator] = []
        self.is_calm = False
        self.rest_factor = 1.0
        self._seen: dict[str, _Seen] = {}
        self._storages: dict[str, bytes] = {}
        self._logger = logging.getLogger("neumann")
        self._handler = _TraceHandler(self)

    def __enter__(self) -> Self:
        self._logger.addHandler(self._handler)
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.close()
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(logging.NOTSET)
        self._logger.propagate = True

    def _begin_timeline(self) -> None:
        """Terms, votes and sessions begin anew with each; `committed` and `clients` are of this one."""
        self.election = ElectionSafety()
        self.promises = Promises()
        self.log_matching = LogMatching()
        self.matches = Matches()
        self.sessions = Sessions(self.committed)
        self.archives.append(Archive(self.committed, len(self.archives) + 1))

    @property
    def archive(self) -> Archive:
        """The current timeline's."""
        return self.archives[-1]

    def restored(self, cut_index: int, base: LogPoint) -> None:
        """The cluster goes on behind `base`, with what was committed up to `cut_index`."""
        self.counts["restores"] += 1
        self.counts["leader changes"] += max(0, len(self.election.leaders) - 1)
        self.counts["repeats"] += self.sessions.repeats
        self.archive.is_closed = True
        self.committed = self.committed.restored(cut_index, base)
        self.clients = self.clients.restored(self.committed, cut_index)
        self._seen.clear()
        self._storages.clear()
        self._begin_timeline()

    def random(self, purpose: str) -> Random:
        """An own stream of numbers for each purpose, so that one more draw here changes nothing there."""
        return Random(f"{self.seed}/{purpose}")

    def note(self, kind: str, *fields: object) -> None:
        """An event of the world itself, into the trace."""
        self.counts[kind] += 1
        self.trace.note(self.loop.time(), kind, *fields)

    def fault(self, kind: str, *fields: object) -> None:
        """Something goes wrong, on purpose."""
        self.counts["faults"] += 1
        self.fault_kinds.add(kind)
        self.note(kind, *fields)

    async def rest(self, seconds: float) -> None:
        """The time between two faults, or between a fault and its mending."""
        await asyncio.sleep(seconds * self.rest_factor)

    # --- machines --------------------------------------------------------------------------------

    async def start(self, machine: Machine, crash_at: int | None = None) -> bool:
        """Start a node there; False if it crashed on the way, at the latest at that change of its disk.

        A refusal to start fails the run, unless its disk is the reason; of what rotted there, only what the
        runbook says a node may refuse to start for.
        """
        self.note("start", machine.name)
        self.counts["power losses"] += machine.disk.is_dead
        process = machine.power_on()
        if crash_at is not None:
            machine.crash_at_operation(crash_at)
        self._seen.pop(machine.name, None)
        process.observer = partial(self._observe, machine)
        try:
            await machine.start()
        except ProcessDied:
            return False
        except (NeumannError, OSError) as error:
            machine.was_refused = may_refuse(machine, error)
            self.counts["refused for rot"] += machine.was_refused
            if not (machine.is_excused or machine.is_stale or machine.was_refused):
                raise
            self.note("refused to start", machine.name, type(error).__name__, error)
            machine.exit()
            return False
        self.note("started", machine.name)
        return True

    def calm(self) -> None:
        """Trouble ends: each kind of fault mends what it broke, and what is started now stays up."""
        self.is_calm = True
        self.note("calm")
        self.reboot_read_only()

    def reboot_read_only(self) -> None:
        """Nothing else makes a file system writable again; a node that waits for a leader waits on."""
        for machine in self.machines:
            if machine.is_up and machine.disk.is_read_only:
                self.crash(machine)

    def crash(self, machine: Machine, loses_power: bool = True) -> None:
        """Kill a machine, or only its process, now."""
        self.fault("crash", machine.name, loses_power)
        machine.crash(loses_power)

    def wipe(self, machine: Machine) -> None:
        """Its disk is lost, and an empty one is in its place; what it promised, nobody remembers."""
        if machine.is_up:
            machine.crash(loses_power=True)
        machine.replace_disk()
        self.promises.forgot(machine.name)
        self._storages.pop(machine.name, None)

    def set_aside(self, machine: Machine) -> bool:
        """`neumann-admin rejoin` on a node that is stopped: it joins without state at its next start. False
        where its disk fails that: then it is typed again."""
        assert not machine.is_up
        process = machine.power_on()
        try:
            process.run(swap.rejoin, machine.disk, machine.paths.root, machine.clock.wall_ns())
        except NotFound:
            self.note("is aside already", machine.name)
        except (NeumannError, OSError) as error:
            if not machine.is_excused:
                raise
            self.note("not set aside", machine.name, type(error).__name__, error)
            return False
        finally:
            machine.exit()
        self.promises.forgot(machine.name)
        self.note("rejoined", machine.name)
        self._storages.pop(machine.name, None)
        machine.is_stale = False
        machine.made_whole()
        return True

    def has_spare(self) -> bool:
        """Whether one disk may be lost: all are voters with what they have, whole, and that is committed."""
        leader = self.leader()
        settled = not any(operator.removed for operator in self._operators)
        settled &= not any(machine.has_rotted or machine.may_be_new for machine in self.machines)
        settled &= leader is not None and leader.raft.configuration_index <= leader.raft.commit_index
        return settled and self.is_formed()

    async def stop(self, machine: Machine) -> None:
        """An orderly stop."""
        self.note("stop", machine.name)
        await machine.stop()

    # --- watching --------------------------------------------------------------------------------

    def _observe(self, machine: Machine) -> None:
        """After each callback of that machine's process."""
        if machine.disk.is_dead:
            assert machine.process is not None
            machine.process.kill()
            return
        node = machine.node
        if node is None:
            return
        if node.failed.done():
            self._stopped_by_itself(machine, node.failed.result())
            return
        member = node.member
        if member is None:
            return
        raft = member.raft
        if machine.is_stale:
            check_stale(machine.name, node)
            return
        now = (raft.role, raft.term, raft.leader, raft.commit_index, raft.last, member)
        before = self._seen.get(machine.name)
        if now != before:
            self._seen[machine.name] = _Seen(*now)
            if before is None or before.member is not member:
                before = self._identify(machine, member, before)
            self._check(machine.name, member, before)

    def _stopped_by_itself(self, machine: Machine, error: BaseException) -> None:
        """A node says that it can't go on: right where its disk failed it (R9), or has damage that no peer
        could mend in time; wrong elsewhere."""
        for_rot = may_stop(machine, error)
        if not machine.is_excused and not for_rot:
            raise error
        self.counts["stopped for rot"] += for_rot
        machine.stops_for_rot += for_rot
        self.note("stopped by itself", machine.name, type(error).__name__, error)
        machine.exit()

    def _identify(self, machine: Machine, member: Member, before: _Seen | None) -> _Seen | None:
        """What is known from before of who runs there: nothing of one that gave its state up, as asked."""
        name, storage_id = machine.name, member.identity.storage_id
        known = self._storages.setdefault(name, storage_id)
        if known == storage_id:
            if machine.asked_to_rejoin is not machine.process:
                machine.asked_to_rejoin = None
            return before
        if not machine.may_be_new:  # what it promised is held against it all the same
            self._storages[name] = storage_id
            return before
        self.note("rejoined", name)
        self.promises.forgot(name)
        self._storages[name] = storage_id
        machine.disks += 1
        machine.asked_to_rejoin = None
        machine.began_anew()
        return None

    def _check(self, name: str, member: Member, before: _Seen | None) -> None:
        raft = member.raft
        if before is None or before.member is not member:
            self.committed.started(name)
            self.election.started(name)
            if before is not None:
                self.note("installed", name, raft.log.base.index, raft.last.index)
                self.promises.installed(name, before.member.raft.log, raft.log)
            machine = next(machine for machine in self.machines if machine.name == name)
            may_lose = not MAY_LOSE.isdisjoint(machine.rotten_kinds)
            self.promises.started(name, raft.term, raft.log, raft.floor, may_lose=may_lose)
        elif raft.log.base.index < before.last.index and raft.log.end_at(before.last.index) != before.last:
            self.promises.truncated(name, raft.log)
            self.note("truncated", name, before.last.index, raft.last.index)
        self.election.saw(name, raft.term, raft.leader)
        self.log_matching.saw(name, raft.log)
        self.committed.saw(name, raft.term, raft.commit_index, raft.log, lambda a, b: _read(member, a, b))
        if raft.role == "leader":
            self.matches.saw(name, raft.term, raft.last.index, raft.progress)
            if before is None or (before.role, before.term) != (raft.role, raft.term):
                self.committed.leads(name, raft.term, raft.log)
        self.note("raft", name, raft.role, raft.term, raft.leader, raft.commit_index, *raft.last)

    def _hear(self, source: str, target: str, answer: bytes) -> None:
        said = message.decode(answer).message
        if any(machine.is_stale and machine.name == source for machine in self.machines):
            check_stale_answer(source, said)
        else:
            self.promises.answered(source, target, said)

    def check_files(self, full: bool = False) -> None:
        """R4 and R5 on every machine that serves, R6; `full` reads again what was read before."""
        for archive in self.archives:
            archive.look(self.shared, ARCHIVE)
        for machine in self.machines:
            member = self.member(machine)
            if member is not None and not machine.is_stale and not machine.has_rotted:
                # What is committed may stand on other disks only, and here what it replaces.
                index = min(member.raft.commit_index, member.raft.durable_index)
                self.segments.look(machine.name, machine.disk, machine.paths.wal, index, full)
                self.layout.look(machine.name, machine.disk, machine.paths.store, full)

    async def watch_files(self) -> None:
        """Check files again and again."""
        while True:
            await asyncio.sleep(FILES_CHECK_S)
            self.check_files()

    def member(self, machine: Machine) -> Member | None:
        """The running member there."""
        return machine.node.member if machine.node is not None else None

    def leader(self) -> Member | None:
        """The member that leads the highest term, if it can take writes."""
        members = [self.member(machine) for machine in self.machines if not machine.is_stale]
        leading = [member for member in members if member is not None and member.leads]
        return max(leading, key=lambda m: m.raft.term, default=None)

    def leading(self) -> Machine:
        """The machine of the leader, which there is."""
        leader = self.leader()
        return next(machine for machine in self.machines if self.member(machine) is leader)

    # --- waiting ---------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], bool], limit_s: float, what: str) -> None:
        """Wait for something; Violation if it does not happen in time."""
        deadline_s = self.loop.time() + limit_s
        while not holds():
            if self.loop.time() >= deadline_s:
                raise Violation(f"not within {limit_s:g} s: {what}; {self.describe()}")
            await asyncio.sleep(0.01)

    def is_formed(self) -> bool:
        """Every machine is a voter, with the very storage that it has now, and one leads."""
        leader = self.leader()
        if leader is None:
            return False
        configuration = leader.raft.configuration
        storages = {name: configuration.member(name) for name in configuration.voters}
        return len(storages) == len(self.machines) and all(
            (known := storages.get(machine.name)) is not None
            and (member := self.member(machine)) is not None
            and known.storage_id == member.identity.storage_id
            for machine in self.machines
        )

    def is_converged(self) -> bool:
        """Every machine has applied everything that is committed, and one leads."""
        last = self.committed.last.index
        members = [self.member(machine) for machine in self.machines]
        return self.leader() is not None and all(
            m is not None and m.raft.commit_index == last == m.applier.applied_index for m in members
        )

    def describe(self) -> str:
        """Where everybody is, for a person."""
        said = []
        for machine in self.machines:
            member, node = self.member(machine), machine.node
            if member is not None:
                raft = member.raft
                said.append(
                    f"{machine.name} {raft.role} term {raft.term} leader {raft.leader or '-'} last"
                    f" {raft.last.index} commit {raft.commit_index} applied {member.applier.applied_index}"
                )
            else:
                said.append(f"{machine.name} {node.serving()[1] if node is not None else 'down'}")
        return "; ".join(said)

    # --- clients ---------------------------------------------------------------------------------

    def client(self, number: int, is_reader: bool) -> Client:
        """A client outside of all machines."""
        self._client_count += 1
        name = f"c{self._client_count}"
        addresses = [machine.address for machine in self.machines]
        net = self.network.door(None, name)
        random = self.random(name)
        setting = Setting(self.loop, name, net, addresses, random, self.clients, self.trace, is_reader)
        if number % 2 or is_reader:
            return Client(setting)
        return RetryingClient(setting, self.sessions)

    def operator(self) -> Operator:
        """Who administers the cluster."""
        number = f"operator/{len(self._operators)}"
        operator = Operator(self.machines, self.random(number), self.layout, self.note, self.has_spare)
        self._operators.append(operator)
        return operator

    def finish_checks(self) -> None:
        """When everybody has converged: replicas equal the model, files are equal, nothing was lost."""
        require(self.is_converged(), f"not converged; {self.describe()}")
        for machine in self.machines:
            member = self.member(machine)
            assert member is not None
            view = member.store.view()
            compare_rows(machine.name, view, self.committed.model)
            revisions = {row: version[1] for row, version in view.scan()}
            self.sessions.finish(machine.name, revisions, member.applier.state.sessions)
        self.check_files(full=True)
        self.clients.finish()


def _read(member: Member, after: int, last: int) -> Sequence[Frame]:
    frames: list[Frame] = []
    while after < last:
        frames += member.wal.read_frames(after, last)
        after = frames[-1].header.last_index
    return frames
