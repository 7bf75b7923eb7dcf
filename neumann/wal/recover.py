"""Finds the log in its directory at start, and leaves it whole, durable and without a torn batch.

First everything is read and judged (wal/classify.py); if the judgement is corruption, nothing has been
changed. Then strays and what a torn batch left are put under aside/, durably, before anything is cut.
A frame that is found good above the sync mark stays: it is written again and synced before anybody
hears of it.
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from neumann.env.doors import Disk
from neumann.env.files import read_file, write_durable
from neumann.errors import Corrupt, WrongHistory
from neumann.format import names
from neumann.format import segment as segment_format
from neumann.format.frame import FrameHeader
from neumann.format.ids import LogPoint, Timeline
from neumann.format.segment import SegmentHeader
from neumann.format.state import SyncMark
from neumann.wal.classify import Facts, Verdict, classify
from neumann.wal.scan import scan, used_bytes
from neumann.wal.segment import Segment


class Cut(NamedTuple):
    """A torn batch that was cut: from `offset` of `path`, entries from `first_index`; copies in `kept`."""

    path: str
    offset: int
    first_index: int
    bytes: int
    kept: tuple[str, ...]


class Recovery(NamedTuple):
    """What was found: headers of all retained frames, the point before them, what was put aside."""

    headers: list[FrameHeader]
    base: LogPoint
    cut: Cut | None
    strays: tuple[str, ...]


class _Found:
    """The chain of segments from the oldest on, and what lies behind its end."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.headers: list[FrameHeader] = []
        self.why = "there is no segment"
        self.where = ""
        self.damaged: FrameHeader | None = None
        self.torn = b""
        self.files_behind: list[str] = []
        self.empty: list[str] = []

    @property
    def end(self) -> LogPoint:
        tail = self.segments[-1]
        return tail.point(len(tail.lasts))


def recover(
    disk: Disk,
    directory: str,
    cluster_id: bytes,
    timeline: Timeline,
    mark: SyncMark,
    manifest_point: LogPoint,
    aside_directory: str,
) -> tuple[list[Segment], Recovery]:
    """The segments of the log and what was found; see wal/log.py for the errors."""
    own, strays = _list(disk, directory, timeline)
    found = _read(disk, own, cluster_id, timeline, manifest_point.index)
    if not found.segments:
        raise Corrupt(
            f"{directory}: the log is missing; entries up to {mark.index} were once durable "
            f"({found.where or directory}: {found.why})",
            remedy=_REMEDY,
        )
    row = classify(_facts(found, mark, manifest_point))
    if row.verdict is Verdict.CORRUPT:
        raise Corrupt(f"the log of this node {row.why}: {_describe(found, mark)}", remedy=_REMEDY)
    for path in strays:
        _set_aside(disk, path, aside_directory)
    cut = _cut(disk, found, aside_directory) if row.verdict is Verdict.TORN else None
    _make_durable(disk, directory, found, mark)
    base = found.segments[0].previous
    return found.segments, Recovery(
        found.headers, base, cut, tuple(posixpath.basename(path) for path in strays)
    )


_REWRITE_BYTES = 1024 * 1024
_REMEDY = (
    "nothing was changed; let this node join anew (neumann-admin rejoin), or, if it is the only voter, "
    "restore it (neumann-admin wal-replay)"
)


def _list(disk: Disk, directory: str, timeline: Timeline) -> tuple[list[tuple[int, str]], list[str]]:
    own, strays = [], []
    for name in disk.list(directory):
        parsed = names.parse_segment(name)
        path = posixpath.join(directory, name)
        if parsed is not None and parsed[0] == timeline:
            own.append((parsed[1], path))
        elif parsed is not None:
            strays.append(path)
    return own, strays


def _read(
    disk: Disk, own: list[tuple[int, str]], cluster_id: bytes, timeline: Timeline, bodies_behind: int
) -> _Found:
    found = _Found()
    for number, (first_index, path) in enumerate(own):
        data = read_file(disk, path)
        if number == len(own) - 1 and not used_bytes(data):
            found.empty.append(path)
            break
        try:
            header = segment_format.decode_header(data, path)
        except Corrupt as error:
            found.why, found.where = error.message, path
            found.files_behind = [later for _, later in own[number:]]
            break
        _check_history(path, header, cluster_id, timeline)
        continues = not found.segments or (
            found.segments[-1].closed and header.previous == found.end and not found.torn
        )
        if header.first_index != first_index or not continues:
            found.where = found.where or path
            found.files_behind = [later for _, later in own[number:]]
            break
        time_ns = found.headers[-1].time_ns if found.headers else 0
        result = scan(data, Segment(path, header.previous), time_ns, bodies_behind)
        found.segments.append(result.segment)
        found.headers.extend(result.headers)
        found.why, found.where, found.damaged = result.why, path, result.damaged
        end = result.segment.end_bytes
        found.torn = data[end : end + result.bytes_behind]
    return found


