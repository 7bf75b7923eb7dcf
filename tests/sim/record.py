"""What the simulated disk writes down of what is done to it, so that any beginning of it can be done again.

`Replay` does it again on a disk of its own, change by change, and says what of it is not synced: what a
power failure at that moment may keep or lose. Files and directories are named by their inode numbers, as
a file that is open is, whatever its name has become. Used by tests/crash.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.sim.inode import DirectoryNode, FileNode, LinkNode, Node, Resize, Write


class ContentChange(NamedTuple):
    """A write, a truncation or an allocation."""

    file: int
    change: Write | Resize


class ContentSync(NamedTuple):
    """fdatasync of a file."""

    file: int


class NamesChange(NamedTuple):
    """Names in directories: (directory, name, what it leads to now, or None). `blanks`: what that is, new."""

    steps: tuple[tuple[int, str, int | None], ...]
    blanks: tuple[Node, ...]

    @classmethod
    def of(cls, steps: tuple[tuple[DirectoryNode, str, Node | None], ...]) -> NamesChange:
        """That change, by numbers."""
        numbered = tuple((d.number, name, node.number if node else None) for d, name, node in steps)
        return cls(numbered, tuple(_blank(node) for _, _, node in steps if node is not None))


class NamesSync(NamedTuple):
    """fsync of a directory."""

    directory: int


class Change(NamedTuple):
    """One change; `what` and `path` say it to a person."""

    what: str
    path: str
    does: ContentChange | ContentSync | NamesChange | NamesSync


def _blank(node: Node) -> Node:
    if isinstance(node, LinkNode):
        return LinkNode(node.number, node.content)
    return DirectoryNode(node.number) if isinstance(node, DirectoryNode) else FileNode(node.number)
