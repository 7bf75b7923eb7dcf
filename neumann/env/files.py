"""Small durable file operations, built on a Disk: used wherever a whole file is written at once."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager

from neumann.env.doors import Disk, Files, WritableFile, WritableFiles
from neumann.errors import Corrupt, DiskFull
from neumann.format import names

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Of an OSError: there is no room for what was to be written."""
_NO_ROOM = FULL - {errno.EFBIG}
_AGAIN_BYTES = 1024 * 1024


def is_full(error: BaseException | None) -> bool:
    """Whether the disk, or the quota, has no room: worth trying again. A file too big would stay so."""
    return isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _NO_ROOM)


def no_file(path: str, kind: str) -> Corrupt:
    """The error of who opens what is no regular file; `kind` as in doors.KINDS."""
    what = f"{path}: is a {kind}, and no file"
    return Corrupt(what, remedy="move it away, and look who put it there", detail={"path": path})


@contextmanager
def naming(path: str) -> Iterator[None]:
    """The detail of a Corrupt that is raised inside has this path."""
    try:
        yield
    except Corrupt as error:
        error.detail = error.detail | {"path": path}
        raise


def read_file(disk: Files, path: str) -> bytes:
    """All bytes of a file; FileNotFoundError if it is missing."""
    file = disk.open(path)
    try:
        return file.pread(file.size(), 0)
    finally:
        file.close()


def write_new(disk: WritableFiles, path: str, data: bytes) -> None:
    """Create a file with these bytes, synced; its name is not durable before sync_dir."""
    file = disk.open(path, write=True, create=True)
    try:
        file.pwrite(data, 0)
        file.sync()
    finally:
        file.close()


def write_again(file: WritableFile, begin: int, end: int) -> None:
    """Write what is there once more, for who syncs it then: after a failed fsync the system takes pages for
    clean that never reached the disk, and another fsync would only repeat that (R9)."""
    for offset in range(begin, end, _AGAIN_BYTES):
        file.pwrite(file.pread(min(_AGAIN_BYTES, end - offset), offset), offset)


def write_durable(disk: WritableFiles, path: str, data: bytes) -> None:
    """Replace a file's bytes atomically and durably: temporary name, sync, rename, sync directory."""
    temporary = path + names.TEMPORARY
    if disk.exists(temporary):
        disk.unlink(temporary)
    write_new(disk, temporary, data)
    disk.rename(temporary, path)
    disk.sync_dir(posixpath.dirname(path))


def link_over(disk: Disk, source: str, target: str) -> bool:
    """Make `target` a hard link to `source`, atomically, whatever file that is now. False, and nothing is
    done, if it is that one already. Not durable before sync_dir."""
    if disk.exists(target) and disk.stat(target).inode == disk.stat(source).inode:
        return False
    temporary = target + names.TEMPORARY
    if disk.exists(temporary):
        disk.unlink(temporary)
    disk.link(source, temporary)
    disk.rename(temporary, target)
    return True


def remove_temporaries(disk: Disk, directory: str) -> None:
    """Unlink what a crash left half-written in a directory."""
    for name in disk.list(directory):
        if name.endswith(names.TEMPORARY):
            disk.unlink(posixpath.join(directory, name))
