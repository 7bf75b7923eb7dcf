"""The real disk: files through the operating system's own calls. The only module that opens files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable

from neumann.env.doors import KINDS, File, FileStat
from neumann.env.files import no_file
from neumann.errors import InUse

_NO_FILE = frozenset({errno.EISDIR, errno.ENXIO, errno.ENODEV})
"""What open(2) says of a directory that is to be written, and of sockets and devices."""


class RealFile:
    """A file descriptor; see doors.File."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def pread(self, length: int, offset: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        while 0 < len(data) < length:
            more = os.pread(self._fd, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def pwrite(self, data: bytes, offset: int) -> None:
        written = os.pwrite(self._fd, data, offset)
        while written < len(data):
            written += os.pwrite(self._fd, data[written:], offset + written)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def allocate(self, size: int) -> None:
        os.posix_fallocate(self._fd, 0, size)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class RealDisk:
    """See doors.Disk."""

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        flags = os.O_CLOEXEC | (os.O_RDWR if write else os.O_RDONLY)
        if create:
            return RealFile(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640))
        try:
            fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)  # a FIFO would wait for who writes it
        except OSError as error:
            if error.errno in _NO_FILE and (kind := self.stat(path).kind) != "file":
                raise no_file(path, kind) from error
            raise
        if not stat.S_ISREG(mode := os.fstat(fd).st_mode):
            os.close(fd)
            raise no_file(path, _kind(mode))
        return RealFile(fd)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def stat(self, path: str) -> FileStat:
        found = os.stat(path)
        return FileStat(
            found.st_size,
            found.st_nlink,
            found.st_mtime_ns,
            _kind(found.st_mode),
            found.st_ino,
        )

    def list(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def make_dirs(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self.make_dirs(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o750)
        self.sync_dir(parent)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def symlink(self, content: str, path: str) -> None:
        os.symlink(content, path)

    def read_link(self, path: str) -> str:
        return os.readlink(path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def remove_tree(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)

    def sync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def lock(self, path: str) -> Callable[[], None]:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 64, 0).decode(errors="replace").strip()
            os.close(fd)
            raise InUse(
                f"{os.path.dirname(path)} is in use by process {holder or '(unknown)'}",
                remedy="stop that server first",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return lambda: os.close(fd)


def _kind(mode: int) -> str:
    return KINDS[stat.filemode(mode)[0]]


def lock_holder(path: str) -> int:
    """The process that holds `RealDisk.lock(path)`, 0 for nobody, without taking it: a try, however short,
    could make a server that starts refuse. A holder in another pid namespace is not seen."""
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks", encoding="ascii") as file:
            held = [line.split() for line in file]
    except OSError:
        return 0
    for _, kind, _, _, pid, place, *_ in (words for words in held if "->" not in words):
        if kind == "FLOCK" and int(place.rpartition(":")[2]) == inode and _has_open(int(pid), path):
            return int(pid)
    return 0


def _has_open(pid: int, path: str) -> bool:
    """Whether it is that file, and not one of the same number on another file system; True for a process
    that this one may not look into."""
    try:
        opened = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return True
    for fd in opened:
        with contextlib.suppress(OSError):
            if os.path.samefile(f"/proc/{pid}/fd/{fd}", path):
                return True
    return False
