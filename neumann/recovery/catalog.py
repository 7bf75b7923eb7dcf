"""What an archive directory holds: segments by timeline, histories, and every file that is wrong.

Opening a catalog reads the first bytes of each segment; a segment is read whole when somebody asks for
its `scan`. A missing directory or file is NotFound, an error in reading is passed on: "not there" is
never taken for "failed", nor the other way round. Nothing here decides what a target needs; plan.py does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from neumann.env.ahead import Ahead
from neumann.env.doors import Files
from neumann.env.files import read_file
from neumann.errors import Corrupt, FormatTooNew, NeumannError, WrongHistory
from neumann.format import frame as frame_format
from neumann.format import history as history_format
from neumann.format import names
from neumann.format import segment as segment_format
from neumann.format.frame import HEADER_BYTES, FrameDamaged, FrameHeader
from neumann.format.history import History
from neumann.format.ids import LogPoint, Timeline
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.snapshot.segment_file import End, Scan, headers_of, scan

_Begin = tuple[bytes, int]
"""(first bytes, size) of a segment's file."""


class Head(NamedTuple):
    """A segment file, known by its name and first bytes. `first_time_ns` is 0 where it has no frame."""

    path: str
    cluster_id: bytes
    timeline: Timeline
    first_index: int
    previous: LogPoint
    first_time_ns: int
    bytes: int


class Problem(NamedTuple):
    """A file that can't be used, or not whole, and why. `first_index` as far as its name tells it."""

    path: str
    timeline: Timeline
    first_index: int
    error: NeumannError


class Catalog:
    """One archive directory; see the module. `directory` "" is an archive without a log.

    `tail` is the log directory of a stopped node, "" for none: its segments count where the archive lacks
    them, its newest also though it is open. What is in them may never have been committed. What is in the
    part of a segment that wal-receive left was. `ahead` fetches what is read next, and need not.

    `heads` are ordered by timeline counter and index; `histories` has each timeline that a history file,
    or a manifest given to `learn`, tells of. `is_empty`: the directory has no file of a log, good or damaged.
    """

    def __init__(self, disk: Files, directory: str, tail: str = "", ahead: Ahead | None = None) -> None:
        self.directory = directory
        self.tail = tail
        self.heads: list[Head] = []
        self.histories: dict[Timeline, History] = {}
        self.problems: list[Problem] = []
        self.unknown: list[str] = []
        self._disk = disk
        self._ahead = ahead or Ahead(disk)
        self._scans: dict[tuple[str, bool], Scan] = {}
        names_here = disk.list(directory) if directory else []
        for name in names_here:
            self._look_at(name)
        self.is_empty = len(self.unknown) == len(names_here)
        self._look_at_segments(directory, map(names.parse_segment, names_here))
        archived = {(head.timeline, head.first_index) for head in self.heads}
        in_tail = map(names.parse_segment, disk.list(tail) if tail else ())
        self._look_at_segments(tail, (parsed for parsed in in_tail if parsed not in archived))
        known = {(head.timeline, head.first_index) for head in self.heads}
        for name in names_here:
            if (parsed := names.parse_part(name)) is not None and parsed not in known:
                self._look_at_part(name, *parsed)
        self.heads.sort(key=lambda head: (head.timeline, head.first_index))

    def learn(self, history: History) -> None:
        """A manifest's history tells of its timeline and of all its ancestors."""
        for count in range(1, len(history.records) + 1):
            part = History(history.cluster_id, history.records[:count])
            known = self.histories.setdefault(part.timeline, part)
            if known != part:
                raise WrongHistory(
                    f"two different histories of timeline {part.timeline}",
                    remedy="keep the files of one cluster",
                )

    def is_tail(self, head: Head) -> bool:
        """Whether a node's own log holds it, and not the archive."""
        return bool(self.tail) and head.path.startswith(f"{self.tail}/")

    def is_begun(self, head: Head) -> bool:
        """Whether more of the segment may be to come: its last frame is no damage."""
        is_open = self.is_tail(head) and self.scan(head, bodies=False).end is End.OPEN
        return is_open or head.path.endswith(names.PART)

    def cluster_ids(self) -> set[bytes]:
        """Of all segments and histories."""
        return {h.cluster_id for h in self.heads} | {h.cluster_id for h in self.histories.values()}

    def keep_only(self, cluster_id: bytes) -> None:
        """Forget the files of all other clusters."""
        strange = {timeline for timeline, h in self.histories.items() if h.cluster_id != cluster_id}
        self.heads = [head for head in self.heads if head.cluster_id == cluster_id]
        self.histories = {t: h for t, h in self.histories.items() if t not in strange}
        self.problems = [problem for problem in self.problems if problem.timeline not in strange]

    def segments(self, timeline: Timeline) -> list[Head]:
        """Of one timeline, in order."""
        return [head for head in self.heads if head.timeline == timeline]

    def scan(self, head: Head, *, bodies: bool) -> Scan:
        """Read a segment whole, at most once; `bodies`: check every byte, not headers alone."""
        known = self._known(head, bodies)
        if known is None:
            known = scan(self.read(head), head.path, bodies=bodies)
            self._scans[head.path, bodies] = known
        return known

    def _known(self, head: Head, bodies: bool) -> Scan | None:
        return self._scans.get((head.path, True)) or self._scans.get((head.path, bodies))

    def expect(self, heads: Iterable[Head]) -> None:
        """Which segments are read next, as far as that is known: they may be fetched ahead."""
        self._ahead.announce((head.path, head.bytes) for head in heads)

    def expect_scans(self, heads: Iterable[Head], *, bodies: bool) -> None:
        """The same of segments that are scanned next: those that were are not read again."""
        self.expect(head for head in heads if self._known(head, bodies) is None)

    def read(self, head: Head) -> bytes:
        """The segment's bytes."""
        return self._ahead.read(head.path)

    def headers(self, head: Head) -> list[FrameHeader]:
        """The headers of a segment's good frames."""
        return headers_of(self.read(head), head.path)

    def problem_at(self, timeline: Timeline, index: int) -> Problem | None:
        """A file of that timeline which, by its name, begins at `index` and can't be used."""
        return next((p for p in self.problems if p.timeline == timeline and p.first_index == index), None)

    def _look_at(self, name: str) -> None:
        path = f"{self.directory}/{name}"
        if (timeline := names.parse_history(name)) is not None:
            self._look_at_history(path, timeline)
        elif names.parse_segment(name) is None and names.parse_part(name) is None:
            self.unknown.append(name)

    def _look_at_part(self, name: str, timeline: Timeline, first_index: int) -> None:
        try:
            path = f"{self.directory}/{name}"
            self.heads.append(_decode_head(_read_begin(self._disk, path), path, timeline, first_index))
        except (Corrupt, FormatTooNew):  # its receiver was killed before the header was there
            self.unknown.append(name)

    def _look_at_segments(self, directory: str, parsed: Iterable[tuple[Timeline, int] | None]) -> None:
        wanted = {f"{directory}/{names.segment_name(*one)}": one for one in parsed if one is not None}
        begins = self._ahead.each(_read_begin, wanted)
        for path, (timeline, first_index), begin in zip(wanted, wanted.values(), begins, strict=True):
            try:
                self.heads.append(_decode_head(begin, path, timeline, first_index))
            except (Corrupt, FormatTooNew) as error:
                self.problems.append(Problem(path, timeline, first_index, error))

    def _look_at_history(self, path: str, timeline: Timeline) -> None:
        try:
            found = history_format.decode(read_file(self._disk, path), path)
            if found.timeline != timeline:
                raise Corrupt(f"{path}: is the history of {found.timeline}")
        except (Corrupt, FormatTooNew) as error:
            self.problems.append(Problem(path, timeline, 0, error))
            return
        self.learn(found)


