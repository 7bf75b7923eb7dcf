"""Every node reads all that it has, and mends what is damaged, as somebody does who runs `verify` everywhere.

What a node says that it did not read is not known to be whole: a segment that is written to still. Where bits
rotted in such a one, a restore point is asked for, whose marker seals it, and all is read again. Nor is what
a pass read that was under way already: bits may have rotted behind it. Another one follows.
A damaged copy in the archive is moved away, where wal-push asks for that.
Called by scenario.py once all trouble is over.
"""

from __future__ import annotations

import asyncio

from neumann.env.files import read_file
from neumann.errors import OutcomeUnknown, Unavailable
from neumann.runtime.node import Node
from tests.sim.checkers.archive import is_damaged
from tests.sim.checkers.violation import require
from tests.sim.disaster import rejoin
from tests.sim.loop import Process, ProcessDied
from tests.sim.machine import Machine
from tests.sim.settings import ARCHIVE
from tests.sim.world import World

LIMIT_S = 20.0
REMEDY_S = 3.0
"""How long a person looks on while a node says that it can't open what it has."""
STOPS_MAX = 10
"""How often a person starts it again that ends by itself, and says the same each time."""
_LOOK_S = 0.05


async def mend(world: World) -> None:
    """As often as that takes, one machine after the other; Violation where damage stays. What no peer has
    any more is not mended: such a node says that it is to join anew."""
    for machine in world.machines:
        machine.stops_for_rot = 0
        member_s = now_s = world.loop.time()
        deadline_s = now_s + LIMIT_S
        while not await _is_whole(machine):
            now_s = world.loop.time()
            require(now_s < deadline_s, f"{machine.name} has damage that nobody mends")
            if world.member(machine) is not None:
                member_s = now_s
            says_so = machine.is_up and now_s - member_s > REMEDY_S
            if says_so or machine.stops_for_rot > STOPS_MAX:
                await rejoin(world, machine)
                await world.until(world.is_formed, LIMIT_S, "three voters and a leader")
                deadline_s = world.loop.time() + LIMIT_S
        machine.made_whole()


def move_damaged_away(world: World, said: str) -> bool:
    """The remedy of a wal-push that says this of the copy it found; Violation if that is a good one.

    A `cp` made it of a segment that rotted while it ran, on a leader that ended before it read that again.
    No entry `archived` counts it, and only a `cp` of the next leader would replace it.
    """
    for name in world.shared.list(ARCHIVE):
        path = f"{ARCHIVE}/{name}"
        if f"{path} is there with other bytes" in said and "move it away" in said:
            data = read_file(world.shared, path)
            require(is_damaged(data, name), f"the archive's {name} is good, and it is said: {said}")
            world.note("moved away", path)
            world.shared.unlink(path)
            return True
    return False


async def _is_whole(machine: Machine) -> bool:
    """Not yet, of one that is down, or ends meanwhile: what it met it can't go on with; nor of one that is no
    member for a moment, while it installs a snapshot."""
    node, process = machine.node, machine.process
    if node is None or process is None:
        await asyncio.sleep(_LOOK_S)
        return False
    try:
        is_older = process.run(node.scrub)["running"]
        said = process.run(lambda: node.scrub(begin=True))
        while said["running"]:
            await asyncio.sleep(_LOOK_S)
            if machine.node is not node:
                return False
            said = process.run(node.scrub)
        if is_older:
            return False
        not_read = {told.partition(": ")[0] for told in said["not_read"]}
        if not not_read.isdisjoint(machine.rotten):
            await _seal(process, node)
            return False
    except (Unavailable, OutcomeUnknown, ProcessDied):
        await asyncio.sleep(_LOOK_S)
        return False
    return not said["unrepaired"]


async def _seal(process: Process, node: Node) -> None:
    """The segment that the cluster writes to now."""
    name = f"all is read, {asyncio.get_running_loop().time():.6f}"
    await process.call(node.restore_point(name, REMEDY_S))
