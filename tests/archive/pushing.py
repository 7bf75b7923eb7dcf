"""A node's sealed segments and history file, to be pushed: on any disk, with a real log's bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from neumann.archive.destinations import directory_destination
from neumann.archive.push import Pushed, push
from neumann.env.doors import Disk
from neumann.env.files import read_file, write_new
from neumann.format import history as history_format
from neumann.format import names
from neumann.format.history import History
from tests.recovery.world import Cluster

ARCHIVE = "/archive"
D = TypeVar("D", bound=Disk)


@dataclass
class Node(Generic[D]):
    """`segments` and `history_path` are the files that its archiver would push, oldest first."""

    disk: D
    cluster: Cluster
    history_path: str
    segments: list[str]

    @property
    def files(self) -> list[str]:
        return [self.history_path, *self.segments]


def make_node(disk: D, base: str = "/node", seed: int = 1, segments: int = 2) -> Node[D]:
    """A new cluster's node in `base`, with that many sealed segments of two entries and the seal."""
    cluster = Cluster.fresh(disk, base, seed)
    for number in range(segments):
        cluster.put(f"a{number}", number)
        cluster.put(f"b{number}", "x" * 50)
        cluster.seal()
    path = write_history(disk, cluster.paths.raft, cluster.manifest.history)
    sealed = [s.path for s in cluster.log.segments() if s.sealed]
    return Node(disk, cluster, path, sealed)


def write_history(disk: Disk, directory: str, history: History) -> str:
    """As the archiver does before it pushes it; its path."""
    path = f"{directory}/{names.history_name(history.timeline)}"
    write_new(disk, path, history_format.encode(history))
    disk.sync_dir(directory)
    return path


def push_to(
    disk: Disk, path: str, directory: str = ARCHIVE, *, token: bytes = b"12345678", create: bool = False
) -> Pushed:
    """wal-push on one disk."""
    return push(disk, path, directory_destination(disk, directory, token), create=create)


def contents(disk: Disk, directory: str = ARCHIVE) -> dict[str, bytes]:
    """Every file of a directory."""
    return {name: read_file(disk, f"{directory}/{name}") for name in disk.list(directory)}


def expected(node: Node[D], count: int | None = None) -> dict[str, bytes]:
    """What an archive of the first so many files holds."""
    return {path.rpartition("/")[2]: read_file(node.disk, path) for path in node.files[:count]}
