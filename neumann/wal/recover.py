"""Finds the log in its directory at start, and leaves it whole, durable and without a torn batch.

First everything is read and judged (wal/find.py, wal/classify.py). Is something given up that was once
durable, then `lose` is told before anything is changed: it keeps the floor, lowers the mark, or refuses.
Then strays and what is cut are put under aside/, durably, before anything is cut. A frame that is found
good above the sync mark stays: it is written again and synced before anybody hears of it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import NamedTuple

from neumann.env.doors import Disk
from neumann.env.files import write_again, write_durable
from neumann.errors import Corrupt
from neumann.format.frame import Frame, FrameHeader
from neumann.format.ids import LogPoint, Timeline
from neumann.format.state import SyncMark
from neumann.wal.classify import ENDS_BELOW_MANIFEST, Facts, Row, Verdict, classify
from neumann.wal.find import Finder, Found, list_segments
from neumann.wal.segment import Segment
from neumann.wal.writer import Synced


class Loss(NamedTuple):
    """What a start gives up of what was once durable. `text` says it in one line.

    `end` is where the log will end. `tail` is the end of the last frame that may have been acknowledged,
    None where it is not known. `configurations` are the frames of that kind that stay.
    """

    text: str
    end: Synced
    tail: LogPoint | None
    configurations: tuple[Frame, ...]


class Cut(NamedTuple):
    """What was cut: from `offset` of `path`, entries from `first_index`; copies in `kept`."""

    path: str
    offset: int
    first_index: int
    bytes: int
    kept: tuple[str, ...]


class Recovery(NamedTuple):
    """What was found: headers of all retained frames, the point before them, what was put aside.

    `before`: files of the log before `base`, behind which it was damaged; `mended`: segments whose
    header was made anew.
    """

    headers: list[FrameHeader]
    base: LogPoint
    cut: Cut | None
    strays: tuple[str, ...]
    before: tuple[str, ...]
    mended: tuple[str, ...]


class ShortOfManifest(Corrupt):
    """The log can't be followed up to the store's newest manifest; an older one may still be reached."""


REMEDY = (
    "nothing was changed; let this node join anew (neumann-admin rejoin), or, if it is the only voter, "
    "restore it (neumann-admin wal-replay)"
)


def refuse(loss: Loss) -> None:
    """Give up nothing."""
    raise Corrupt(loss.text, remedy=REMEDY)


def recover(
    disk: Disk,
    directory: str,
    cluster_id: bytes,
    timeline: Timeline,
    mark: SyncMark,
    manifest_point: LogPoint,
    aside_directory: str,
    lose: Callable[[Loss], None] = refuse,
    durable_index: int = 0,
) -> tuple[list[Segment], Recovery]:
    """The segments of the log and what was found; see wal/log.py for the errors.

    `durable_index`: entries up to there were once durable, wherever the mark stands.
    """
    own, strays = list_segments(disk, directory, timeline)
    finder = Finder(disk, cluster_id, timeline, own, mark, manifest_point)
    found = finder.find()
    if not found.segments:
        raise Corrupt(
            f"{directory}: the log is missing; entries up to {mark.index} were once durable "
            f"({found.where or directory}: {found.why})",
            remedy=REMEDY,
        )
    tail = finder.tail() if found.end.index <= mark.index else found.end
    if found.end.index < durable_index and mark.index < durable_index:
        tail = None
    row = classify(_facts(found, mark, manifest_point, tail, durable_index))
    text = f"the log of this node {row.why}: {_describe(found, mark)}"
    if row.name == ENDS_BELOW_MANIFEST:
        raise ShortOfManifest(text, remedy=REMEDY)
    if row.verdict is Verdict.REFUSED:
        raise Corrupt(text, remedy=REMEDY)
    if row.verdict in (Verdict.DAMAGED, Verdict.LOST):
        last = found.segments[-1]
        end = Synced(last.first_index, last.end_bytes, found.end)
        lose(Loss(text, end, tail, tuple(found.configurations)))
    return found.segments, _settle(disk, directory, found, row, strays, mark, aside_directory)


def _settle(
    disk: Disk, directory: str, found: Found, row: Row, strays: list[str], mark: SyncMark, aside: str
) -> Recovery:
    for path in strays:
        _set_aside(disk, path, aside)
    cut = _cut(disk, found, aside) if found.torn or found.files_behind else None
    assert cut is None or row.verdict is not Verdict.WHOLE
    _make_durable(disk, directory, found, mark)
    return Recovery(
        found.headers,
        found.segments[0].previous,
        cut,
        tuple(posixpath.basename(path) for path in strays),
        tuple(found.before),
        tuple(path for path, _ in found.lost_headers),
    )


def _facts(
    found: Found, mark: SyncMark, manifest_point: LogPoint, tail: LogPoint | None, durable_index: int
) -> Facts:
    mark_point = LogPoint(mark.index, mark.term, mark.chain)
    base = found.segments[0].previous
    return Facts(
        base_index=base.index,
        end_index=found.end.index,
        mark_index=max(mark.index, durable_index),
        manifest_index=manifest_point.index,
        mark_found=(mark.segment_first <= base.index and base == mark_point)
        or any(
            segment.first_index == mark.segment_first
            and segment.point(segment.count_through(mark.index)) == mark_point
            and segment.offset(segment.count_through(mark.index)) == mark.offset
            for segment in found.segments
        ),
        mark_segment_lost=found.end == mark_point
        and found.segments[-1].closed
        and mark.segment_first == mark.index + 1,
        manifest_found=any(
            segment.point(segment.count_through(manifest_point.index)) == manifest_point
            for segment in found.segments
        ),
        tail_known=tail is not None,
        bytes_behind=bool(found.torn),
        files_behind=bool(found.files_behind),
    )


def _describe(found: Found, mark: SyncMark) -> str:
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


def _cut(disk: Disk, found: Found, aside_directory: str) -> Cut:
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


def _make_durable(disk: Disk, directory: str, found: Found, mark: SyncMark) -> None:
    """Sync what the last run may not have synced, and leave nothing behind the last frame.

    What lies behind the mark is written once more: the fsync of the last run may have failed.
    """
    for path in found.empty:
        disk.unlink(path)
    headers = dict(found.lost_headers)
    for segment in found.segments:
        is_tail, header = segment is found.segments[-1], headers.get(segment.path)
        if segment.first_index < mark.segment_first and not is_tail and header is None:
            continue
        begin = mark.offset if segment.first_index == mark.segment_first else 0
        file = disk.open(segment.path, write=True)
        try:
            if header is not None:
                file.pwrite(header, 0)
            file.truncate(segment.end_bytes)
            write_again(file, begin, segment.end_bytes)
            file.sync()
        finally:
            file.close()
    disk.sync_dir(directory)
