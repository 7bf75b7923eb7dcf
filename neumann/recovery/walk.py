"""The way through an archive from a snapshot to a target: which segments, and how far of each.

A walk changes nothing and raises nothing for what the archive lacks: it says how far it came, whether
that is the target, and if not, why it ended. So the same walk makes plans and tells windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

from neumann.errors import ArchiveGap, Corrupt, NeumannError, WrongHistory
from neumann.format.frame import FrameHeader
from neumann.format.ids import LogPoint
from neumann.format.manifest import Manifest
from neumann.format.times import time_text
from neumann.recovery.catalog import Catalog, Head, describe_gap
from neumann.recovery.lineage import Position, Stretch
from neumann.snapshot.segment_file import End, Scan


class Start(NamedTuple):
    """A snapshot to begin with. `directory` holds its tables; `kind` is for people."""

    manifest: Manifest
    directory: str
    kind: str
    position: Position = (0, 0)


class Stop(NamedTuple):
    """Where to stop: behind a position, behind the last frame not after a time, or at the very end."""

    position: Position | None = None
    time_ns: int | None = None


class Use(NamedTuple):
    """A segment of which the entries after_index+1 .. through_index are replayed, in stretch `number`."""

    head: Head
    number: int
    after_index: int
    through_index: int


@dataclass(slots=True)
class Way:
    """How far a walk came. `error`: what is missing or damaged there; `note`: what else was seen.

    Neither `reached` nor an error: the archive ends before the target.
    """

    number: int
    cursor: LogPoint
    time_ns: int
    reached: bool = False
    error: NeumannError | None = None
    note: str = ""
    uses: list[Use] = field(default_factory=list)
    taken: tuple[Head, FrameHeader] | None = None
    left_out: tuple[Head, FrameHeader] | None = None


def walk(catalog: Catalog, line: Sequence[Stretch], start: Start, stop: Stop, *, bodies: bool) -> Way:
    """Walk from `start`, which is not behind `stop`. `bodies`: check every byte, not headers alone."""
    manifest = start.manifest
    way = Way(start.position[0], manifest.point, manifest.time_ns)
    catalog.expect_scans(_likely(catalog, line, start, stop), bodies=bodies)
    while way.error is None and not way.reached:
        if stop.position is not None and (way.number, way.cursor.index) >= stop.position:
            way.reached = True
            _look_behind(catalog, line, way)
        elif way.cursor.index >= line[way.number].fork_index:
            way.number += 1
            way.cursor = line[way.number].base
            way.left_out = None
        elif (head := _head_at(catalog, line[way.number], way.cursor.index + 1)) is None:
            _end(catalog, line, stop, way)
            break
        elif not _take(catalog, line, head, stop, bodies, way):
            break
    return way


def _likely(catalog: Catalog, line: Sequence[Stretch], start: Start, stop: Stop) -> Iterator[Head]:
    """The segments on the way, by their names and first times."""
    index = start.manifest.point.index
    last_number, last_index = stop.position or (len(line) - 1, line[-1].fork_index)
    for number in range(start.position[0], last_number + 1):
        stretch = line[number]
        heads = catalog.segments(stretch.timeline)
        last = min(stretch.fork_index, last_index) if number == last_number else stretch.fork_index
        for head, following in zip_longest(heads, heads[1:]):
            is_behind = following is not None and following.first_index <= index + 1
            is_late = stop.time_ns is not None and head.first_time_ns > stop.time_ns
            if not is_behind and head.first_index <= last and not is_late:
                yield head
        index = 0


def _take(catalog: Catalog, line: Sequence[Stretch], head: Head, stop: Stop, bodies: bool, way: Way) -> bool:
    """Go on through one segment; False where the archive ends in it."""
    stretch = line[way.number]
    found = catalog.scan(head, bodies=bodies)
    is_begun = catalog.is_begun(head)
    if is_begun and found.last.index <= way.cursor.index:
        _end(catalog, line, stop, way)
        return False
    if found.end is End.OPEN and not is_begun:
        way.note = f"{head.path} was copied while it was open, its entries may never have been committed"
        _end(catalog, line, stop, way)
        return False
    last_index = stretch.fork_index
    if stop.position is not None and stop.position[0] == way.number:
        last_index = min(last_index, stop.position[1])
    is_whole = found.last.index <= last_index and (stop.time_ns is None or found.last_time_ns <= stop.time_ns)
    if is_whole and head.first_index == way.cursor.index + 1:
        if head.previous != way.cursor:
            way.error = _discontinuity(head, way.cursor)
        else:
            _take_whole(head, found, way)
    else:
        _take_part(catalog, head, last_index, stop, way)
    ends_well = found.end is End.SEALED or is_begun
    if way.error is None and not way.reached and is_whole and not ends_well:
        _end_damaged(found, stop, way)
    return True


def _take_whole(head: Head, found: Scan, way: Way) -> None:
    """All frames of the segment; which one is the last is looked up when it matters."""
    if found.last.index > way.cursor.index:
        way.uses.append(Use(head, way.number, way.cursor.index, found.last.index))
        way.cursor, way.time_ns = found.last, found.last_time_ns
        way.taken = None


def _take_part(catalog: Catalog, head: Head, last_index: int, stop: Stop, way: Way) -> None:
    """The frames behind the cursor up to an index or a time, inside of one segment."""
    headers = catalog.headers(head)
    after = way.cursor
    if head.first_index == after.index + 1:
        is_joined = head.previous == after
    else:
        is_joined = any(header.end == after for header in headers)
    if not is_joined:
        way.error = _discontinuity(head, after)
        return
    for header in headers:
        if header.first_index <= after.index:
            continue
        if header.first_index > last_index:
            way.left_out = (head, header)
            break
        if stop.time_ns is not None and header.time_ns > stop.time_ns:
            way.left_out = (head, header)
            way.reached = True
            break
        way.taken = (head, header)
        way.time_ns = header.time_ns
        way.cursor = header.end
        if header.last_index > last_index:
            way.cursor = header.end._replace(index=last_index)
            way.left_out = (head, header)
            break
    if way.cursor.index > after.index:
        way.uses.append(Use(head, way.number, after.index, way.cursor.index))


def _end(catalog: Catalog, line: Sequence[Stretch], stop: Stop, way: Way) -> None:
    """There is no segment that goes on: is that the target, a gap, or the archive's end?"""
    stretch, wanted = line[way.number], way.cursor.index + 1
    if stop.time_ns == way.time_ns:
        way.reached = True
        return
    problem = catalog.problem_at(stretch.timeline, wanted)
    broken = _broken_at(catalog, stretch, wanted)
    later = [h.first_index for h in catalog.segments(stretch.timeline) if h.first_index > wanted]
    later += [p.first_index for p in catalog.problems if p.timeline == stretch.timeline]
    later = [first for first in later if wanted < first <= stretch.fork_index]
    is_last = way.number + 1 == len(line)
    if problem is not None:
        way.error = problem.error
    elif broken is not None:
        _end_damaged(broken, stop, way)
    elif later:
        way.error = ArchiveGap(describe_gap(stretch.timeline, wanted, min(later) - 1))
    elif not is_last:
        way.error = ArchiveGap(describe_gap(stretch.timeline, wanted, stretch.fork_index))
    else:
        way.reached = stop == Stop()


