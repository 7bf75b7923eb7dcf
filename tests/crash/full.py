"""A full disk at every point where a node needs room: each point once, then room returns.

The run is lived through once undisturbed, to know the points; then again for each of them, with ENOSPC
there, for that one change or for all that need room for a while. Nothing that was acknowledged may be
lost, clients hear errors of ours, the node stays up, and it goes on by itself when there is room again.
A write in place needs no room on most file systems; where it fails all the same, the node may stop (R9).
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from neumann.errors import DiskFull, NeumannError, OutcomeUnknown, StorageFailed, Unavailable
from tests.crash.runs import live, make, witness
from tests.crash.witness import LIMIT_S, Witness
from tests.sim.checkers.violation import Violation, require
from tests.sim.inode import Write
from tests.sim.loop import ProcessDied
from tests.sim.machine import Machine
from tests.sim.record import Change, ContentChange

LASTS_S = 1.5
_AGAIN_S = 0.1
_TAKES_NAMES = ("create", "mkdir", "rename", "link", "symlink")


class Point(NamedTuple):
    """The change number `number` of the disk finds no room; `lasts`: so do all for a while behind it."""

    number: int
    change: Change
    lasts: bool


def needs_room(change: Change) -> bool:
    """Whether a file system may need a block for it."""
    if change.what in (*_TAKES_NAMES, "allocate"):
        return True
    return change.what == "write" and not is_in_place(change)


def is_in_place(change: Change) -> bool:
    """Whether it is a write into room that the file has: the log's, or of a two-slot file."""
    does = change.does
    if not (isinstance(does, ContentChange) and isinstance(does.change, Write)):
        return False
    is_slot = change.path.endswith(("/raft/vote", "/raft/sync-mark"))
    return is_slot or ("/raft/wal/" in change.path and does.change.offset > 0)


class Roomless(Witness):
    """A world whose watched machine finds no room at one point. Clients and service managers try again.

    `found_none`: the change that was the first to find none.
    """

    must_lead = False

    def __init__(self, seed: str, node_count: int, watched: str) -> None:
        super().__init__(seed, node_count, watched)
        self.outcomes: Counter[str] = Counter()
        self.point: Point | None = None
        self.found_none: Change | None = None
        self._since_s = 0.0
        self.watched.disk.has_no_room = self._has_no_room

    def _has_no_room(self, change: Change) -> bool:
        point = self.point
        if point is None or len(self.changes) < point.number:
            return False
        if self.found_none is None:
            self.found_none, self._since_s = change, self.loop.time()
            return True
        return point.lasts and self.loop.time() < self._since_s + LASTS_S and needs_room(change)

    async def start(self, machine: Machine, crash_at: int | None = None) -> bool:
        """Again and again, as a service manager does, where it says that there is no room."""
        assert crash_at is None
        deadline_s = self.loop.time() + LIMIT_S
        while True:
            machine.is_full = True  # it may refuse
            started = await super().start(machine)
            machine.is_full = self._may_stop(machine)
            if started:
                return True
            self.outcomes["refused to start"] += 1
            if self.loop.time() > deadline_s:
                raise Violation("it does not start")
            await asyncio.sleep(_AGAIN_S)

    def _may_stop(self, machine: Machine) -> bool:
        return machine is self.watched and self.point is not None and is_in_place(self.point.change)

    def _stopped_by_itself(self, machine: Machine, error: BaseException) -> None:
        if not isinstance(error, NeumannError):
            raise Violation(f"it stops without an error of ours: {error!r}") from error
        super()._stopped_by_itself(machine, error)
        self.outcomes["stopped"] += 1
        self.loop.create_task(self.start(machine))

    async def once(self, machine: Machine, call: Any) -> Any:
        """A node that stops, or is being started again, answers nobody."""
        if machine.node is None:
            raise Unavailable(f"{machine.name} is down")
        try:
            return await super().once(machine, call)
        except ProcessDied as died:
            raise OutcomeUnknown(f"{machine.name} went down") from died

    async def stop(self, machine: Machine) -> None:
        """Once it is up."""
        await self.until(lambda: machine.node is not None, LIMIT_S, f"{machine.name} is up")
        try:
            await super().stop(machine)
        except StorageFailed:
            if not self._may_stop(machine):
                raise
            self.outcomes["stopped without its mark"] += 1
            machine.exit()

    async def on(self, machine: Machine, call: Any) -> Any:
        """Again, for as long as there is no room or no leader."""
        deadline_s = self.loop.time() + LIMIT_S
        while True:
            try:
                return await self.once(machine, call)
            except (DiskFull, Unavailable, OutcomeUnknown, StorageFailed) as error:
                if self.loop.time() > deadline_s:
                    raise
                self._told(machine, error)
            await asyncio.sleep(_AGAIN_S)

    async def write(self, machine: Machine, count: int, value_bytes: int = 20) -> None:
        """Rows that are acknowledged in the end; what a client heard is kept."""
        done, deadline_s = 0, self.loop.time() + LIMIT_S
        while done < count:
            operation, command = self._begin_write(value_bytes)
            try:
                index, outcome = await self.once(machine, lambda node, c=command: node.write(c))
            except (OutcomeUnknown, StorageFailed) as error:
                self.clients.end_unknown(operation)
                self._told(machine, error)
            except (DiskFull, Unavailable) as error:
                self.clients.end_refused(operation, str(error))
                self._told(machine, error)
            else:
                self.clients.end_write(operation, index, outcome)
                done += 1
                continue
            if self.loop.time() > deadline_s:
                raise Violation(f"writes do not go on: {self.describe()}")
            await asyncio.sleep(_AGAIN_S)

    def _told(self, machine: Machine, error: BaseException) -> None:
        """Who is told that the disk is full finds that in the metrics too."""
        self.outcomes[f"told {type(error).__name__}"] += 1
        node = machine.node
        if isinstance(error, DiskFull) and node is not None and node.gauges()["disk_full"]:
            self.outcomes["disk_full shown"] += 1


@cache
def _changes(name: str, seed: int) -> tuple[Change, ...]:
    return tuple(witness(name, seed).changes)


def points(name: str, seed: int = 1, *, in_place: bool = False) -> Iterator[Point]:
    """All points of a run: where it needs room, or, `in_place`, where it writes into room that it has."""
    for number, change in enumerate(_changes(name, seed)):
        if is_in_place(change) if in_place else needs_room(change):
            yield Point(number, change, False)
            yield Point(number, change, True)


def run_into(name: str, point: Point, seed: int = 1, *, no_room_errno: int = errno.ENOSPC) -> Roomless:
    """Live through the run that `point` is of, with no room there. Violation, with the point as a note."""
    world = make(Roomless, name, seed)
    world.point, world.watched.disk.no_room_errno = point, no_room_errno
    try:
        live(name, world)
        found = world.found_none
        require(found is not None and found[:2] == point.change[:2], f"no room for {found}, not there")
    except BaseException as error:
        lasts = "for a while" if point.lasts else "once"
        error.add_note(f"no room, {lasts}, at change {point.number}: {point.change.what} {point.change.path}")
        raise
    return world
