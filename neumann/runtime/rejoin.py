"""`rejoin`: this node gives its state up for another one's (design section 6). PURE.

Only a person asks for it, and nothing is destroyed: raft/ and store/ go to `aside/`. But the cluster counts
on what a voter has, so it is refused where this node's state may be the only one, or part of
the only majority. What justifies it, on a running node or on a directory alike:

    a peer's leader serves another history      this node's state is no part of it
    the leader goes on without this node        a majority of the voters is up and has what is committed
    the cluster's configuration lacks it        it was removed (startup.was_removed: a peer that just joined
                                                knows an older one than this node does)

The leader that goes on without it is asked once more when its member is closed, and has the last word
(`whom_to_ask`, leaving.py): what was answered before holds for that moment only.

A directory whose server is stopped may also go aside where no peer answers at all, if it is not the only
voter's: the whole cluster is stopped, as a restore wants it, and whoever typed it stopped it.
"""

from __future__ import annotations

from collections.abc import Mapping

from neumann.errors import RefusedByState
from neumann.runtime.startup import Answer, Found, was_removed

_KEEP = "neumann-admin cluster-status on a peer; a cluster that is lost is restored with wal-replay"


def refusal(
    found: Found, node_id: str, answers: Mapping[str, Answer], *, is_stopped: bool
) -> RefusedByState | None:
    """Why this node has to keep its state; None if it may give it up."""
    needed_by = ""
    for answer in answers.values():
        if not answer.leader or answer.leader == node_id or answer.history is None:
            continue
        if answer.history != found.history:
            return None
        if node_id in answer.spares:
            return None
        needed_by = answer.leader
    if needed_by and was_removed(found, node_id, answers) is not None:
        return None
    if found.sole_voter:
        text = f"{node_id} is the only voter of its cluster: its state may be the only one"
    elif needed_by:
        text = (
            f"{needed_by} leads, and does not know a majority of voters without {node_id} that has caught up"
        )
    elif answers or not is_stopped:
        text = f"nobody else leads the cluster of {node_id}: its state may be part of the only majority"
    else:
        return None
    return RefusedByState(f"{text}; nothing was changed", remedy=_KEEP)


def whom_to_ask(found: Found, node_id: str, answers: Mapping[str, Answer]) -> Answer | None:
    """Of a state that is not refused: who knows the leader that has to let it go; None where it carries no
    vote, where another history is served, and where the whole cluster is stopped."""
    leading = [a for a in answers.values() if a.leader not in ("", node_id) and a.history is not None]
    if not found.vote or any(a.history != found.history for a in leading):
        return None
    return max(leading, key=lambda a: node_id in a.spares, default=None)
