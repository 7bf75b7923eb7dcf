"""A family of clusters over one archive, and the one right answer to each question about it.

A root cluster works, is restored to some moment and goes on as a child; others are restored from it, from
a child, or from a line that was left. All archive into one directory. `Branches.expected` is plain
arithmetic over the recorded truth (world.Cluster), written without a look at neumann/recovery: the rows
that a target must give, or the exit code that refuses it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from neumann.env.doors import Disk
from neumann.format import names
from neumann.format.history import HistoryRecord
from neumann.recovery.prepare import Request
from neumann.recovery.targets import Kind, Target
from tests.recovery.world import SECOND, SEGMENT_BYTES, T0, Cluster, Frame, Rows

BAD_INPUT, BEYOND, AMBIGUOUS = 2, 3, 6
ANY_LINE = ""
_FOREVER = 1 << 62


class Answer(NamedTuple):
    """Rows, and the entry that they are the state after, as (timeline, index); or an exit code."""

    exit_code: int
    rows: Rows | None = None
    origin: tuple[str, int] = ("", 0)


@dataclass
class Line:
    """A cluster that archives, and the restore points on its whole line of history."""

    cluster: Cluster
    points: list[tuple[str, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What --timeline takes."""
        return str(self.cluster.manifest.history.timeline)

    @property
    def records(self) -> tuple[HistoryRecord, ...]:
        """Of its history, oldest first."""
        return self.cluster.manifest.history.records

    @property
    def end(self) -> Frame:
        """The last frame that the archive has."""
        return self.cluster.archived_end

    def fork_of(self, number: int) -> int:
        """The last index of the line's stretch `number`."""
        return self.records[number + 1].fork_index if number + 1 < len(self.records) else _FOREVER

    def origin(self, number: int, index: int) -> tuple[str, int]:
        """Where an entry was written: the base of a timeline is its parent's fork."""
        while number and index == self.records[number].base_index:
            index = self.records[number].fork_index
            number -= 1
        return str(self.records[number].timeline), index


