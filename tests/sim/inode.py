"""What the simulated disk is made of: files and directories that know which changes are durable.

A file's unsynced writes, and a directory's unsynced names, are kept in order beside the durable state.
`sync` applies them; a crash applies a random subset, and of a write a random subset of its sectors.
Every node counts its names, as seen by a lookup.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random


class Content:
    """Bytes with a size; what was never written reads as zeros and takes no memory."""

    __slots__ = ("data", "size")

    def __init__(self, data: bytes | bytearray = b"", size: int = 0) -> None:
        self.data = bytearray(data)
        self.size = size

    def copy(self) -> Content:
        return Content(self.data, self.size)

    def read(self, length: int, offset: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        return bytes(self.data[offset : offset + length]).ljust(length, b"\0")

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = data
        self.size = max(self.size, end)

    def resize(self, size: int) -> None:
        del self.data[size:]
        self.size = size


@dataclass(frozen=True, slots=True)
class Write:
    """An unsynced write."""

    offset: int
    data: bytes

    def apply(self, content: Content) -> None:
        content.write(self.data, self.offset)

    def apply_torn(self, content: Content, rng: Random, sector_bytes: int) -> None:
        """Some sectors arrive, and perhaps the new size; what is beyond the size is not seen."""
        end = self.offset + len(self.data)
        if end > content.size and rng.random() < 0.5:
            content.resize(end)
        survives = rng.choice((0.0, 0.5, 1.0))
        start = self.offset
        while start < end:
            stop = min(end, (start // sector_bytes + 1) * sector_bytes, content.size)
            if stop <= start:
                break
            if rng.random() < survives:
                content.write(self.data[start - self.offset : stop - self.offset], start)
            start = stop


@dataclass(frozen=True, slots=True)
class Resize:
    """An unsynced truncation or allocation."""

    size: int

    def apply(self, content: Content) -> None:
        content.resize(self.size)

    def apply_torn(self, content: Content, rng: Random, sector_bytes: int) -> None:
        """It arrives or not, whole."""
        assert sector_bytes > 0
        if rng.random() < 0.5:
            content.resize(self.size)


@dataclass(slots=True, eq=False)
class FileNode:
    """A file. `content` is what a read sees; `durable` and `pending` are what a crash sees."""

    number: int
    content: Content = field(default_factory=Content)
    durable: Content = field(default_factory=Content)
    pending: list[Write | Resize] = field(default_factory=list)
    modified_ns: int = 0
    links: int = 0

    def change(self, change: Write | Resize) -> None:
        change.apply(self.content)
        self.pending.append(change)

    def sync(self) -> None:
        for change in self.pending:
            change.apply(self.durable)
        self.pending.clear()

    def crash(self, rng: Random, sector_bytes: int) -> None:
        for change in self.pending:
            change.apply_torn(self.durable, rng, sector_bytes)
        self.pending.clear()
        self.content = self.durable.copy()


@dataclass(slots=True, eq=False)
class LinkNode:
    """A symbolic link."""

    number: int
    content: str
    modified_ns: int = 0
    links: int = 0


@dataclass(slots=True, eq=False)
class DirectoryNode:
    """A directory. `names` is what a lookup sees, `durable` what a crash leaves of it."""

    number: int
    names: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)
    modified_ns: int = 0
    links: int = 0


Node = FileNode | LinkNode | DirectoryNode


@dataclass(frozen=True, slots=True, eq=False)
class NameChange:
    """One atomic change of names: each (directory, name) gets a node, or None."""

    steps: tuple[tuple[DirectoryNode, str, Node | None], ...]

    def touches(self, directory: DirectoryNode) -> bool:
        for changed, _, _ in self.steps:  # noqa: SIM110
            if changed is directory:
                return True
        return False

    def apply(self) -> None:
        for directory, name, node in self.steps:
            replaced = directory.names.get(name)
            if replaced is not None:
                replaced.links -= 1
            if node is not None:
                node.links += 1
            _put(directory.names, name, node)

    def make_durable(self) -> None:
        for directory, name, node in self.steps:
            _put(directory.durable, name, node)


def _put(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node