def _check_history(path: str, header: SegmentHeader, cluster_id: bytes, timeline: Timeline) -> None:
    if (header.cluster_id, header.timeline) != (cluster_id, timeline):
        raise WrongHistory(
            f"{path} is of cluster {header.cluster_id.hex()}, timeline {header.timeline}; this node is of "
            f"cluster {cluster_id.hex()}, timeline {timeline}",
            remedy="move that file out of the data directory",
        )


def _facts(found: _Found, mark: SyncMark, manifest_point: LogPoint) -> Facts:
    mark_point = LogPoint(mark.index, mark.term, mark.chain)
    return Facts(
        base_index=found.segments[0].previous.index,
        end_index=found.end.index,
        mark_index=mark.index,
        manifest_index=manifest_point.index,
        mark_found=any(
            segment.first_index == mark.segment_first
            and segment.point(segment.count_through(mark.index)) == mark_point
            and segment.offset(segment.count_through(mark.index)) == mark.offset
            for segment in found.segments
        ),
        manifest_found=any(
            segment.point(segment.count_through(manifest_point.index)) == manifest_point
            for segment in found.segments
        ),
        bytes_behind=bool(found.torn),
        files_behind=bool(found.files_behind),
    )


def _describe(found: _Found, mark: SyncMark) -> str:
    tail, end = found.segments[-1], found.end
    first, last = end.index + 1, max(mark.index, end.index)
    if found.damaged is not None:
        first, last = found.damaged.first_index, max(last, found.damaged.last_index)
    what = f"entries {first}..{last} are concerned" if first <= last else "no known entry is concerned"
    files = f"; {found.files_behind[0]} does not continue it" if found.files_behind else ""
    return (
        f"{tail.path}, offset {tail.end_bytes}: {what}: {found.why}{files} (the log holds "
        f"{found.segments[0].first_index}..{end.index}; the sync mark names {mark.index}, at offset "
        f"{mark.offset} of the segment that begins at {mark.segment_first})"
    )


def _cut(disk: Disk, found: _Found, aside_directory: str) -> Cut:
    tail = found.segments[-1]
    kept = []
    if found.torn:
        disk.make_dirs(aside_directory)
        copy = _free(disk, aside_directory, f"{posixpath.basename(tail.path)}.{tail.end_bytes}.torn")
        write_durable(disk, copy, found.torn)
        kept.append(copy)
    sizes = [disk.stat(path).size_bytes for path in found.files_behind]
    kept += [_set_aside(disk, path, aside_directory) for path in reversed(found.files_behind)]
    return Cut(
        tail.path,
        tail.end_bytes,
        found.end.index + 1,
        len(found.torn) + sum(sizes),
        tuple(kept),
    )


def _set_aside(disk: Disk, path: str, aside_directory: str) -> str:
    disk.make_dirs(aside_directory)
    target = _free(disk, aside_directory, posixpath.basename(path))
    disk.rename(path, target)
    disk.sync_dir(aside_directory)
    disk.sync_dir(posixpath.dirname(path))
    return target


def _free(disk: Disk, directory: str, name: str) -> str:
    """A path that is not taken: what was set aside before is never replaced (R12)."""
    path, number = posixpath.join(directory, name), 1
    while disk.exists(path):
        number += 1
        path = posixpath.join(directory, f"{name}.{number}")
    return path


def _make_durable(disk: Disk, directory: str, found: _Found, mark: SyncMark) -> None:
    """Sync what the last run may not have synced, and leave nothing behind the last frame.

    What lies behind the mark is written once more: after a failed fsync the system takes pages for clean
    that never reached the disk, and another fsync would only repeat that (R9).
    """
    for path in found.empty:
        disk.unlink(path)
    for segment in found.segments:
        if segment.first_index < mark.segment_first and segment is not found.segments[-1]:
            continue
        begin = mark.offset if segment.first_index == mark.segment_first else 0
        file = disk.open(segment.path, write=True)
        try:
            file.truncate(segment.end_bytes)
            for offset in range(begin, segment.end_bytes, _REWRITE_BYTES):
                length = min(_REWRITE_BYTES, segment.end_bytes - offset)
                file.pwrite(file.pread(length, offset), offset)
            file.sync()
        finally:
            file.close()
    disk.sync_dir(directory)
