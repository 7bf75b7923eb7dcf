"""Verbs on the members: member-list, member-add, member-promote, member-remove, leader-transfer.

Any node may be asked. Each change prints the membership after it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from neumann.cli import output
from neumann.cli.verb import Call, verb
from neumann.errors import BadInput


@verb("member-list")
def member_list(call: Call) -> None:
    """The members: role, address, how far each has the log, and since when it was not heard."""
    reply = call.node.get("/admin/members").body
    call.show(reply, lambda: _text(reply))


@verb("member-add")
@click.argument("member", metavar="ID=HOST:PORT")
@click.option("--learner", is_flag=True, help="It stays a learner until member-promote.")
def member_add(call: Call, member: str, learner: bool) -> None:
    """Let a node join, also one that was removed. Start it with the others in its `peers`."""
    node_id, equals, address = member.partition("=")
    if not equals:
        raise BadInput(f"{member!r} is not ID=HOST:PORT", remedy="write it like n4=10.0.0.4:7878")
    body = {"id": node_id, "address": address, "learner": learner, "timeout_s": call.timeout_s}
    reply = call.node.post("/admin/members", body).body
    call.show(reply, lambda: f"{_text(reply)}\nnext  start {node_id}: it joins by itself")


@verb("member-promote")
@click.argument("node_id", metavar="ID")
def member_promote(call: Call, node_id: str) -> None:
    """Make a learner that has caught up a voter."""
    path = f"/admin/members/{quote(node_id, safe='')}/promote"
    reply = call.node.post(path, {"timeout_s": call.timeout_s}).body
    call.show(reply, lambda: _text(reply))


@verb("member-remove")
@click.argument("node_id", metavar="ID")
def member_remove(call: Call, node_id: str) -> None:
    """Remove a member, the leader too. It is remembered: only member-add takes it in again."""
    path, params = f"/admin/members/{quote(node_id, safe='')}", {"timeout_s": f"{call.timeout_s:g}"}
    reply = call.node.request("DELETE", path, params=params).body
    call.show(reply, lambda: _text(reply))


@verb("leader-transfer")
@click.option("--to", required=True, metavar="ID", help="The voter that shall lead.")
def leader_transfer(call: Call, to: str) -> None:
    """Let another voter lead; returns when it does."""
    reply = call.node.post("/admin/leader/transfer", {"to": to, "timeout_s": call.timeout_s}).body
    call.show(reply, lambda: f"{reply['leader']} leads, in term {reply['term']}")


def _text(reply: dict[str, Any]) -> str:
    rows = [
        [line["node_id"], line["role"], line["address"], position(line)] for line in reply.get("members", ())
    ]
    lines = [output.table(("id", "role", "address", "log"), rows)]
    if reply.get("removed"):
        lines.append(f"removed  {', '.join(reply['removed'])}")
    return "\n".join(lines)


def position(line: dict[str, Any]) -> str:
    """How far a member has the log, as far as the asked node knows."""
    if line.get("joined") is False:
        return "has not joined yet"
    if line.get("successor"):
        return "lost its disk; the new one is catching up"
    if line["role"] == "leader" and line.get("match") is not None:
        return f"match {output.count(line['match'])}"
    if line.get("lag_entries") is None:
        return "not heard of" if "lag_entries" in line else ""
    age = line.get("contact_age_s")
    return f"-{output.count(line['lag_entries'])} entries" + (
        "" if age is None else f" ({output.duration(age)})"
    )
