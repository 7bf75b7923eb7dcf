"""The lane's side of the log: does, in order, what the loop's side has decided, and syncs once a batch.

Rules:
  - A truncation is durable before a byte is written behind it: later segments are unlinked newest
    first, then the directory is synced, then the file is cut and synced (design section 4).
  - A segment is trimmed and synced before the next one is made; the next one's header and name are
    durable before it gets a frame.
  - A failed write or sync is final: every later batch fails at once (R9).
  - Room is reserved before frames are written into it. If there is none (DiskFull) nothing is lost:
    what was queued stays queued, and the same batch, or a later one, may be run again. A seal counts
    as written although the next segment can't be made yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from neumann.env.doors import Disk, File
from neumann.env.files import is_full
from neumann.errors import DiskFull, StorageFailed
from neumann.format.ids import LogPoint, Timeline
from neumann.wal.find import list_segments


class Synced(NamedTuple):
    """A place in the log: the frame that ends at `point` ends at `offset` of segment `segment_first`.

    Behind a seal it is the head of the next segment, once that is there.
    """

    segment_first: int
    offset: int
    point: LogPoint


class Append(NamedTuple):
    """Write frames of one segment, one behind the other."""

    path: str
    offset: int
    chunks: list[bytes]
    end: Synced


class Seal(NamedTuple):
    """Trim the open segment to its frames; nothing is written to it any more."""

    path: str
    size: int


class Create(NamedTuple):
    """Make the next segment."""

    path: str
    header: bytes
    end: Synced


class Truncate(NamedTuple):
    """Unlink whole segments, newest first, and cut the one before them to `size`."""

    unlink: tuple[str, ...]
    path: str
    size: int
    end: Synced


Operation = Append | Seal | Create | Truncate


class Writer:
    """The one writer of a log; used in its lane only, save for `place`, `truncations`, `waits_for_room` and
    `room_bytes`, which change when a batch is run, and which anybody may read.

    `place` is the durable end of the log, and `truncations` counts those that are behind it.
    `room_bytes` is the size of the open segment's file.
    `waits_for_room`: the next segment could not be made; running a batch, even an empty one, tries again.
    `segment_bytes` is how much room is reserved at a time.
    """

    def __init__(self, disk: Disk, directory: str, segment_bytes: int, place: Synced) -> None:
        assert segment_bytes > 0
        self.place = place
        self.room_bytes = 0
        self._disk = disk
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._queue: deque[Operation] = deque()
        self._file: File | None = None
        self._path = ""
        self._failed = ""
        self.truncations = 0
        self.waits_for_room = False
        self._reached = place
        self._is_dirty = False

    def open(self, path: str) -> None:
        """Go on with an existing segment."""
        self.close()
        self._file = self._disk.open(path, write=True)
        self._path = path
        self.room_bytes = self._file.size()

    def run(self, operations: list[Operation]) -> Synced:
        """Do what is queued and then these; returns the log's durable end. StorageFailed, DiskFull."""
        self._queue.extend(operations)
        if self._failed:
            raise StorageFailed(self._failed, remedy="restart the node")
        try:
            self._drain()
        except OSError as error:
            self._failed = f"writing the log in {self._directory} failed: {error}"
            raise StorageFailed(self._failed, remedy="check the disk, then restart the node") from error
        finally:
            self.waits_for_room = bool(self._queue)
        return self.place

    def close(self) -> None:
        """Close the open segment."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _drain(self) -> None:
        queue = self._queue
        while queue:
            try:
                self._do(queue[0])
            except DiskFull:
                if self._file is None or any(isinstance(waiting, Append) for waiting in queue):
                    raise
                break
            queue.popleft()
        if self._is_dirty:
            assert self._file is not None
            self._file.sync()
            self._is_dirty = False
        self.place = self._reached

    def _do(self, operation: Operation) -> None:
        if isinstance(operation, Append):
            self._append(operation)
            self._reached = operation.end
        elif isinstance(operation, Seal):
            self._seal(operation)
        elif isinstance(operation, Create):
            self._create(operation)
            self._reached = operation.end
        else:
            self._truncate(operation)
            # Also where what follows finds no room: the end before it is in the log no more.
            self._reached = self.place = operation.end
            self.truncations += 1

    def _append(self, operation: Append) -> None:
        file, chunks = self._file, operation.chunks
        assert file is not None and operation.path == self._path
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        end = operation.offset + len(data)
        if end > self.room_bytes:
            room_bytes = -(-end // self._segment_bytes) * self._segment_bytes
            with _told_apart(self._path):
                file.allocate(room_bytes)
            self.room_bytes = room_bytes
        self._is_dirty = True
        file.pwrite(data, operation.offset)

    def _seal(self, operation: Seal) -> None:
        assert self._file is not None and operation.path == self._path
        self._file.truncate(operation.size)
        self._file.sync()
        self._is_dirty = False

    def _create(self, operation: Create) -> None:
        file: File | None = None
        try:
            with _told_apart(operation.path):
                file = self._disk.open(operation.path, write=True, create=True)
                file.pwrite(operation.header, 0)
                file.allocate(max(self._segment_bytes, len(operation.header)))
        except DiskFull:
            if file is not None:
                file.close()
                self._disk.unlink(operation.path)
            raise
        file.sync()
        self._disk.sync_dir(self._directory)
        self.close()
        self._file, self._path = file, operation.path
        self.room_bytes = file.size()

    def _truncate(self, operation: Truncate) -> None:
        self.close()
        for path in operation.unlink:
            self._disk.unlink(path)
        if operation.unlink:
            self._disk.sync_dir(self._directory)
        self.open(operation.path)
        assert self._file is not None
        self._file.truncate(operation.size)
        self._file.sync()
        self.room_bytes = operation.size
        self._is_dirty = False


class WriteBatch:
    """All that was staged since the batch before: one unit of work for the lane (group commit).

    `lower_to`: before a batch that truncates is run, a sync mark above this place is lowered to it,
    durably; None if nothing is truncated. Batches of a log are run in the order they were taken.
    """

    __slots__ = ("_operations", "_writer", "lower_to")

    def __init__(self, writer: Writer, operations: list[Operation], lower_to: Synced | None) -> None:
        self._writer = writer
        self._operations = operations
        self.lower_to = lower_to

    def run(self) -> Synced:
        """Write and sync. StorageFailed is final; after DiskFull it, or a later batch, may be run again."""
        operations, self._operations = self._operations, []
        return self._writer.run(operations)


class Drop:
    """The lane's part of dropping the log up to `last_index`, where a segment ends: also what lay before the
    log's base. After a crash none is missing before an older one."""

    __slots__ = ("_directory", "_disk", "_last_index", "_timeline")

    def __init__(self, disk: Disk, directory: str, timeline: Timeline, last_index: int) -> None:
        self._disk = disk
        self._directory = directory
        self._timeline = timeline
        self._last_index = last_index

    def run(self) -> None:
        """Unlink the segments, oldest first, each durably; OSError if that fails."""
        own, _ = list_segments(self._disk, self._directory, self._timeline)
        for place in own:
            if place.first_index <= self._last_index:
                self._disk.unlink(place.path)
                self._disk.sync_dir(self._directory)


@contextmanager
def _told_apart(path: str) -> Iterator[None]:
    """Turn "no space" into DiskFull; any other OSError goes on."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise DiskFull(
            f"no room to extend the log: {path}: {error.strerror}",
            remedy="free space on that file system; the node goes on by itself",
        ) from error
