"""R4: log frames and sealed segments are byte-identical on every node."""

from __future__ import annotations

import posixpath
from itertools import pairwise

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.format import names
from neumann.format.checksum import digest
from tests.sim.checkers.violation import require


class SealedSegments:
    """Fed with each node's segments from time to time: name -> the bytes' digest, for ever."""

    def __init__(self) -> None:
        self.digests: dict[str, tuple[bytes, str]] = {}
        self._read: set[tuple[str, str]] = set()

    def look(self, node_id: str, disk: Disk, directory: str, commit_index: int, full: bool) -> None:
        """Compare what is sealed and committed: a segment that a committed one follows.

        `full` reads also what was read before: a sealed segment never changes.
        """
        found = [name for name in disk.list(directory) if names.parse_segment(name) is not None]
        for name, following in pairwise(found):
            parsed = names.parse_segment(following)
            assert parsed is not None
            if parsed[1] > commit_index + 1:
                break
            if not full and (node_id, name) in self._read:
                continue
            self._read.add((node_id, name))
            own = digest(read_file(disk, posixpath.join(directory, name)))
            known, where = self.digests.setdefault(name, (own, node_id))
            require(known == own, f"{name} differs on {where} and {node_id}")
