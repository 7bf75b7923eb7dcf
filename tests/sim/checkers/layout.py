"""R5: at the index of a snapshot marker every replica has the same tables with the same digests."""

from __future__ import annotations

import posixpath

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.format import manifest as manifest_format
from neumann.format import names
from tests.sim.checkers.violation import require


class Layout:
    """Fed with each node's manifests from time to time: snapshot id -> layout digest, for ever."""

    def __init__(self) -> None:
        self.digests: dict[str, tuple[bytes, str]] = {}
        self._read: set[tuple[str, str]] = set()

    def look(self, node_id: str, disk: Disk, store_directory: str, full: bool) -> None:
        """Compare the manifests that lie there; `full` reads also what was read before."""
        for name in disk.list(store_directory):
            if names.parse_manifest(name) is None or (not full and (node_id, name) in self._read):
                continue
            self._read.add((node_id, name))
            path = posixpath.join(store_directory, name)
            found = manifest_format.decode(read_file(disk, path), path)
            own = manifest_format.layout_digest(found)
            known, where = self.digests.setdefault(f"{found.history.timeline}/{name}", (own, node_id))
            require(known == own, f"snapshot {found.snapshot_id} differs on {where} and {node_id}")
