"""Does a recorded beginning again, and makes the disks that a power failure at that moment may leave.

Each unsynced change survives or not, whole, independently of the others: where there are few, every subset
is made; where there are many, a seeded sample, and always all and none of them. More of the sample tear
single writes at their sectors. What is left is what SimDisk.crash would leave, without copying the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import product
from random import Random

from tests.sim.disk import SimDisk
from tests.sim.inode import DirectoryNode, FileNode, LinkNode, Node
from tests.sim.inode import NameChange as UnsyncedNames
from tests.sim.record import Change, ContentChange, ContentSync, NamesChange

TORN_SECTORS = (512, 8)


class Replay(SimDisk):
    """A disk that begins as `begin` and does what a record says."""

    def __init__(self, begin: SimDisk) -> None:
        super().__init__(clock_ns=begin.clock_ns)
        copy = begin.fork()
        self._root, self._pending = copy._root, copy._pending
        self._nodes: dict[int, Node] = {self._root.number: self._root}
        self._walk(self._root)

    def _walk(self, directory: DirectoryNode) -> None:
        for node in directory.names.values():
            self._nodes[node.number] = node
            if isinstance(node, DirectoryNode):
                self._walk(node)

    def repeat(self, change: Change) -> None:
        """Do the next change."""
        self.operations += 1
        does = change.does
        if isinstance(does, ContentChange):
            self._file_of(does.file).change(does.change)
        elif isinstance(does, ContentSync):
            self._file_of(does.file).sync()
        elif isinstance(does, NamesChange):
            self._rename_again(does)
        else:
            directory = self._nodes[does.directory]
            assert isinstance(directory, DirectoryNode)
            touching = [one for one in self._pending if one.touches(directory)]
            self._pending = [one for one in self._pending if not one.touches(directory)]
            for one in touching:
                one.make_durable()

    def _file_of(self, number: int) -> FileNode:
        node = self._nodes[number]
        assert isinstance(node, FileNode)
        return node

    def _rename_again(self, does: NamesChange) -> None:
        for blank in does.blanks:
            if blank.number not in self._nodes:
                self._nodes[blank.number] = _fresh(blank)
                self._next_number = max(self._next_number, blank.number)
        steps = []
        for directory_number, name, number in does.steps:
            directory = self._nodes[directory_number]
            assert isinstance(directory, DirectoryNode)
            steps.append((directory, name, self._nodes[number] if number is not None else None))
        change = UnsyncedNames(tuple(steps))
        change.apply()
        self._pending.append(change)

    # --- what a power failure leaves -------------------------------------------------------------

    def images(self, rng: Random, subsets_max: int, torn: int) -> Iterator[SimDisk]:
        """Every disk that a crash now may leave, if there are at most `subsets_max`; else so many of them.
        And `torn` more, if anything is unsynced."""
        files = [node for node in self._nodes.values() if isinstance(node, FileNode) and node.pending]
        count = len(self._pending) + sum(len(file.pending) for file in files)
        for kept in _choices(count, subsets_max, rng):
            survives = iter(kept)
            image, copies = self._image([next(survives) for _ in self._pending])
            for file in files:
                content = copies.get(file.number, FileNode(0)).durable
                for change, is_kept in zip(file.pending, survives, strict=False):
                    if is_kept:
                        change.apply(content)
            yield _settled(image, copies)
        for number in range(torn if count else 0):
            image, copies = self._image([rng.random() < 0.7 for _ in self._pending])
            for file in files:
                copy = copies.get(file.number)
                if copy is not None:
                    copy.pending = list(file.pending)
                    copy.crash(rng, TORN_SECTORS[number % len(TORN_SECTORS)])
            yield _settled(image, copies)

    def _image(self, kept: Sequence[bool]) -> tuple[SimDisk, dict[int, FileNode]]:
        """A disk with the durable names, these of the unsynced ones, and all files as last synced."""
        names: dict[int, dict[str, Node]] = {}
        for change, survives in zip(self._pending, kept, strict=True):
            for directory, name, node in change.steps if survives else ():
                own = names.setdefault(directory.number, dict(directory.durable))
                own.pop(name, None)
                if node is not None:
                    own[name] = node
        image = self._successor()
        made: dict[int, Node] = {}
        files: dict[int, FileNode] = {}

        def copy(node: Node) -> Node:
            if node.number in made:
                return made[node.number]
            other = made[node.number] = _fresh(node)
            other.modified_ns = node.modified_ns
            if isinstance(node, FileNode):
                assert isinstance(other, FileNode)
                other.durable, files[node.number] = node.durable.copy(), other
            elif isinstance(node, DirectoryNode):
                assert isinstance(other, DirectoryNode)
                for name, below in names.get(node.number, node.durable).items():
                    other.durable[name] = copied = copy(below)
                    copied.links += 1
                other.names = dict(other.durable)
            return other

        root = copy(self._root)
        assert isinstance(root, DirectoryNode)
        image._root = root
        return image, files


def digest_of(disk: SimDisk) -> bytes:
    """Of all names and bytes that lie there."""
    hasher = hashlib.blake2b(digest_size=16)

    def add(directory: DirectoryNode) -> None:
        for name, node in sorted(directory.names.items()):
            hasher.update(f"{name}/{node.number}/".encode())
            if isinstance(node, DirectoryNode):
                add(node)
            elif isinstance(node, FileNode):
                hasher.update(f"{node.content.size} {len(node.content.data)} ".encode())
                hasher.update(node.content.data)
            else:
                hasher.update(node.content.encode())
        hasher.update(b"..")

    add(disk._root)
    return hasher.digest()


def _choices(count: int, choices_max: int, rng: Random) -> Iterator[tuple[bool, ...]]:
    """All subsets of `count` things, the empty one first. If those are too many a sample: both ends, all but
    one, one alone, and random ones."""
    if 1 << count <= choices_max:
        yield from product((False, True), repeat=count)
        return
    yield (False,) * count
    yield (True,) * count
    for number in range(choices_max - 2):
        if number % 2:
            lone, is_kept = rng.randrange(count), rng.random() < 0.3
            yield tuple(is_kept if n == lone else not is_kept for n in range(count))
        else:
            share = rng.choice((0.2, 0.5, 0.8))
            yield tuple(rng.random() < share for _ in range(count))


def _settled(image: SimDisk, files: dict[int, FileNode]) -> SimDisk:
    for file in files.values():
        file.content = file.durable.copy()
    return image


def _fresh(node: Node) -> Node:
    if isinstance(node, LinkNode):
        return LinkNode(node.number, node.content)
    return DirectoryNode(node.number) if isinstance(node, DirectoryNode) else FileNode(node.number)
