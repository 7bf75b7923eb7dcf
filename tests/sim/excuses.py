"""What a node may end by itself for, or refuse to start for, where bits rotted on its disk (docs/runbook.md).

Only for a file that did: an error that names one (`path` in its detail) must name that very file, by its path
or under another name, as a published snapshot's table is a link to the store's. One that names none is of a
start that judges the whole log, whose damage may show in what is behind it: never of a running member. Nor
may a member end for a table, or a segment that is final, that it has asked nobody for, as a peer may have it.
Called by world.py.
"""

from __future__ import annotations

import posixpath

from neumann.errors import Corrupt, RefusedByState
from neumann.format import names
from neumann.runtime.member import Member
from tests.sim.machine import Machine

MAY_REFUSE = frozenset({"segment", "manifest"})
"""Whose damage may be such that a node refuses to start: the log at the place of the newest manifest, or of
an only voter, and a manifest that no log leads to."""
MAY_STOP = MAY_REFUSE | {"table"}
"""And that a node stops by itself: it needs what no peer gave it in time."""
MAY_LOSE = frozenset({"segment"})
"""Whose damage may take frames that a node acknowledged: it raises its floor for them (R8)."""


def may_refuse(machine: Machine, error: BaseException) -> bool:
    """To start."""
    if not isinstance(error, Corrupt | RefusedByState):
        return False
    path = error.detail.get("path")
    kinds = machine.rotten_kinds if path is None else machine.kinds_at(str(path))
    return not MAY_REFUSE.isdisjoint(kinds)


def may_stop(machine: Machine, error: BaseException) -> bool:
    """By itself, after it has started."""
    if not isinstance(error, Corrupt):
        return False
    node = machine.node
    member = node.member if node is not None else None
    path = error.detail.get("path")
    if path is None:
        return member is None and not MAY_REFUSE.isdisjoint(machine.rotten_kinds)
    has_asked = member is None or _has_asked(machine, member, posixpath.basename(str(path)))
    return has_asked and not MAY_STOP.isdisjoint(machine.kinds_at(str(path)))


def _has_asked(machine: Machine, member: Member, name: str) -> bool:
    """Whether this process has asked any peer for that file, if one may have it."""
    others = [m for m in member.raft.configuration.members if m.node_id != machine.name]
    is_shared = names.parse_table(name) is not None or _is_long_settled(member, name)
    return not others or not is_shared or machine.has_asked_for(name)


def _is_long_settled(member: Member, name: str) -> bool:
    """Whether it is a segment that is final, as is the one behind it: so it was when its damage was met."""
    behind = [segment.name for segment in member.wal.segments() if segment.name > name]
    return bool(behind) and member.settled.is_settled(name) and member.settled.is_settled(behind[0])