def _end_damaged(found: Scan, stop: Stop, way: Way) -> None:
    """The segment can't be read further. What is before the damage is good, and may be all that is asked."""
    if stop.time_ns == way.time_ns or stop.position == (way.number, way.cursor.index):
        way.reached = True
        return
    good = f"what is before it can be reached: --until-index {found.last.index}"
    if found.last_time_ns:
        good += f" or --until {time_text(found.last_time_ns, 9)}"
    way.error = Corrupt(found.damage, remedy=f"copy that file again; {good}")


def _broken_at(catalog: Catalog, stretch: Stretch, index: int) -> Scan | None:
    """The damaged segment, begun before it, in which the entry may have been."""
    before = [h for h in catalog.segments(stretch.timeline) if h.first_index < index]
    if not before or catalog.is_begun(before[-1]):
        return None
    found = catalog.scan(before[-1], bodies=False)
    return found if found.end is End.BROKEN else None


def _discontinuity(head: Head, cursor: LogPoint) -> WrongHistory:
    return WrongHistory(
        f"{head.path} does not continue the log that ends at index {cursor.index}, term {cursor.term}: "
        "they are of different histories",
        remedy="remove from the source what does not belong to this cluster's line of history",
    )


def _head_at(catalog: Catalog, stretch: Stretch, index: int) -> Head | None:
    """The segment of this stretch that holds the entry, or would if it were not damaged."""
    found = [h for h in catalog.segments(stretch.timeline) if h.first_index <= index]
    if not found:
        return None
    head = found[-1]
    if head.first_index < index and catalog.scan(head, bodies=False).last.index < index:
        return None
    return head


def _look_behind(catalog: Catalog, line: Sequence[Stretch], way: Way) -> None:
    """The first frame that is left out, where the cut is at the end of a segment or of the snapshot."""
    if way.left_out is not None:
        return
    head = _head_at(catalog, line[way.number], way.cursor.index + 1)
    if head is None:
        return
    behind = [h for h in catalog.headers(head) if h.last_index > way.cursor.index]
    if behind:
        way.left_out = (head, behind[0])
