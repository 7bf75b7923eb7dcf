"""What an operator asks about the members: add, promote, remove, and who leads (design section 6).

Each runs on the leader, changes one server, and returns when that is committed. What is refused changed
nothing: RefusedByState (9) where the state is in the way, NotFound (10) for an unknown node id, Unavailable
(8) for what passes by itself. What is remembered stands in the configuration: who was removed, which
learners stay so, and who was added and has not joined yet (an empty storage id).
"""

from __future__ import annotations

import asyncio
from typing import Any

from neumann.config import NODE_ID, split_address
from neumann.errors import BadInput, NotFound, OutcomeUnknown, RefusedByState, Unavailable
from neumann.format.ids import LEARNER, VOTER, Configuration
from neumann.format.ids import Member as Line
from neumann.raft.quorum import majority
from neumann.runtime import views
from neumann.runtime.member import Member
from neumann.runtime.operations import needs_leader

_LOOK_AGAIN_S = 0.01


def membership(member: Member) -> dict[str, Any]:
    """The members as the leader knows them, and who was removed."""
    needs_leader(member)
    configuration = member.raft.configuration
    return {
        "index": member.raft.configuration_index,
        "members": views.members(member),
        "removed": list(configuration.removed),
        "voters_wanted": views.voters_configured(member),
    }


async def add(member: Member, node_id: str, address: str, stays_learner: bool) -> dict[str, Any]:
    """A node that may join; it becomes a learner with the disk that answers at the address."""
    needs_leader(member)
    if not NODE_ID.fullmatch(node_id):
        raise BadInput(f"{node_id!r:.80} is no node id", remedy='1 to 64 letters, digits, ".", "_", "-"')
    split_address(address)
    configuration = member.raft.configuration
    known = configuration.member(node_id)
    if known is not None:
        raise RefusedByState(
            f"{node_id} is a {known.role} already, at {known.address}",
            remedy=f"neumann-admin member-remove {node_id} first, if that node is another one",
        )
    for other in configuration.members:
        if other.address == address:
            raise RefusedByState(
                f"{address} is the address of {other.node_id}", remedy="each node has its own"
            )
    wanted = configuration.with_member(Line(node_id, b"", address, LEARNER))
    await _change(member, wanted.holding(node_id) if stays_learner else wanted)
    return membership(member)


async def promote(member: Member, node_id: str) -> dict[str, Any]:
    """A learner that has caught up becomes a voter."""
    needs_leader(member)
    known = _known(member, node_id)
    if known.role == VOTER:
        raise RefusedByState(f"{node_id} is a voter already", remedy="neumann-admin member-list")
    if not known.storage_id:
        raise RefusedByState(
            f"{node_id} has not joined yet", remedy=f"start it at {known.address}: it joins by itself"
        )
    if not member.membership.has_caught_up(node_id):
        line = next(line for line in views.members(member) if line["node_id"] == node_id)
        lag = line["lag_entries"]
        told = "has not been heard" if line["contact_age_s"] is None else f"lacks {lag} entries"
        raise Unavailable(f"{node_id} has not caught up: it {told}", remedy="try again; is it running?")
    await _change(member, member.raft.configuration.with_member(known._replace(role=VOTER)))
    return membership(member)


async def remove(member: Member, node_id: str) -> dict[str, Any]:
    """A member less, which is remembered. A leader that removes itself leads until that is committed."""
    needs_leader(member)
    known = _known(member, node_id)
    configuration = member.raft.configuration
    if known.role == VOTER:
        rest = [voter for voter in configuration.voters if voter != node_id]
        if not rest:
            raise RefusedByState(
                f"{node_id} is the only voter: without it there is no cluster",
                remedy="add another node first, or stop this one for good",
            )
        heard = [voter for voter in rest if voter in views.heard_lately(member)]
        if len(heard) < majority(len(rest)):
            raise RefusedByState(
                f"without {node_id} only {len(heard)} of {len(rest)} voters would be there: no majority",
                remedy="bring the others back first, or remove those that are lost",
            )
    await _change(member, configuration.without(node_id))
    return _answer_after_removal(member)


async def transfer(member: Member, to: str, timeout_s: float) -> dict[str, Any]:
    """Another voter leads when this returns."""
    needs_leader(member)
    raft, own = member.raft, member.identity.node_id
    if _known(member, to).role != VOTER:
        raise RefusedByState(f"{to} is a learner", remedy=f"neumann-admin member-promote {to} first")
    if to != own:
        if to not in views.heard_lately(member) or not raft.progress[to].counts:
            raise Unavailable(f"{to} has not been heard lately", remedy="is it running and connected?")
        raft.transfer_to(to)
        member.pump()
        deadline = asyncio.get_running_loop().time() + timeout_s
        while raft.leader != to:
            gave_up = raft.role == "leader" and not raft.transferring
            if gave_up or raft.leader not in ("", own):
                raise Unavailable(f"{to} did not take over; {raft.leader} leads", remedy="try again")
            if asyncio.get_running_loop().time() >= deadline:
                raise OutcomeUnknown(
                    f"nobody is known to lead after {timeout_s:g} s; {to} may take over yet",
                    remedy="neumann-admin cluster-status",
                )
            await asyncio.sleep(_LOOK_AGAIN_S)
    return {"leader": to, "term": raft.term}


def _known(member: Member, node_id: str) -> Line:
    known = member.raft.configuration.member(node_id)
    if known is None:
        names = ", ".join(m.node_id for m in member.raft.configuration.members)
        raise NotFound(f"{node_id or 'nobody'} is no member; the members are {names}", remedy="member-list")
    return known


def _answer_after_removal(member: Member) -> dict[str, Any]:
    """The membership; less of it where this node has just removed itself, and so does not lead."""
    if member.leads:
        return membership(member)
    configuration = member.raft.configuration
    lines = [{"node_id": m.node_id, "role": m.role, "address": m.address} for m in configuration.members]
    index = member.raft.configuration_index
    return {"index": index, "members": lines, "removed": list(configuration.removed)}


async def _change(member: Member, configuration: Configuration) -> None:
    """Propose, and wait for the commit: also where that ends this node's leadership."""
    raft = member.raft
    if raft.configuration_pending:
        raise Unavailable("another change of the membership is on its way", remedy="try again")
    term = raft.term
    index = member.proposer.propose_now(configuration)
    member.pump()
    while raft.commit_index < index:
        if raft.term != term or raft.role != "leader":
            raise OutcomeUnknown(
                "the leader changed while the membership was changed", remedy="neumann-admin member-list"
            )
        await asyncio.sleep(_LOOK_AGAIN_S)
    # In one term no other leader's entry stands there, whatever has followed it already.
    if raft.term != term and (raft.configuration_index != index or raft.configuration != configuration):
        raise OutcomeUnknown(
            "the membership has been changed again meanwhile", remedy="neumann-admin member-list"
        )
