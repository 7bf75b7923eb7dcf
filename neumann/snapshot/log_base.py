"""The empty log that begins behind a snapshot: its first segment and its sync mark.

Used where a snapshot replaces a log: an install, and every way to form a member (recovery/formation.py).
"""

from __future__ import annotations

from neumann.env.doors import Disk
from neumann.format import names, state
from neumann.format.manifest import Manifest
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.format.state import SyncMark
from neumann.wal.log import Log
from neumann.wal.slots import TwoSlotFile


def create_log(disk: Disk, raft_directory: str, manifest: Manifest, segment_bytes: int) -> None:
    """Make `wal/` with the open segment behind the manifest's point, and `sync-mark`, all durable.

    Sealed segments that end at the point may lie in `wal/` already; nothing else may.
    """
    history, point = manifest.history, manifest.point
    disk.make_dirs(f"{raft_directory}/{names.WAL}")
    log = Log.create(
        disk, f"{raft_directory}/{names.WAL}", history.cluster_id, history.timeline, point, segment_bytes
    )
    log.close()
    mark = SyncMark(point.index + 1, SEGMENT_HEADER_BYTES, *point, point.index, point.term)
    mark_file = TwoSlotFile(
        disk, f"{raft_directory}/{names.SYNC_MARK}", state.encode_mark_slot, state.decode_mark
    )
    mark_file.create(mark)
    disk.sync_dir(raft_directory)
