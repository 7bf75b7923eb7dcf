"""At most one timeline is served among nodes that reach each other (design sections 6 and 8).

A node whose data are of a timeline that the cluster was restored away from stays as it is: it does not
lead, does not serve, grants no vote and acknowledges no frame. What it may not archive is in archive.py.
"""

from __future__ import annotations

from neumann.format.message import AppendReply, Message, VoteReply
from neumann.runtime.node import Node
from tests.sim.checkers.violation import require


def check_stale(node_id: str, node: Node) -> None:
    """After each of its steps."""
    member = node.member
    if member is not None:
        term = member.raft.term
        require(member.raft.role != "leader", f"{node_id} leads term {term} of a timeline that was left")
    require(not node.serving()[0], f"{node_id} serves a timeline that was left")


def check_stale_answer(node_id: str, message: Message) -> None:
    """What it answers its peers."""
    granted = isinstance(message, VoteReply) and message.granted
    took = isinstance(message, AppendReply) and message.ok
    require(not granted and not took, f"{node_id}, of a timeline that was left, answered {message}")