def _read_begin(disk: Files, path: str) -> _Begin | Corrupt:
    """Corrupt, not raised, for what is no file: it ends no reading of the others."""
    try:
        file = disk.open(path)
    except Corrupt as error:
        return error
    try:
        return file.pread(SEGMENT_HEADER_BYTES + HEADER_BYTES, 0), file.size()
    finally:
        file.close()


def _decode_head(begin: _Begin | Corrupt, path: str, timeline: Timeline, first_index: int) -> Head:
    if isinstance(begin, Corrupt):
        raise begin
    data, size = begin
    if not size:
        raise Corrupt(f"{path}: the file is empty")
    header = segment_format.decode_header(data, path)
    if (header.timeline, header.first_index) != (timeline, first_index):
        raise Corrupt(
            f"{path}: is segment {names.segment_name(header.timeline, header.first_index)} under another name"
        )
    try:
        first_time_ns = frame_format.decode_header(data, SEGMENT_HEADER_BYTES).time_ns
    except FrameDamaged:
        first_time_ns = 0
    return Head(path, header.cluster_id, timeline, first_index, header.previous, first_time_ns, size)


def describe_gap(timeline: Timeline, first_index: int, last_index: int) -> str:
    """One line for entries that are not in the archive."""
    if last_index < first_index:
        return f"timeline {timeline}: the log does not continue at index {first_index}: another history"
    return f"timeline {timeline}: entries {first_index}..{last_index} are missing from the archive"


def describe_lost_log(directory: str, snapshot_id: str) -> str:
    """One line for a place that has nothing of a log, beside a snapshot whose cluster archived its log."""
    return f"{directory} holds no log, though the cluster of snapshot {snapshot_id} archived its log"


def restore_points(catalog: Catalog, heads: Sequence[Head]) -> list[tuple[Head, str, int, int]]:
    """(segment, name, index, time) of every named marker in these segments."""
    return [
        (head, point.name, point.index, point.time_ns)
        for head in heads
        for point in catalog.scan(head, bodies=False).points
    ]