class Branches:
    """The world of one seed. Nothing before `first_index` and `first_time_ns` can be reached."""

    def __init__(self, disk: Disk, base: str, seed: int) -> None:
        self.disk = disk
        self.base = base
        self.random = random.Random(seed)
        root = Cluster.fresh(disk, base, self.random.getrandbits(32))
        self.archive = root.archive
        self.backup = f"{base}/snapshots"
        disk.make_dirs(self.backup)
        self.first_index, self.first_time_ns = 0, T0
        self.lines = [Line(root)]
        self._names = 0
        self.work(self.lines[0])

    # --- what happens ----------------------------------------------------------------------------

    def work(self, line: Line) -> None:
        """Frames of all kinds, restore points with names of which some come twice, a seal at the end."""
        cluster = line.cluster
        for _ in range(self.random.randrange(1, 4)):
            cluster.work(self.random.randrange(3, 16), self.backup)
            if self.random.random() < 0.6:
                self._names += 1
                name = f"point-{self.random.randint(1, self._names)}"
                line.points.append((name, cluster.seal(name).last))
        cluster.seal()

    def fork_point(self) -> tuple[Line, int]:
        """Where the next child begins: a line, and an index on it that is no base."""
        line = self.random.choice(self.lines)
        frame = self.random.choice([f for f in line.cluster.frames if f.last <= line.end.last])
        return line, self.random.randint(frame.first, frame.last)

    def went_on(self, parent: Line, index: int, root: str, rows: Rows) -> None:
        """A restore of `parent` to `index` lies in `root`, with these rows: it goes on, and archives."""
        child = Cluster.restored(parent.cluster, root, rows)
        line = Line(child, [(name, at) for name, at in parent.points if at <= index])
        self.work(line)
        self.lines.append(line)

    def the_left_goes_on(self) -> None:
        """Nobody stopped the cluster that the newest child left: it works on, from about when the restore was
        made, or from later."""
        *before, made = self.lines[-1].records
        left = next(line for line in self.lines if line.records == tuple(before))
        moment_ns = made.time_ns + self.random.choice((-SECOND, 0, 60 * SECOND))
        left.cluster.wall_ns = max(left.cluster.wall_ns, moment_ns)
        self.work(left)

    def retain(self) -> bool:
        """Delete the log before a snapshot that all lines go through, and older snapshots."""
        forks = [line.fork_of(0) for line in self.lines]
        kept = sorted(filter(None, map(names.parse_snapshot, self.disk.list(self.backup))))
        usable = [found for found in kept if found[0] <= min(self.lines[0].end.last, *forks)]
        if not usable:
            return False
        index, _ = self.random.choice(usable)
        root = self.lines[0]
        for segment in root.cluster.log.segments():
            if segment.sealed and segment.last_index <= index:
                self.disk.unlink(f"{self.archive}/{segment.name}")
                root_first = segment.last_index
                for line in self.lines:
                    line.points = [(name, at) for name, at in line.points if at > root_first]
        for older in kept:
            if older[0] < index:
                self.disk.remove_tree(f"{self.backup}/{names.snapshot_name(*older)}")
        self.first_index = index
        self.first_time_ns = next(f.time_ns for f in root.cluster.frames if f.last == index)
        return True

    # --- what is asked ---------------------------------------------------------------------------

    def request(self, target: Target, timeline: str, to: str) -> Request:
        """Restore to a directory of its own."""
        return Request(
            target=target,
            data_dir=f"{self.base}/nowhere",
            node_id="n1",
            address="h1:7878",
            wal_dir=self.archive,
            snapshot_dir=self.backup,
            segment_bytes=SEGMENT_BYTES,
            timeline=timeline,
            to=to,
        )

    def question(self) -> tuple[Target, str]:
        """A target and a --timeline: at, between, before and behind what is there, and on its edges."""
        rng = self.random
        line = rng.choice(self.lines)
        timeline = line.name if rng.random() < 0.7 else ANY_LINE
        frame = rng.choice(line.cluster.frames)
        record = rng.choice(line.records)
        exclusive = rng.random() < 0.3
        match rng.randrange(8):
            case 0 | 1:
                index = rng.randint(frame.first, frame.last)
            case 2:
                edges = (record.fork_index, record.base_index, line.end.last, self.first_index)
                index = max(0, rng.choice(edges) + rng.choice((-1, 0, 1)))
            case 3 | 4:
                time_ns = frame.time_ns + rng.choice((-1, 0, 1))
                return Target(Kind.TIME, f"time {time_ns}", time_ns, exclusive=exclusive), timeline
            case 5:
                edges = (record.fork_time_ns, line.end.time_ns, self.first_time_ns, T0)
                time_ns = max(1, rng.choice(edges) + rng.choice((-1, 0, 1)))
                return Target(Kind.TIME, f"time {time_ns}", time_ns, exclusive=exclusive), timeline
            case 6:
                name = f"point-{rng.randint(1, self._names + 1)}"
                return Target(Kind.NAME, f"restore point {name!r}", name=name, exclusive=exclusive), timeline
            case _:
                return Target(Kind.LATEST, "latest"), timeline
        return Target(Kind.INDEX, f"index {index}", index=index, exclusive=exclusive), timeline

    def leaves(self) -> list[Line]:
        """Lines that no other goes on from."""
        return [line for line in self.lines if not self._children(line)]

    def written_on(self) -> list[Line]:
        """Lines that were left, and on which clients wrote after the newest child was made."""
        return [line for line in self.lines if self._children(line) and self._is_written_on(line)]

    def expected(self, target: Target, timeline: str) -> Answer:
        """What must come of it."""
        if timeline != ANY_LINE:
            (line,) = (line for line in self.lines if line.name == timeline)
            return self._on(line, target)
        answers = [self._on(line, target) for line in self.leaves()]
        first = answers[0]
        if all(answer.exit_code == first.exit_code != 0 for answer in answers):
            return first
        if any(answer.rows is None or answer.origin != first.origin for answer in answers):
            return Answer(AMBIGUOUS)
        others = [self._on(line, target) for line in self.lines if self._may_be_meant(line, target)]
        if any(other.rows is not None and other.origin != first.origin for other in others):
            return Answer(AMBIGUOUS)
        if target.kind is Kind.TIME and any(other.rows is None for other in others):
            return Answer(AMBIGUOUS)
        return first

    def _may_be_meant(self, line: Line, target: Target) -> bool:
        """Of a line that was left: clients wrote on it since, or the time is one before the child was made,
        and clients had written behind the fork by then."""
        children = self._children(line)
        if not children:
            return False
        time_ns = target.time_ns - target.exclusive
        return self._is_written_on(line) or (
            target.kind is Kind.TIME
            and any(
                time_ns < child.time_ns
                and any(f.last > child.fork_index and f.time_ns <= time_ns for f in self._data(line))
                for child in children
            )
        )

    def _is_written_on(self, line: Line) -> bool:
        newest = max(self._children(line), key=lambda child: child.time_ns)
        return any(f.last > newest.fork_index and f.time_ns > newest.time_ns for f in self._data(line))

    def _children(self, line: Line) -> list[HistoryRecord]:
        return [other.records[-1] for other in self.lines if other.records[:-1] == line.records]

    def _data(self, line: Line) -> list[Frame]:
        """What clients wrote, as far as the archive has it."""
        return [f for f in line.cluster.frames if f.is_data and f.last <= line.end.last]

    def _on(self, line: Line, target: Target) -> Answer:
        match target.kind:
            case Kind.LATEST:
                return self._state(line, len(line.records) - 1, line.end.last)
            case Kind.TIME:
                return self._at_time(line, target.time_ns - target.exclusive)
            case Kind.INDEX:
                index = target.index
            case Kind.NAME:
                named = [at for name, at in line.points if name == target.name]
                if len(named) != 1:
                    return Answer(BAD_INPUT if named else BEYOND)
                index = named[0]
        for number, record in enumerate(line.records):
            if index == record.base_index or record.base_index < index <= line.fork_of(number):
                return self._state(line, number, index - target.exclusive)
        return Answer(BAD_INPUT)  # between a fork and the next base

    def _at_time(self, line: Line, time_ns: int) -> Answer:
        if not self.first_time_ns <= time_ns <= line.end.time_ns:
            return Answer(BEYOND)
        index = line.cluster.index_at(time_ns)
        number = max(n for n, record in enumerate(line.records) if record.base_index <= index)
        return self._state(line, number, index)

    def _state(self, line: Line, number: int, index: int) -> Answer:
        index = max(index, line.records[number].base_index) if number else index
        origin = line.origin(number, index)
        if index < self.first_index or index > line.end.last:
            return Answer(BEYOND)
        return Answer(0, line.cluster.rows_at(origin[1]), origin)
