"""What lies in aside/: state that a restore, a rejoin or a repair replaced (R12). A person lists it, deletes
it, or takes it back.

Taking back is a swap like every other (swap.py): what is in place now goes aside, the old state returns,
and a crash in between is finished by the next start. A vote that comes back is that of its own storage id,
which nobody used meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

from neumann.env.doors import Disk
from neumann.errors import BadInput, NotFound, RefusedByState
from neumann.format import names
from neumann.format.journal import Journal
from neumann.format.names import Paths
from neumann.recovery import swap
from neumann.snapshot import journal

_REMEDY = "neumann-admin aside-list"


class Aside(NamedTuple):
    """What once was the state, kept until a person deletes it. `holds`: names in it."""

    id: str
    path: str
    bytes: int
    holds: tuple[str, ...]


def list_aside(disk: Disk, root: str) -> list[Aside]:
    """What lies in aside/, oldest first."""
    paths = Paths(root)
    return [
        Aside(name, f"{paths.aside}/{name}", swap.tree_bytes(disk, f"{paths.aside}/{name}"), tuple(holds))
        for name in disk.list(paths.aside)
        if (holds := disk.list(f"{paths.aside}/{name}"))
    ]


def delete_aside(disk: Disk, root: str, aside_id: str) -> int:
    """Delete one of them for good; its bytes. NotFound for another id."""
    found = find_aside(disk, root, aside_id)
    disk.remove_tree(found.path)
    disk.sync_dir(Paths(root).aside)
    return found.bytes


def return_aside(disk: Disk, root: str, aside_id: str, now_ns: int) -> str:
    """Put the state that was set aside as `aside_id` back; the aside id of what was in place, "" if nothing.

    The server must be stopped (InUse). RefusedByState where that id holds no raft/ and store/.
    """
    paths = Paths(root)
    release = disk.lock(paths.lock)
    try:
        swap.finish_or_undo(disk, root)
        found = find_aside(disk, root, aside_id)
        parts = [part for part in (names.RAFT, names.STORE) if part in found.holds]
        if not parts:
            raise RefusedByState(
                f"{found.path} holds no state of a node, only {', '.join(found.holds)}",
                remedy="look at it with neumann-admin inspect",
            )
        replaced, moves = swap.aside_moves(disk, paths, now_ns)
        place = tuple((f"{names.ASIDE}/{aside_id}/{part}", part) for part in parts)
        journal.run(disk, paths, Journal("return", moves, place))
        if not disk.list(found.path):
            disk.remove_tree(found.path)
        return replaced
    finally:
        release()


def find_aside(disk: Disk, root: str, aside_id: str) -> Aside:
    """The one of that id; BadInput for what is no id, NotFound for one that is not there."""
    if not aside_id or "/" in aside_id or aside_id.startswith("."):
        raise BadInput(f"{aside_id!r} is no aside id", remedy=_REMEDY)
    for found in list_aside(disk, root):
        if found.id == aside_id:
            return found
    raise NotFound(f"nothing is set aside as {aside_id}", remedy=_REMEDY)
