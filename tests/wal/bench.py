"""A workbench for the log's tests: frames that follow one another, and a node's log, mark and manifest.

`Bench` keeps a model beside the log: what was staged, and what was acknowledged. It writes the sync mark
as a node does: lowered before a truncation, raised at the test's word.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.errors import Corrupt
from neumann.format import frame as frame_format
from neumann.format import special, state
from neumann.format.frame import Frame, Kind
from neumann.format.ids import LogPoint, Timeline
from neumann.format.special import Marker
from neumann.format.state import SyncMark
from neumann.wal import Log, Loss, Recovery, Synced, TwoSlotFile, WriteBatch
from neumann.wal.recover import refuse
from tests.sim.disk import SimDisk

CLUSTER = b"c" * 16
TIMELINE = Timeline(1, 0xABCDEF)
BASE = LogPoint(0, 0, 4711)
SEGMENT_BYTES = 4096
ROOT = "/node"


def data_frame(after: LogPoint, term: int = 1, entries: int = 1, entry_bytes: int = 40) -> Frame:
    """A frame of `entries` entries behind `after`."""
    first = after.index + 1
    body = [bytes([first % 251 + 1]) * entry_bytes] * entries
    return frame_format.encode(Kind.DATA, first, term, first, after.chain, body)


def marker_frame(after: LogPoint, term: int = 1, seal: bool = True) -> Frame:
    """A marker behind `after`."""
    kind, body = special.encode(Marker(seal=seal))
    return frame_format.encode(kind, after.index + 1, term, after.index + 1, after.chain, [body])


def run_of(after: LogPoint, kinds: str, term: int = 1) -> list[Frame]:
    """Frames behind `after`, a letter each: "." one entry, "3" three, "S" a seal, "m" a plain marker."""
    frames = []
    for letter in kinds:
        if letter in "Sm":
            frame = marker_frame(after, term, seal=letter == "S")
        else:
            frame = data_frame(after, term, 1 if letter == "." else int(letter))
        frames.append(frame)
        after = frame.header.end
    return frames


def end_of(frames: list[Frame], base: LogPoint = BASE) -> LogPoint:
    """Where a list of frames ends."""
    return frames[-1].header.end if frames else base


class Bench:
    """A node's log on `disk`. `staged` and `acknowledged` are what the log should hold; `base` its base."""

    def __init__(self, disk: Disk, root: str = ROOT) -> None:
        self.disk = disk
        self.wal, self.aside = f"{root}/raft/wal", f"{root}/aside/now"
        self.manifest_point = BASE
        self.staged: list[Frame] = []
        self.acknowledged: list[Frame] = []
        self.mark_file: TwoSlotFile[SyncMark] = TwoSlotFile(
            disk, f"{root}/raft/sync-mark", state.encode_mark_slot, state.decode_mark
        )
        self.log: Log

    def create(self) -> Bench:
        """Form: log first, mark behind it."""
        self.log = Log.create(self.disk, self.wal, CLUSTER, TIMELINE, BASE, SEGMENT_BYTES)
        self.mark_file.create(self._mark(self.log.synced))
        return self

    def restart(self) -> None:
        """An orderly stop, and a start."""
        self.mark()
        self.log.close()
        self.recover()

    def recover(self, lose: Callable[[Loss], None] = refuse, durable_index: int = 0) -> Recovery:
        """Start again on what is on the disk. `lose` decides where something is given up."""
        mark = self.mark_file.repair()
        self.log, recovery = Log.recover(
            self.disk,
            self.wal,
            CLUSTER,
            TIMELINE,
            mark,
            self.manifest_point,
            SEGMENT_BYTES,
            self.aside,
            lose,
            durable_index,
        )
        assert [header.end for header in recovery.headers] == [frame.header.end for frame in self.held()]
        self.staged = self.held()
        self.acknowledged = list(self.staged)
        return recovery

    def held(self) -> list[Frame]:
        """All frames that the log holds, read from it."""
        log = self.log
        return list(log.read_frames(log.base.index, log.last.index)) if log.last != log.base else []

    def give_up(self, durable_index: int = 0) -> tuple[Recovery, Loss]:
        """Start again and give up what is damaged; the mark is lowered first, as a node does it."""
        told: list[Loss] = []

        def lose(loss: Loss) -> None:
            told.append(loss)
            self.mark(loss.end)

        recovery = self.recover(lose, durable_index)
        [loss] = told
        return recovery, loss

    def append(self, kinds: str, term: int = 1, after: int | None = None) -> None:
        """Truncate behind index `after` and stage a `run_of`; one batch; no mark."""
        self.stage(kinds, term, after)
        self.write()

    def stage(self, kinds: str, term: int = 1, after: int | None = None) -> None:
        """Stage only."""
        if after is not None:
            self.staged = [frame for frame in self.staged if frame.header.last_index <= after]
        base = self.log.base
        frames = run_of(end_of(self.staged, base), kinds, term)
        self.staged = self.staged + frames
        self.log.stage(frames, after)

    def write(self, batch: WriteBatch | None = None) -> None:
        """Run what is staged; then it is acknowledged."""
        batch = batch or self.log.take_batch()
        if batch is None:
            return
        if batch.lower_to is not None:
            index = batch.lower_to.point.index
            self.acknowledged = [f for f in self.acknowledged if f.header.last_index <= index]
            if self.mark_file.read()[1].index > index:
                self.mark(batch.lower_to)
        synced = batch.run()
        assert synced == self.log.synced
        self.acknowledged = [f for f in self.staged if f.header.last_index <= synced.point.index]
        assert end_of(self.acknowledged, self.log.base) == synced.point

    def mark(self, place: Synced | None = None) -> None:
        """Write the sync mark: the durable end, or `place`."""
        self.mark_file.write(self._mark(place or self.log.synced))

    def drop(self, index: int) -> None:
        """Let the manifest reach `index` and drop what it covers."""
        point = self.log.end_at(index)
        assert point is not None
        self.manifest_point = point
        drop = self.log.drop_before(index)
        if drop is not None:
            base = self.log.base.index
            self.staged = [frame for frame in self.staged if frame.header.last_index > base]
            self.acknowledged = [frame for frame in self.acknowledged if frame.header.last_index > base]
            drop.run()

    def _mark(self, place: Synced) -> SyncMark:
        manifest = self.manifest_point
        return SyncMark(place.segment_first, place.offset, *place.point, manifest.index, manifest.term)


