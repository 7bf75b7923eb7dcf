"""The simulated disk: env.doors.Disk in memory, which forgets what was not synced.

What survives a `crash` is what the weakest promise of POSIX leaves: file contents as of their last sync
plus a random subset of later writes, torn at sectors; names as of the last sync_dir plus a random subset
of later changes, each atomic. Syncing a file does not make its name durable. All randomness comes from
the caller's generator, so a seed names a run.

Faults: `fail_sync` (the written pages are lost and taken for clean, as Linux does; a directory's makes
the file system read-only until a reboot, as ext4 does when its journal fails), `capacity_bytes` and
`has_no_room` (ENOSPC: by size, or for the changes that it names),
`crash_at` (the n-th change raises SimCrash instead of happening), `flip` (a bit rots).
After a crash the disk is dead: every call raises SimCrash, and `crash` gave the disk to go on with.
"""

from __future__ import annotations

import copy
import errno
import os
import posixpath
from collections.abc import Callable
from functools import lru_cache
from random import Random

from neumann.env.doors import FileStat
from neumann.env.files import no_file
from neumann.errors import InUse
from tests.sim.inode import DirectoryNode, FileNode, LinkNode, NameChange, Node, Resize, Write
from tests.sim.record import Change, ContentChange, ContentSync, NamesChange, NamesSync

UNLIMITED_BYTES = 1 << 50
"""The capacity of a disk that never gets full."""
_LINKS_MAX = 40


class SimCrash(BaseException):
    """The power failed. Not an Exception, so that no handler of the product goes on after it."""


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class SimFile:
    """See doors.File."""

    def __init__(self, disk: SimDisk, node: FileNode, path: str, write: bool) -> None:
        self._disk = disk
        self._node = node
        self._path = path
        self._write = write
        self._is_open = True

    def pread(self, length: int, offset: int) -> bytes:
        self._check()
        return self._node.content.read(length, offset)

    def pwrite(self, data: bytes, offset: int) -> None:
        self._check(write=True)
        if data:
            self._grow(offset + len(data))
            self._change(Write(offset, bytes(data)))

    def size(self) -> int:
        self._check()
        return self._node.content.size

    def truncate(self, size: int) -> None:
        self._check(write=True)
        self._change(Resize(size), "truncate")

    def allocate(self, size: int) -> None:
        self._check(write=True)
        self._grow(size)
        if size > self._node.content.size:
            self._change(Resize(size), "allocate")

    def sync(self) -> None:
        self._check()
        self._disk.step("sync", self._path, ContentSync(self._node.number))
        self._disk.sync_file(self._node, self._path)

    def close(self) -> None:
        self._is_open = False

    def _change(self, change: Write | Resize, what: str = "write") -> None:
        self._disk.step(what, self._path, ContentChange(self._node.number, change))
        self._node.change(change)
        self._node.modified_ns = self._disk.clock_ns()

    def _grow(self, size: int) -> None:
        if self._disk.capacity_bytes == UNLIMITED_BYTES:
            return
        growth = size - self._node.content.size
        if growth > 0 and growth > self._disk.free_bytes("/"):
            raise _error(errno.ENOSPC, self._path)

    def _check(self, write: bool = False) -> None:
        self._disk.check_alive()
        if not self._is_open or (write and not self._write):
            raise _error(errno.EBADF, self._path)


