"""What lies beside the live state on the disk: published snapshots, and what was set aside.

Nobody decides anything by it: /metrics tells it. It is looked at as often as published snapshots are.
"""

from __future__ import annotations

from typing import NamedTuple

from neumann.env import Disk
from neumann.format import names
from neumann.format.names import Paths
from neumann.recovery.swap import tree_bytes


class Usage(NamedTuple):
    """`pinned_bytes`: of files that only published snapshots hold, and that pruning would set free."""

    published: int
    pinned_bytes: int
    aside_bytes: int


def usage_of(disk: Disk, paths: Paths) -> Usage:
    """As of now; OSError for a file that goes meanwhile."""
    live: set[int] = set()
    tree_bytes(disk, paths.store, live)
    published = sum(names.parse_snapshot(name) is not None for name in disk.list(paths.snapshots))
    return Usage(published, tree_bytes(disk, paths.snapshots, live), tree_bytes(disk, paths.aside))
