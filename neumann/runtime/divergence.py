"""That a replica was found different from the others (R5) is remembered over its restarts.

A note under raft/ says so: while it is there the node neither serves nor votes, and truncates nothing.
`rejoin` sets it aside with all of raft/. One that can't be read is taken for one that says so.
"""

from __future__ import annotations

import logging

from neumann.env import Disk, Env, Lane
from neumann.env.files import read_file, write_durable
from neumann.errors import Corrupt
from neumann.format import state
from neumann.format.names import Paths
from neumann.format.state import Diverged

log = logging.getLogger(__name__)


def note(env: Env, lane: Lane, paths: Paths, text: str) -> Corrupt:
    """Write it down, in the lane; the error that ends the member."""
    data = state.encode_diverged(Diverged(text, env.clock.wall_ns()))

    def done(_: object, error: BaseException | None) -> None:
        if error is not None:
            log.error("that this replica has diverged could not be noted for the next start: %s", error)

    lane.submit(lambda: write_durable(env.disk, paths.diverged, data), done)
    return Corrupt(f"this replica has diverged: {text}", remedy="neumann-admin rejoin on this node")


def noted(disk: Disk, paths: Paths) -> str:
    """What an earlier run found, "" for nothing."""
    if not disk.exists(paths.diverged):
        return ""
    try:
        return state.decode_diverged(read_file(disk, paths.diverged), paths.diverged).text
    except Corrupt as error:
        return f"its note can't be read: {error.message}"
