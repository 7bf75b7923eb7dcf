"""Reads the log as it lies in its directory at start, and says how far it can be followed. Changes nothing.

The segments' chain is followed from the oldest file on. Where it breaks at or below the newest manifest
nothing that counts for a vote is lost: it is taken up again behind the damage, at a later segment that
leads to the manifest's point, or in the middle of a file exactly at that point, which names the whole log
before it. Whether that file goes on there, or ended with a seal, is read and never guessed: a frame behind
a seal would be in a file of another name on every other node. The files before are left as they are for the
repair (runtime/repair.py). A segment's header that was once durable says nothing that the frames before it do
not say, so it is made anew.

What the mark names may lie behind damage: `tail` is then the end of the frames that go on from its place,
or None where nothing shows that the file reached that far.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Iterator
from typing import NamedTuple

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.errors import Corrupt, WrongHistory
from neumann.format import frame as frame_format
from neumann.format import names
from neumann.format import segment as segment_format
from neumann.format.frame import Frame, FrameDamaged, FrameHeader, Kind
from neumann.format.ids import LogPoint, Timeline
from neumann.format.segment import SEGMENT_HEADER_BYTES, SegmentHeader
from neumann.format.state import SyncMark
from neumann.wal.scan import Scan, scan, used_bytes
from neumann.wal.segment import Segment, is_seal

_CHAIN = struct.Struct("<I")
_PARENT_OFFSET = 8
_NO_BODIES = (1 << 64) - 1


class Place(NamedTuple):
    """A segment file of this log."""

    first_index: int
    path: str


class Found:
    """The chain of segments that was followed, and what lies before and behind it.

    `why` and `where` say what stands behind its end; `damaged` is a frame there whose header is good.
    `torn`: the bytes behind the end in its file; `files_behind`: segments that do not continue it.
    `before`: files that lie before the chain's base, though the log is kept from the first of them;
    `lost_headers`: (path, the 64 bytes to write). `empty`: a file that a crash left without a byte.
    """

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.headers: list[FrameHeader] = []
        self.configurations: list[Frame] = []
        self.why = "there is no segment"
        self.where = ""
        self.damaged: FrameHeader | None = None
        self.torn = b""
        self.files_behind: list[str] = []
        self.empty: list[str] = []
        self.before: list[str] = []
        self.lost_headers: list[tuple[str, bytes]] = []

    @property
    def end(self) -> LogPoint:
        """Of the last frame."""
        tail = self.segments[-1]
        return tail.point(len(tail.lasts))


class Finder:
    """Reads one log's directory; see the module."""

    def __init__(
        self,
        disk: Disk,
        cluster_id: bytes,
        timeline: Timeline,
        own: list[Place],
        mark: SyncMark,
        manifest_point: LogPoint,
    ) -> None:
        self._disk = disk
        self._cluster_id = cluster_id
        self._timeline = timeline
        self._own = own
        self._mark = mark
        self._manifest_point = manifest_point

    def find(self) -> Found:
        """Follow the chain; what is broken below the manifest is passed over. WrongHistory: a segment of
        another cluster or timeline."""
        own, wanted = self._own, self._manifest_point.index
        first = self._follow(0)
        found, begin = first, 0
        while not found.segments or found.end.index < wanted:
            following = begin + max(1, len(found.segments))
            if following < len(own) and own[following].first_index <= wanted + 1:
                begin = following
                found = self._follow(begin)
            else:
                return self._resume() or first
        found.before = [path for _, path in own[:begin]]
        return found

    def tail(self) -> LogPoint | None:
        """The end of the frames that go on from the mark's place; None if it is not known to be there."""
        mark = self._mark
        point = LogPoint(mark.index, mark.term, mark.chain)
        if mark.clean:
            return point
        number = next((n for n, place in enumerate(self._own) if place[0] == mark.segment_first), None)
        if number is None:
            return None
        data = self._read(self._own[number].path)
        if isinstance(data, Corrupt) or len(data) < mark.offset or not _stands_before(data, mark):
            return None
        head = self._head(number, data, point, mark.offset)
        return self._follow(number, head).end if head is not None else point

    def _resume(self) -> Found | None:
        """Take up the chain at the manifest's point in the middle of the file that holds it; None if it isn't
        there, or nothing tells whether the file goes on behind it."""
        point = self._manifest_point
        number = sum(place.first_index <= point.index for place in self._own) - 1
        if number < 0:
            return None
        data = self._read(self._own[number].path)
        if isinstance(data, Corrupt):
            return None
        offset = _offset_of(data, point)
        mark = self._mark
        if offset is None and (mark.index, mark.term, mark.chain) == point and len(data) >= mark.offset:
            is_here = mark.segment_first == self._own[number].first_index
            offset = mark.offset if is_here else None
        head = self._head(number, data, point, offset) if offset is not None else None
        if head is None:
            return None
        found = self._follow(number, head)
        found.before = [path for _, path in self._own[:number]]
        return found

    def _head(self, number: int, data: bytes, point: LogPoint, offset: int) -> Segment | None:
        """That file from `point` on, which is durable, at `offset` of it; closed if a seal ends there. None
        if the file ends there, as a sealed one does, and nothing tells whether it was sealed."""
        first_index, path = self._own[number]
        head, sealed = Segment(path, point, first_index, offset), _is_seal(data, point)
        if sealed is None and any(place.first_index == point.index + 1 for place in self._own[number + 1 :]):
            sealed = True
        if sealed is None and len(data) == offset:
            return None
        head.closed = sealed is True
        return head

    def _follow(self, begin: int, head: Segment | None = None) -> Found:
        """The chain from segment number `begin` on; from `head` on where that file's header is not what is
        begun with."""
        found, own = Found(), self._own
        for number in range(begin, len(own)):
            first_index, path = own[number]
            data = self._read(path)
            if isinstance(data, Corrupt):
                found.why, found.where = data.message, path
                found.files_behind = [place.path for place in own[number:]]
                break
            if number == len(own) - 1 and not used_bytes(data):
                found.empty.append(path)
                break
            segment, head = head, None
            if segment is None:
                expected = found.end if found.segments else None
                previous = self._header(found, first_index, path, data, expected)
                if previous is None:
                    found.files_behind = [place.path for place in own[number:]]
                    break
                segment = Segment(path, previous)
            self._take(found, segment, data)
            if not segment.closed or found.torn:
                found.files_behind = [place.path for place in own[number + 1 :] if self._is_used(place)]
                found.empty = [place.path for place in own[number + 1 :] if not self._is_used(place)]
                break
        return found

    def _is_used(self, place: Place) -> bool:
        if place != self._own[-1]:
            return True
        data = self._read(place.path)
        return isinstance(data, Corrupt) or used_bytes(data) > 0

    def _read(self, path: str) -> bytes | Corrupt:
        """Corrupt, not raised, for what is no file: the log may be followed without it."""
        try:
            return read_file(self._disk, path)
        except Corrupt as error:
            return error

    def _header(
        self, found: Found, first_index: int, path: str, data: bytes, expected: LogPoint | None
    ) -> LogPoint | None:
        """The point that a segment continues, by its header or, where that is lost, by what is known of
        the point; None, and why in `found`, if the file does not continue the chain."""
        try:
            header = segment_format.decode_header(data, path)
        except Corrupt as error:
            point = self._manifest_point
            if expected is None and point.index + 1 == first_index:
                expected = point
            known = expected is not None and expected.index + 1 == first_index
            if known and first_index <= self._mark.segment_first and len(data) >= SEGMENT_HEADER_BYTES:
                assert expected is not None
                made = SegmentHeader(self._cluster_id, self._timeline, first_index, *expected[1:])
                found.lost_headers.append((path, segment_format.encode_header(made)))
                return expected
            found.why, found.where = error.message, path
            return None
        if (header.cluster_id, header.timeline) != (self._cluster_id, self._timeline):
            raise WrongHistory(
                f"{path} is of cluster {header.cluster_id.hex()}, timeline {header.timeline}; this node is "
                f"of cluster {self._cluster_id.hex()}, timeline {self._timeline}",
                remedy="move that file out of the data directory",
            )
        continues = expected is None or header.previous == expected
        if header.first_index != first_index or not continues:
            found.where = found.where or path
            return None
        return header.previous

    def _take(self, found: Found, segment: Segment, data: bytes) -> None:
        time_ns = found.headers[-1].time_ns if found.headers else 0
        result = scan(data, segment, time_ns, self._manifest_point.index)
        found.segments.append(segment)
        found.headers.extend(result.headers)
        found.configurations.extend(_configurations(result, data))
        found.why, found.where, found.damaged = result.why, segment.path, result.damaged
        end = segment.end_bytes
        found.torn = data[end : end + result.bytes_behind]


