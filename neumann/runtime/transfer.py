"""The leader's side of an install: describes a published snapshot and hands out its bytes.

A peer that fetches names files by their names only; nothing outside of one snapshot's directory and the
log's sealed segments is ever opened for it.
"""

from __future__ import annotations

from typing import Any

from neumann.env import Disk
from neumann.errors import BadInput, NotFound
from neumann.format import manifest as manifest_format
from neumann.format import names
from neumann.format.history import History
from neumann.format.names import Paths
from neumann.snapshot import publish
from neumann.wal import SegmentInfo

CHUNK_BYTES_MAX = 4 * 1024 * 1024


def describe(
    disk: Disk,
    paths: Paths,
    history: History,
    snapshot_id: str,
    segments: list[SegmentInfo],
    archived_through: int | None,
) -> dict[str, Any]:
    """The manifest, its tables, and the sealed segments above archived-through that end with it.

    Only of snapshots that this node published on this timeline: users put copies of others beside them.
    """
    own = [
        p
        for p in publish.list_published(disk, paths.snapshots)
        if p.complete and p.manifest is not None and p.manifest.history == history
        if p.path == f"{paths.snapshots}/{p.id}"
    ]
    chosen = next((p for p in own if snapshot_id in ("", p.id)), None)
    if chosen is None or chosen.manifest is None:
        raise NotFound(f"no complete published snapshot {snapshot_id or 'at all'} here")
    tables = [
        [ref.name, disk.stat(f"{chosen.path}/{names.table_name(ref.digest)}").size_bytes]
        for ref in chosen.manifest.tables
    ]
    needed: list[SegmentInfo] = []
    if archived_through is not None:
        through, index = archived_through, chosen.manifest.point.index
        needed = [s for s in segments if s.sealed and through < s.last_index <= index]
    return {
        "id": chosen.id,
        "manifest": manifest_format.encode(chosen.manifest),
        "tables": tables,
        "segments": [[s.name, s.bytes] for s in needed],
    }


def read_snapshot_file(
    disk: Disk, paths: Paths, snapshot_id: str, name: str, offset: int, length: int
) -> bytes:
    """Bytes of one table of a published snapshot."""
    if names.parse_snapshot(snapshot_id) is None or names.parse_table(name) is None:
        raise BadInput(f"{snapshot_id!r} / {name!r} is no file of a snapshot")
    return _read(disk, f"{paths.snapshots}/{snapshot_id}/{name}", offset, length)


def read_table(disk: Disk, paths: Paths, name: str, offset: int, length: int) -> bytes:
    """Bytes of a table of the live state, which a peer mends its own copy with."""
    if names.parse_table(name) is None:
        raise BadInput(f"{name!r} is no table")
    return _read(disk, f"{paths.store}/{name}", offset, length)


def read_segment(disk: Disk, paths: Paths, name: str, offset: int, length: int) -> bytes:
    """Bytes of a segment of the log."""
    if names.parse_segment(name) is None:
        raise BadInput(f"{name!r} is no segment")
    return _read(disk, f"{paths.wal}/{name}", offset, length)


def _read(disk: Disk, path: str, offset: int, length: int) -> bytes:
    if not 0 < length <= CHUNK_BYTES_MAX or offset < 0:
        raise BadInput(f"a read of {length} bytes at {offset}; at most {CHUNK_BYTES_MAX} at once")
    try:
        file = disk.open(path)
    except FileNotFoundError:
        raise NotFound(f"{path} is not there any more") from None
    try:
        return file.pread(length, offset)
    finally:
        file.close()
