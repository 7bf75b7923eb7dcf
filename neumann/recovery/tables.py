"""Bringing a snapshot's tables to where a new state is made: linked within one data directory, copied
from anywhere else and then read whole, so that a backup shares no byte with what becomes of it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from neumann.env.doors import Disk, Files
from neumann.errors import Corrupt
from neumann.format import names
from neumann.format import table as table_format
from neumann.format.checksum import DIGEST_BYTES
from neumann.format.manifest import Manifest, TableRef
from neumann.snapshot.verify import open_view
from neumann.store.table_reader import Table

_COPY_BYTES = 1024 * 1024


class Content(NamedTuple):
    """What a state holds: live rows, and the content digest over them."""

    rows: int
    digest: bytes


def bring(
    disk: Disk,
    source: str,
    target: str,
    refs: Sequence[TableRef],
    root: str,
    files: Files | None = None,
    reuse: Sequence[str] = (),
) -> int:
    """Bring these tables from `source` to `target`, durably; bytes copied. `root`: the data directory;
    `files`: where `source` is read, if it may lie elsewhere than on this disk. `reuse`: directories below
    `root` whose whole tables of the same digest are linked instead of copied.

    Corrupt names a table that is missing or not what its manifest says.
    """
    files = files or disk
    disk.make_dirs(target)
    copied = 0
    for ref in refs:
        name = names.table_name(ref.digest)
        if disk.exists(f"{target}/{name}"):
            continue
        if not files.exists(f"{source}/{name}"):
            raise Corrupt(f"{source}/{name} is missing, and the snapshot's manifest names it")
        if source.startswith(f"{root}/"):
            disk.link(f"{source}/{name}", f"{target}/{name}")
        elif not _link_whole(disk, reuse, target, ref):
            copied += _copy(files, disk, f"{source}/{name}", f"{target}/{name}", ref)
    disk.sync_dir(target)
    return copied


def _link_whole(disk: Disk, directories: Sequence[str], target: str, ref: TableRef) -> bool:
    """Link the table from the first directory that has it whole, every byte read; False for none."""
    name = names.table_name(ref.digest)
    for directory in directories:
        if disk.exists(f"{directory}/{name}"):
            with contextlib.suppress(Corrupt):
                Table(disk, f"{directory}/{name}", ref).verify()
                disk.link(f"{directory}/{name}", f"{target}/{name}")
                return True
    return False


def content_of(disk: Files, directory: str, manifest: Manifest) -> Content:
    """Read every row of a state at rest."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    rows = 0
    for run in open_view(disk, directory, manifest).runs():
        rows += len(run.keys)
        digest.update(table_format.content_bytes(run))
    return Content(rows, digest.digest())


def _copy(files: Files, disk: Disk, source: str, target: str, ref: TableRef) -> int:
    building = target + names.TEMPORARY
    if disk.exists(building):
        disk.unlink(building)
    reading = files.open(source)
    writing = disk.open(building, write=True, create=True)
    try:
        size = reading.size()
        for offset in range(0, size, _COPY_BYTES):
            writing.pwrite(reading.pread(_COPY_BYTES, offset), offset)
        writing.sync()
    finally:
        reading.close()
        writing.close()
    Table(disk, building, ref).verify()
    disk.rename(building, target)
    return size