class SimDisk:
    """See doors.Disk and the module. `operations` counts the changes so far.

    `is_dead`: it is of a machine that crashed. A write is torn at multiples of `sector_bytes`; a small
    one asks whether code trusts a sector. `record`, if it is a list, gets every change (record.py).
    """

    def __init__(
        self, capacity_bytes: int = UNLIMITED_BYTES, clock_ns: Callable[[], int] | None = None
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.operations = 0
        self.crash_at: int | None = None
        self.sector_bytes = 512
        self._clock_ns = clock_ns
        self._root = DirectoryNode(1)
        self._next_number = 2
        self._pending: list[NameChange] = []
        self.syncs_failed = 0
        self.is_read_only = False
        self._failing_syncs: list[str] = []
        self._locked: set[int] = set()
        self.is_dead = False
        self.record: list[Change] | None = None
        self.has_no_room: Callable[[Change], bool] | None = None
        self.no_room_errno = errno.ENOSPC

    # --- the world's side ------------------------------------------------------------------------

    def crash(self, rng: Random) -> SimDisk:
        """The power fails: this disk is dead, and the returned one is what the restart finds."""
        self.is_dead = True
        successor = self._successor()
        for change in self._pending:
            if rng.random() < 0.5:
                change.make_durable()
        nodes = _durable_nodes(successor._root)
        for node in nodes:
            node.links = 0
            if isinstance(node, FileNode):
                node.crash(rng, self.sector_bytes)
            elif isinstance(node, DirectoryNode):
                node.names = dict(node.durable)
        for node in nodes:
            for named in node.names.values() if isinstance(node, DirectoryNode) else ():
                named.links += 1
        return successor

    def kill(self) -> SimDisk:
        """The process dies and the machine does not: nothing is lost, locks are free."""
        self.is_dead = True
        successor = self._successor()
        successor._pending = self._pending
        successor.is_read_only, successor.record = self.is_read_only, self.record
        successor.has_no_room, successor.no_room_errno = self.has_no_room, self.no_room_errno
        return successor

    def fork(self) -> SimDisk:
        """An independent copy, as it is now, without locks."""
        other = self._successor()
        other._root, other._pending = copy.deepcopy((self._root, self._pending))
        return other

    def fail_sync(self, path_part: str = "") -> None:
        """The next sync of a path that has `path_part` fails with EIO, and what it was to sync is lost."""
        self._failing_syncs.append(path_part)

    def heal(self) -> None:
        """No sync fails any more, nothing crashes, there is room."""
        self.crash_at, self.capacity_bytes = None, UNLIMITED_BYTES
        self._failing_syncs.clear()

    def used_bytes(self) -> int:
        """What all files take."""
        files = {found for found in _names(self._root) if isinstance(found, FileNode)}
        return sum(found.content.size for found in files)

    def flip(self, path: str, offset: int, bit: int) -> None:
        """Let one bit rot."""
        node = self._file(path)
        for content in (node.content, node.durable):
            byte = content.read(1, offset)
            if byte:
                content.write(bytes([byte[0] ^ 1 << bit]), offset)

    def durable_bytes(self, path: str) -> bytes:
        """What a file has as of its last sync: what a power failure now would leave of it for sure."""
        content = self._file(path).durable
        return content.read(content.size, 0)

    # --- what SimFile uses -----------------------------------------------------------------------

    def clock_ns(self) -> int:
        """For modification times: the world's clock, or how many changes there were."""
        return self._clock_ns() if self._clock_ns is not None else self.operations

    def check_alive(self) -> None:
        if self.is_dead:
            raise SimCrash

    def step(self, what: str, path: str, does: ContentChange | ContentSync | NamesChange | NamesSync) -> None:
        """Count a change that is about to happen; crash instead if its turn has come."""
        self.check_alive()
        if self.is_read_only:
            raise _error(errno.EROFS, path)
        if self.operations == self.crash_at:
            self.is_dead = True
            raise SimCrash(f"{what} {path}")
        change = Change(what, path, does)
        if self.has_no_room is not None and self.has_no_room(change):
            raise _error(self.no_room_errno, path)
        self.operations += 1
        if self.record is not None:
            self.record.append(change)

    def sync_file(self, node: FileNode, path: str) -> None:
        if self._sync_fails(path):
            node.pending.clear()
            raise _error(errno.EIO, path)
        node.sync()

    def _sync_fails(self, path: str) -> bool:
        part = next((part for part in self._failing_syncs if part in path), None)
        if part is not None:
            self._failing_syncs.remove(part)
            self.syncs_failed += 1
        return part is not None

    # --- doors.Disk ------------------------------------------------------------------------------

    def open(self, path: str, *, write: bool = False, create: bool = False) -> SimFile:
        self.check_alive()
        if create:
            parent, name = self._parent(path)
            if name in parent.names:
                raise _error(errno.EEXIST, path)
            self._rename("create", path, (parent, name, FileNode(self._number())))
        return SimFile(self, self._file(path), path, write)

    def exists(self, path: str) -> bool:
        return self._find(path, follow=False) is not None

    def stat(self, path: str) -> FileStat:
        node = self._node(path)
        size = node.content.size if isinstance(node, FileNode) else 0
        kind = "directory" if isinstance(node, DirectoryNode) else "file"
        return FileStat(size, max(1, node.links), node.modified_ns, kind, node.number)

    def list(self, path: str) -> list[str]:
        node = self._find(path)
        if node is None:
            return []
        if not isinstance(node, DirectoryNode):
            raise _error(errno.ENOTDIR, path)
        return sorted(node.names)

    def make_dirs(self, path: str) -> None:
        if isinstance(self._find(path), DirectoryNode):
            return
        parent_path = posixpath.dirname(path)
        self.make_dirs(parent_path)
        parent, name = self._parent(path)
        if name in parent.names:
            raise _error(errno.ENOTDIR, path)
        self._rename("mkdir", path, (parent, name, DirectoryNode(self._number())))
        self.sync_dir(parent_path)

    def rename(self, source: str, target: str) -> None:
        node = self._node(source, follow=False)
        old_parent, old_name = self._parent(source)
        parent, name = self._parent(target)
        replaced = parent.names.get(name)
        if replaced is node:
            return
        if isinstance(node, DirectoryNode) and replaced is not None:
            if not isinstance(replaced, DirectoryNode):
                raise _error(errno.ENOTDIR, target)
            if replaced.names:
                raise _error(errno.ENOTEMPTY, target)
        elif isinstance(replaced, DirectoryNode):
            raise _error(errno.EISDIR, target)
        self._rename("rename", target, (old_parent, old_name, None), (parent, name, node))

    def link(self, source: str, target: str) -> None:
        node = self._node(source, follow=False)
        if isinstance(node, DirectoryNode):
            raise _error(errno.EPERM, source)
        self._add("link", target, node)

    def symlink(self, content: str, path: str) -> None:
        self._add("symlink", path, LinkNode(self._number(), content))

    def read_link(self, path: str) -> str:
        node = self._node(path, follow=False)
        if not isinstance(node, LinkNode):
            raise _error(errno.EINVAL, path)
        return node.content

    def unlink(self, path: str) -> None:
        if isinstance(self._node(path, follow=False), DirectoryNode):
            raise _error(errno.EISDIR, path)
        parent, name = self._parent(path)
        self._rename("unlink", path, (parent, name, None))

    def remove_tree(self, path: str) -> None:
        node = self._find(path, follow=False)
        if node is None:
            return
        if not isinstance(node, DirectoryNode):
            raise _error(errno.ENOTDIR, path)
        for name in sorted(node.names):
            below = posixpath.join(path, name)
            if isinstance(node.names[name], DirectoryNode):
                self.remove_tree(below)
            else:
                self.unlink(below)
        parent, name = self._parent(path)
        self._rename("rmdir", path, (parent, name, None))

    def sync_dir(self, path: str) -> None:
        node = self._node(path)
        if not isinstance(node, DirectoryNode):
            raise _error(errno.ENOTDIR, path)
        self.step("sync_dir", path, NamesSync(node.number))
        touching, others = list[NameChange](), list[NameChange]()
        for change in self._pending:
            (touching if change.touches(node) else others).append(change)
        self._pending = others
        if self._sync_fails(path):
            self.is_read_only = True
            raise _error(errno.EIO, path)
        for change in touching:
            change.make_durable()

    def free_bytes(self, path: str) -> int:
        self._node(path)
        return max(0, self.capacity_bytes - self.used_bytes())

    def lock(self, path: str) -> Callable[[], None]:
        if self._find(path) is None:
            self.open(path, write=True, create=True)
        number = self._node(path).number
        if number in self._locked:
            raise InUse(
                f"{posixpath.dirname(path)} is in use by another process", remedy="stop that server first"
            )
        self._locked.add(number)
        return lambda: self._locked.discard(number)

    # --- paths -----------------------------------------------------------------------------------

    def _find(self, path: str, follow: bool = True, links_left: int = _LINKS_MAX) -> Node | None:
        if self.is_dead:
            raise SimCrash
        node: Node = self._root
        parts = _parts(path)
        for number, part in enumerate(parts):
            if type(node) is not DirectoryNode:
                raise _error(errno.ENOTDIR, path)
            found = node.names.get(part)
            if found is None:
                return None
            if type(found) is LinkNode and (follow or number < len(parts) - 1):
                if not links_left:
                    raise _error(errno.ELOOP, path)
                target = posixpath.join("/", *parts[:number], found.content)
                resolved = self._find(target, links_left=links_left - 1)
                if resolved is None:
                    return None
                found = resolved
            node = found
        return node

    def _node(self, path: str, follow: bool = True) -> Node:
        node = self._find(path, follow)
        if node is None:
            raise _error(errno.ENOENT, path)
        return node

    def _file(self, path: str) -> FileNode:
        node = self._node(path)
        if not isinstance(node, FileNode):
            raise no_file(path, "directory")
        return node

    def _parent(self, path: str) -> tuple[DirectoryNode, str]:
        directory = self._node(posixpath.dirname(path))
        if not isinstance(directory, DirectoryNode):
            raise _error(errno.ENOTDIR, path)
        return directory, posixpath.basename(path)

    def _add(self, what: str, path: str, node: Node) -> None:
        parent, name = self._parent(path)
        if name in parent.names:
            raise _error(errno.EEXIST, path)
        self._rename(what, path, (parent, name, node))

    def _rename(self, what: str, path: str, *steps: tuple[DirectoryNode, str, Node | None]) -> None:
        self.step(what, path, NamesChange.of(steps))
        change = NameChange(steps)
        change.apply()
        self._pending.append(change)
        for directory, _, node in steps:
            directory.modified_ns = self.clock_ns()
            if node is not None and not node.modified_ns:
                node.modified_ns = self.clock_ns()

    def _number(self) -> int:
        self._next_number += 1
        return self._next_number

    def _successor(self) -> SimDisk:
        other = SimDisk(self.capacity_bytes, self._clock_ns)
        other.operations, other._next_number = self.operations, self._next_number
        other.sector_bytes, other.syncs_failed = self.sector_bytes, self.syncs_failed
        other._root = self._root
        return other


@lru_cache(maxsize=10_000)
def _parts(path: str) -> tuple[str, ...]:
    """The names on an absolute path, in order."""
    assert posixpath.isabs(path), f"{path!r} is not absolute"
    return tuple(part for part in posixpath.normpath(path).split("/") if part)


def _names(directory: DirectoryNode) -> list[Node]:
    """The node behind every name below, once for each name."""
    found: list[Node] = []
    for name in sorted(directory.names):
        node = directory.names[name]
        found.append(node)
        if isinstance(node, DirectoryNode):
            found += _names(node)
    return found


def _durable_nodes(directory: DirectoryNode) -> list[Node]:
    """What durable names lead to, and this directory: each once, in the order of their names."""
    seen: dict[int, Node] = {}
    waiting: list[Node] = [directory]
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen[id(node)] = node
            if isinstance(node, DirectoryNode):
                waiting += [node.durable[name] for name in sorted(node.durable, reverse=True)]
    return list(seen.values())