def three_segments() -> Bench:
    """Segments 1..3, 4..8, 9.. : 1, 2, S3 | 4..6, 7, S8 | 9, 10, 11..13; the mark covers 9. It is closed."""
    bench = Bench(SimDisk()).create()
    bench.append("..S3.S.")
    bench.mark()
    bench.append(".3")
    bench.log.close()
    return bench


def paths(bench: Bench) -> list[str]:
    """Of the segments that its log holds."""
    return [segment.path for segment in bench.log.segments()]


def overwrite(disk: Disk, path: str, data: bytes, offset: int = 0, size: int | None = None) -> None:
    """Write there, behind the log's back; `size`: the file is cut, or grows with zeros, first."""
    file = disk.open(path, write=True)
    if size is not None:
        file.truncate(size)
    file.pwrite(data, offset)
    file.close()


def _image(disk: Disk, directory: str) -> dict[str, bytes]:
    return {name: read_file(disk, f"{directory}/{name}") for name in disk.list(directory)}


def refused(bench: Bench, match: str) -> str:
    """Recovery must raise Corrupt and change nothing; returns the message."""
    before = _image(bench.disk, bench.wal)
    with pytest.raises(Corrupt, match=match) as failure:
        bench.recover()
    assert _image(bench.disk, bench.wal) == before and not bench.disk.exists(bench.aside)
    assert failure.value.remedy
    return str(failure.value)
