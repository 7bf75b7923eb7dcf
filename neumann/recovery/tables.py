"""Bringing a snapshot's tables to where a new state is made: linked within one data directory, copied
from anywhere else, so that a backup shares no byte with what becomes of it. They are read thrice: at their
source by a plan (`check`), by the copy, and where the new state is, every byte and row, before it is swapped
in (`content_of`)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from neumann.env.doors import Disk, Files
from neumann.errors import Corrupt
from neumann.format import names
from neumann.format import table as table_format
from neumann.format.checksum import DIGEST_BYTES
from neumann.format.manifest import Manifest, TableRef
from neumann.format.names import Paths
from neumann.format.table import Columns
from neumann.store.merge import BLOCKS_AT_ONCE, merge
from neumann.store.table_reader import Table

_COPY_BYTES = 1024 * 1024


class Content(NamedTuple):
    """What a state holds: live rows, and the content digest over them."""

    rows: int
    digest: bytes


def check(files: Files, directory: str, manifest: Manifest) -> None:
    """Read every table of a snapshot; Corrupt if one is not what the manifest names, FileNotFoundError
    where it is missing."""
    for ref in manifest.tables:
        Table(files, f"{directory}/{names.table_name(ref.digest)}", ref).check()


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

    Corrupt names a table that is missing. What was copied is not read here: `content_of` does it.
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
        if _is_linked(source, root):
            disk.link(f"{source}/{name}", f"{target}/{name}")
        elif whole := _whole(disk, reuse, ref):
            disk.link(whole, f"{target}/{name}")
        else:
            copied += _copy(files, disk, f"{source}/{name}", f"{target}/{name}")
    disk.sync_dir(target)
    return copied


def copied_bytes(
    disk: Disk, source: str, refs: Sequence[TableRef], root: str, files: Files, reuse: Sequence[str] = ()
) -> int:
    """How many bytes `bring` would copy."""
    if _is_linked(source, root):
        return 0
    missing = [ref for ref in refs if not _whole(disk, reuse, ref)]
    return sum(_size(files, f"{source}/{names.table_name(ref.digest)}") for ref in missing)


def reusable(disk: Disk, paths: Paths) -> list[str]:
    """Directories of a node that hold tables."""
    published = [f"{paths.snapshots}/{name}" for name in disk.list(paths.snapshots)]
    return [paths.store, *published]


def _is_linked(source: str, root: str) -> bool:
    """Whether what lies there is linked, and not copied, to below `root`."""
    return source.startswith(f"{root}/")


def _whole(disk: Disk, directories: Sequence[str], ref: TableRef) -> str:
    """Where the first of these directories has the table whole; "" for none."""
    for directory in directories:
        path = f"{directory}/{names.table_name(ref.digest)}"
        if disk.exists(path):
            with contextlib.suppress(Corrupt):
                Table(disk, path, ref).check()
                return path
    return ""


def _size(files: Files, path: str) -> int:
    file = files.open(path)
    try:
        return file.size()
    finally:
        file.close()


def content_of(disk: Files, directory: str, manifest: Manifest) -> Content:
    """Read every row of a state at rest, and verify every byte of its tables."""
    sources = [
        _joined(Table(disk, f"{directory}/{names.table_name(ref.digest)}", ref).verified_runs())
        for ref in manifest.tables
    ]
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    rows = 0
    for run in merge(sources, drop_tombstones=True):
        rows += len(run.keys)
        digest.update(table_format.content_bytes(run))
    return Content(rows, digest.digest())


def _joined(runs: Iterator[Columns]) -> Iterator[Columns]:
    """As large as a merge wants them."""
    while some := list(islice(runs, BLOCKS_AT_ONCE)):
        yield table_format.concatenate(some)


def _copy(files: Files, disk: Disk, source: str, target: str) -> int:
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
    disk.rename(building, target)
    return size
