"""The interfaces of env/: what a node may ask of the outside. Two implementations: real and simulated.

Rules: disk calls are synchronous and raise OSError; whoever may not block runs them in a `Lane`. A lane
runs its functions one after the other, in order, off the event loop, and calls back on the loop. The
network is best effort: a message may be lost, doubled, late or out of order; a call may end unknown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

DoneCallback = Callable[[Any, BaseException | None], None]
"""(result, None) or (None, error), called on the event loop."""


class Clock(Protocol):
    """Wall time names moments for people; monotonic time measures. Neither decides an apply (R3)."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, UTC; may step."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back."""
        ...


class Entropy(Protocol):
    """Randomness: ids and jitter."""

    def token(self, length: int) -> bytes:
        """That many unguessable bytes."""
        ...

    def randrange(self, stop: int) -> int:
        """A number in [0, stop)."""
        ...


KINDS = {"-": "file", "d": "directory", "l": "link", "p": "FIFO", "s": "socket", "b": "device", "c": "device"}
"""What a path may be, by the letter that `ls -l` begins its line with."""


class FileStat(NamedTuple):
    """What a path is. `links` counts its names; `kind` is one of KINDS."""

    size_bytes: int
    links: int
    modified_ns: int
    kind: str
    inode: int

    @property
    def is_directory(self) -> bool:
        """True for a directory."""
        return self.kind == "directory"


class ReadableFile(Protocol):
    """An open file, read at offsets."""

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the end."""
        ...

    def size(self) -> int:
        """In bytes."""
        ...

    def close(self) -> None:
        """Release it; what was not synced may be lost."""
        ...


class WritableFile(ReadableFile, Protocol):
    """The same, and written."""

    def pwrite(self, data: bytes, offset: int) -> None:
        """All of `data`, or OSError."""
        ...

    def sync(self) -> None:
        """fdatasync: when it returns, what was written survives power loss. A failure is final (R9)."""
        ...


class File(WritableFile, Protocol):
    """An open file of this machine's disk."""

    def truncate(self, size: int) -> None:
        """Cut, or extend with zeros."""
        ...

    def allocate(self, size: int) -> None:
        """Reserve room up to `size`, as zeros; OSError ENOSPC if there is none."""
        ...


class Files(Protocol):
    """Files by path that can be read: a disk's, another host's (`host:path`), a bucket's (`s3://...`).

    What is not there is FileNotFoundError, and only that; a failure is any other error, so that the one
    is never taken for the other. What is there and no file, such as a directory, or a FIFO that nobody
    feeds, is Corrupt when it is opened, and not waited for.
    """

    def open(self, path: str) -> ReadableFile:
        """Open for reading; Corrupt for what is no file."""
        ...

    def exists(self, path: str) -> bool:
        """True for anything of that name, a dangling link too."""
        ...

    def stat(self, path: str) -> FileStat:
        """FileNotFoundError if there is nothing."""
        ...

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty where the directory is missing."""
        ...

    def read_link(self, path: str) -> str:
        """What a symbolic link holds."""
        ...


class WritableFiles(Files, Protocol):
    """The same, and written. A rename, link, unlink or create is durable after sync_dir."""

    def open(self, path: str, *, write: bool = False, create: bool = False) -> WritableFile:
        """Open; `create` makes it and fails if it is there. Corrupt for what is no file."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Atomic; replaces a file."""
        ...

    def link(self, source: str, target: str) -> None:
        """A second name of a file; FileExistsError if taken."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a file's name."""
        ...

    def sync_dir(self, path: str) -> None:
        """fsync of a directory: the names in it survive power loss."""
        ...


class Disk(WritableFiles, Protocol):
    """This machine's files, by absolute path."""

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        """Open; `create` makes it and fails if it is there. Corrupt for what is no file."""
        ...

    def make_dirs(self, path: str) -> None:
        """The directory and its parents; each new name made durable."""
        ...

    def symlink(self, content: str, path: str) -> None:
        """A symbolic link that holds `content`."""
        ...

    def remove_tree(self, path: str) -> None:
        """Remove a directory with all in it; nothing if it is missing."""
        ...

    def free_bytes(self, path: str) -> int:
        """Room left on its file system, for an ordinary user."""
        ...

    def lock(self, path: str) -> Callable[[], None]:
        """Hold an exclusive lock on that file until the returned function is called; InUse if taken."""
        ...


class Lane(Protocol):
    """One worker that runs functions in order, off the event loop."""

    def submit(self, work: Callable[[], Any], done: DoneCallback) -> None:
        """Run `work`, then call `done` on the loop."""
        ...

    def run(self, work: Callable[[], Any]) -> Awaitable[Any]:
        """The same for who can await."""
        ...

    def close(self) -> None:
        """Finish what was submitted, then end."""
        ...


class Jobs(Protocol):
    """Heavy pure work on files (flush, merge), in a helper process."""

    async def run(self, function: str, params: Mapping[str, object]) -> dict[str, Any]:
        """Call `module:function`(disk, params) there; both mappings are MessagePack-able."""
        ...

    async def close(self) -> None:
        """End the helper."""
        ...


class CommandEnd(NamedTuple):
    """How a shell command ended. `reason`: "ok", "exit", "signal", "timeout", "not_found", "exec"."""

    reason: str
    status: int
    stderr_tail: str


class PeerHandler(Protocol):
    """What a node gives the network."""

    def on_message(self, payload: bytes, reply: Callable[[bytes], None]) -> None:
        """A peer's request; `reply` answers on the connection that it came on."""
        ...

    def on_reply(self, address: str, payload: bytes) -> None:
        """An answer, on the connection that we dialled to `address`."""
        ...


class Net(Protocol):
    """Messages between peers."""

    def send(self, address: str, payload: bytes) -> None:
        """To the node that listens at `host:port`, best effort; never blocks."""
        ...

    async def call(self, address: str, method: str, params: list[object], timeout_s: float) -> Any:
        """Ask and await the answer; Unavailable or OutcomeUnknown if there is none in time."""
        ...

    def bind(self, handler: PeerHandler) -> None:
        """Where answers go."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


@dataclass(slots=True)
class Env:
    """All doors of one node. `lane(name)` makes a new lane."""

    clock: Clock
    entropy: Entropy
    disk: Disk
    net: Net
    jobs: Jobs
    lane: Callable[[str], Lane]
    run_command: Callable[[str, str, float], Awaitable[CommandEnd]]
    """(shell command, working directory, time limit in seconds): a time-out kills its process group."""
    places: Files
    """Files by any name: this disk's, another host's, a bucket's (env/places.py)."""