def list_segments(disk: Disk, directory: str, timeline: Timeline) -> tuple[list[Place], list[str]]:
    """(this timeline's segments, oldest first; the paths of others)."""
    own, strays = [], []
    for name in disk.list(directory):
        parsed = names.parse_segment(name)
        path = posixpath.join(directory, name)
        if parsed is not None and parsed[0] == timeline:
            own.append(Place(parsed[1], path))
        elif parsed is not None:
            strays.append(path)
    return own, strays


def _configurations(result: Scan, data: bytes) -> list[Frame]:
    frames, offset = [], result.segment.start_bytes
    for header in result.headers:
        if header.kind is Kind.CONFIGURATION:
            frames.append(Frame(header, data[offset : offset + header.frame_bytes]))
        offset += header.frame_bytes
    return frames


def _stands_before(data: bytes, mark: SyncMark) -> bool:
    """Whether a frame, or the segment's header, shows that the file once reached the mark's place."""
    if mark.offset == SEGMENT_HEADER_BYTES:
        return used_bytes(data[: mark.offset]) > 0
    return _offset_of(data, LogPoint(mark.index, mark.term, mark.chain)) == mark.offset


def _offset_of(data: bytes, point: LogPoint) -> int | None:
    """Where the frame that ends at `point` ends: by its header, or by that of the frame behind it."""
    for offset, header in _headers_at(data, point):
        return offset + header.frame_bytes if header.end == point else offset
    return None


def _is_seal(data: bytes, point: LogPoint) -> bool | None:
    """Whether the frame that ends at `point` is a seal; None if it is damaged, and none follows it."""
    for offset, header in _headers_at(data, point):
        if header.end != point or header.kind is not Kind.MARKER:
            return False
        try:
            return is_seal(frame_format.decode(data, offset))
        except FrameDamaged:
            continue
    return None


def _headers_at(data: bytes, point: LogPoint) -> Iterator[tuple[int, FrameHeader]]:
    """(offset, header) of the frame that ends at `point` and of the one behind it, of those that are good."""
    chain = _CHAIN.pack(point.chain)
    at = data.find(chain)
    while at >= 0:
        for offset in (at, at - _PARENT_OFFSET):
            if offset < SEGMENT_HEADER_BYTES:
                continue
            try:
                header = frame_format.decode_header(data, offset)
            except FrameDamaged:
                continue
            is_behind = (header.first_index, header.parent) == (point.index + 1, point.chain)
            if (offset == at and header.end == point) or (offset != at and is_behind):
                yield offset, header
        at = data.find(chain, at + 1)
