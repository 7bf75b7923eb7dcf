"""The log of one node: stage on the loop, write in the lane, read from anywhere (design section 4).

Invariants:
  - `stage` and `take_batch` never touch the disk; only WriteBatch.run and Drop.run do, in one lane.
  - The columns in memory tell of what was staged; `synced` tells how far it is durable.
  - A frame behind a seal goes to a new segment, which is made in the batch of the seal.
  - Frames not yet durable are in the tail cache, so whatever was staged can be read at once.
  - `read`, `locate`, `read_frames` and the lookups may be called on another thread: they work on columns
    that only grow, and a read that met a truncation is refused instead of answered.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from neumann.env.doors import Disk
from neumann.errors import Corrupt, Unavailable
from neumann.format import frame as frame_format
from neumann.format import names
from neumann.format import segment as segment_format
from neumann.format.frame import Frame, FrameDamaged, Kind
from neumann.format.ids import LogPoint, Timeline
from neumann.format.segment import SEGMENT_HEADER_BYTES, SegmentHeader
from neumann.format.state import SyncMark
from neumann.wal import lookup
from neumann.wal.recover import Loss, Recovery, recover, refuse
from neumann.wal.segment import Segment, SegmentInfo, is_seal
from neumann.wal.tail import TAIL_CACHE_BYTES, TailCache
from neumann.wal.writer import Append, Create, Drop, Operation, Seal, Synced, Truncate, WriteBatch, Writer


class Log:
    """See the module. Made by `create` or `recover`. `base`..`last` is what it holds."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        cluster_id: bytes,
        timeline: Timeline,
        segments: list[Segment],
        writer: Writer,
        cache_bytes_max: int = TAIL_CACHE_BYTES,
    ) -> None:
        assert segments
        self._disk = disk
        self._directory = directory
        self._cluster_id = cluster_id
        self._timeline = timeline
        self._segments = segments
        self._dropped_through = 0
        self._writer = writer
        self._operations: list[Operation] = []
        self._chunks: list[bytes] = []
        self._chunks_offset = 0
        self._lower_to: Synced | None = None
        self._truncations = 0
        tail = segments[-1]
        self.last: LogPoint = tail.point(len(tail.lasts))
        self._cache = TailCache(self.last.index, cache_bytes_max)

    @classmethod
    def create(
        cls,
        disk: Disk,
        directory: str,
        cluster_id: bytes,
        timeline: Timeline,
        base: LogPoint,
        segment_bytes: int,
    ) -> Log:
        """An empty log behind `base`; its first segment is durable. StorageFailed or DiskFull."""
        disk.make_dirs(directory)
        place = Synced(base.index + 1, 0, base)
        log = cls(
            disk,
            directory,
            cluster_id,
            timeline,
            [Segment(posixpath.join(directory, names.segment_name(timeline, base.index + 1)), base)],
            Writer(disk, directory, segment_bytes, place),
        )
        log._writer.run([log._create(log._segments[0])])
        return log

    @classmethod
    def recover(
        cls,
        disk: Disk,
        directory: str,
        cluster_id: bytes,
        timeline: Timeline,
        mark: SyncMark,
        manifest_point: LogPoint,
        segment_bytes: int,
        aside_directory: str,
        lose: Callable[[Loss], None] = refuse,
        durable_index: int = 0,
    ) -> tuple[Log, Recovery]:
        """The log as the last run left it, all of it durable; see wal/recover.py.

        Corrupt if it can't be gone on with (ShortOfManifest: perhaps with an older manifest), or if `lose`
        refuses; WrongHistory for segments of another cluster; then nothing was changed.
        """
        segments, recovery = recover(
            disk, directory, cluster_id, timeline, mark, manifest_point, aside_directory, lose, durable_index
        )
        tail = segments[-1]
        place = Synced(tail.first_index, tail.end_bytes, tail.point(len(tail.lasts)))
        writer = Writer(disk, directory, segment_bytes, place)
        writer.open(tail.path)
        log = cls(disk, directory, cluster_id, timeline, segments, writer)
        if tail.closed:
            writer.run([log._create(log._next_segment(tail))])
        return log, recovery

    # --- writing ---------------------------------------------------------------------------------

    def stage(self, frames: Sequence[Frame], truncate_after: int | None = None) -> None:
        """Cut the log behind `truncate_after`, then append the frames; on the loop, in memory only.

        `truncate_after` is the end of a frame at or behind the base. The frames follow one another.
        """
        if truncate_after is not None:
            self._truncate(truncate_after)
        cache, chunks = self._cache, self._chunks
        segment = self._segments[-1]
        for frame in frames:
            header, data = frame
            if not chunks:
                self._chunks_offset = segment.end_bytes
            segment.append(header)
            cache.add(header[1], data)
            chunks.append(data)
            if header.kind is Kind.MARKER and is_seal(frame):
                segment = self._seal(segment)
                chunks = self._chunks
        self.last = segment.point(len(segment.lasts))
        if cache.is_full and self._writer.truncations == self._truncations:
            cache.evict(self._writer.place.point.index)

    def take_batch(self) -> WriteBatch | None:
        """Everything staged since the last take, or None."""
        if not self._chunks and not self._operations:
            return None
        lower_to, self._lower_to = self._lower_to, None
        return WriteBatch(self._writer, self._take(), lower_to)

    def batch_behind_full(self) -> WriteBatch | None:
        """A batch without anything new, where the next segment waits for room; else None."""
        return WriteBatch(self._writer, [], None) if self._writer.waits_for_room else None

    @property
    def synced(self) -> Synced:
        """The durable end of the log, as of the last batch that was run."""
        return self._writer.place

    def place(self, index: int) -> Synced:
        """Where the frame that ends at `index` ends: what a sync mark says. `index` is a frame end."""
        segments = self._segments
        segment = segments[lookup.number_of(segments, index + 1)]
        count = segment.count_through(index)
        point = segment.point(count)
        assert point.index == index, f"{index} is no end of a frame in this log"
        return Synced(segment.first_index, segment.offset(count), point)

    def drop_before(self, index: int) -> Drop | None:
        """Forget whole sealed segments that end at or before `index`; run the answer in the lane.

        The caller has asked wal/retention.py; None if no segment can go.
        """
        segments = self._segments
        count = 0
        while self._is_sealed(segments[count]) and segments[count].last_index <= index:
            count += 1
        return self._forget(count, segments[count - 1].last_index) if count else None

    def let_go(self, index: int) -> Drop:
        """Forget all before the segment that continues `index`, and what lies before the base, damaged as it
        may be: it is not taken in again. Run the answer in the lane."""
        segments = self._segments
        count = sum(segment.last_index <= index for segment in segments[:-1])
        return self._forget(count, index)

    def _forget(self, count: int, index: int) -> Drop:
        self._segments = self._segments[count:]
        self._dropped_through = max(self._dropped_through, index)
        self._cache.forget_through(index)
        return Drop(self._disk, self._directory, self._timeline, index)

    @property
    def cluster_id(self) -> bytes:
        """Of all its segments."""
        return self._cluster_id

    @property
    def timeline(self) -> Timeline:
        """Of all its segments."""
        return self._timeline

    def has_dropped(self, first_index: int) -> bool:
        """Whether the segment that begins there was dropped; it may not be unlinked yet."""
        return first_index <= self._dropped_through

    def oldest(self) -> Segment:
        """The first segment; not to be changed. Whether it is whole tells if a repair is due."""
        return self._segments[0]

    def take_front(self, front: list[Segment]) -> bool:
        """Hold what wal/front.py read again, but for what was dropped and is not unlinked yet. False if
        nothing of it is."""
        first = self._segments[0]
        front = [segment for segment in front if segment.last_index > self._dropped_through]
        if not front or front[-1].first_index > first.first_index:
            return False
        rest = self._segments[1:] if front[-1].first_index == first.first_index else self._segments
        end = front[-1].point(len(front[-1].lasts))
        if not rest or rest[0].previous != end:
            return False
        self._segments = [*front, *rest]
        return True

    def close(self) -> None:
        """Close the open segment, after the lane's last batch. Syncs nothing: an ack was a sync."""
        self._writer.close()

    def _take(self) -> list[Operation]:
        self._end_append()
        operations, self._operations = self._operations, []
        return operations

    def _end_append(self) -> None:
        if self._chunks:
            segment = self._segments[-1]
            end = Synced(segment.first_index, segment.end_bytes, segment.point(len(segment.lasts)))
            self._operations.append(Append(segment.path, self._chunks_offset, self._chunks, end))
            self._chunks = []

    def _seal(self, segment: Segment) -> Segment:
        segment.closed = True
        self._end_append()
        self._operations.append(Seal(segment.path, segment.end_bytes))
        following = self._next_segment(segment)
        self._operations.append(self._create(following))
        return following

    def _next_segment(self, segment: Segment) -> Segment:
        point = segment.point(len(segment.lasts))
        path = posixpath.join(self._directory, names.segment_name(self._timeline, point.index + 1))
        following = Segment(path, point)
        self._segments = [*self._segments, following]
        return following

    def _create(self, segment: Segment) -> Create:
        previous = segment.previous
        header = SegmentHeader(
            self._cluster_id, self._timeline, segment.first_index, previous.term, previous.chain
        )
        end = Synced(segment.first_index, SEGMENT_HEADER_BYTES, previous)
        return Create(segment.path, segment_format.encode_header(header), end)

    def _truncate(self, index: int) -> None:
        assert index >= self.base.index, "a truncation below the log"
        if index >= self.last.index:
            assert index == self.last.index
            return
        self._end_append()
        place = self.place(index)
        segments = self._segments
        number = lookup.number_of(segments, index + 1)
        segment = segments[number]
        unlink = tuple(later.path for later in reversed(segments[number + 1 :]))
        self._truncations += 1
        self._segments = [*segments[:number], segment.trimmed(segment.count_through(index))]
        self._operations.append(Truncate(unlink, segment.path, place.offset, place))
        if self._lower_to is None or index < self._lower_to.point.index:
            self._lower_to = place
        self.last = place.point
        self._cache.cut(index)

    # --- reading ---------------------------------------------------------------------------------

    @property
    def base(self) -> LogPoint:
        """The point that the first retained frame continues."""
        return self._segments[0].previous

    @property
    def disk_bytes(self) -> int:
        """What all segments take on disk, with the room that is reserved in the open one."""
        *others, open_one = (segment.end_bytes for segment in self._segments)
        return sum(others) + max(open_one, self._writer.room_bytes)

    @property
    def open_segment_bytes(self) -> int:
        """What the open segment's header and frames fill."""
        return self._segments[-1].end_bytes

    @property
    def sealed_through(self) -> int:
        """The last entry before the open segment; the base's where that is the only one."""
        return self._segments[-1].previous.index

    def segments(self) -> list[SegmentInfo]:
        """All segments, oldest first; the last is the open one."""
        return [segment.info(self._is_sealed(segment)) for segment in self._segments]

    def end_at(self, index: int) -> LogPoint | None:
        """The frame end at `index`, the base too; None inside a frame or outside the log."""
        return lookup.end_at(self._segments, index)

    def sealed_end(self, first_index: int) -> LogPoint | None:
        """Where the segment that begins at `first_index` ends, and the next one goes on; None for the last
        one and for what the log does not hold."""
        return lookup.sealed_end(self._segments, first_index)

    def point_before(self, index: int) -> LogPoint:
        """The end of the last frame before the one that holds `index`; at most the log's last."""
        assert index > self.base.index, "below the log"
        return lookup.point_before(self._segments, index)

    def is_cached(self, after_index: int) -> bool:
        """True if what follows `after_index` is read without the disk."""
        return after_index >= self._cache.after

    def read(self, after_index: int, last_index: int) -> bytes:
        """The bytes of the frames in (after_index, last_index], which are two frame ends.

        Not checked, unless it comes from the disk short: Corrupt, with the path. Unavailable if the log does
        not hold them (any more). Reads the disk only if `is_cached` says no.
        """
        truncations = self._truncations
        data = None
        while data is None:
            split = min(max(after_index, self._cache.after), last_index)
            pieces = self.locate(after_index, split) if after_index < split else []
            read = [self._read_piece(*piece) for piece in pieces]
            data = self._join_cached(read, split, last_index)
        if truncations != self._truncations:
            raise Unavailable(f"entries {after_index + 1}..{last_index} were truncated while they were read")
        return data

    def read_frames(self, after_index: int, last_index: int) -> tuple[Frame, ...]:
        """The same as frames, each checked to its last bit. The detail of Corrupt has the path."""
        data = self.read(after_index, last_index)
        try:
            frames = frame_format.decode_run(data)
        except FrameDamaged as error:
            path = self._damaged_path(after_index, last_index)
            raise Corrupt(
                f"{path}: entries {after_index + 1}..{last_index} are damaged: {error.message}",
                detail={"path": path},
            ) from error
        assert frames[0].header.first_index == after_index + 1
        return frames

    def _damaged_path(self, after_index: int, last_index: int) -> str:
        pieces = self.locate(after_index, last_index)
        for piece in pieces:
            try:
                frame_format.decode_run(self._read_piece(*piece))
            except Corrupt:
                return piece[0]
        return pieces[0][0]

    def locate(self, after_index: int, last_index: int) -> list[tuple[str, int, int]]:
        """(path, offset, length) of the same frames, a piece for each segment.

        Frames above `synced` may not be in those files yet. Unavailable if the log no longer holds them.
        """
        return [run.piece for run in lookup.runs(self._segments, after_index, last_index)]

    def _join_cached(self, parts: list[bytes], after_index: int, last_index: int) -> bytes | None:
        """`parts` and the cached frames in (after_index, last_index]; None if one was evicted meanwhile."""
        if after_index < last_index:
            try:
                for segment, low, high in lookup.runs(self._segments, after_index, last_index):
                    parts += self._cache.get(segment.lasts[low:high])
            except KeyError:
                return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_piece(self, path: str, offset: int, length: int) -> bytes:
        try:
            file = self._disk.open(path)
        except FileNotFoundError as error:
            raise Unavailable(f"{path} was dropped from the log while it was read") from error
        try:
            data = file.pread(length, offset)
        finally:
            file.close()
        if len(data) < length:
            text = f"{path}: ends at {offset + len(data)}; {offset + length} bytes were written"
            raise Corrupt(text, detail={"path": path})
        return data

    def _is_sealed(self, segment: Segment) -> bool:
        if not (segment.closed and segment.is_whole):
            return False
        is_settled = self._writer.truncations == self._truncations
        return is_settled and self._writer.place.segment_first > segment.first_index
