"""An archive with a known truth: a random workload written by the log itself, and what it means.

`Cluster` writes frames through wal.Log, copies sealed segments into an archive as archive_command would,
makes and publishes snapshots, and keeps the rows as of each entry in plain dictionaries, worked out by
its own few lines and not by the machine.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path

from neumann.env.clock import RealEntropy
from neumann.env.disk import RealDisk
from neumann.env.doors import Disk, Env
from neumann.env.files import read_file, write_new
from neumann.env.places import Places
from neumann.errors import Unavailable
from neumann.format import command as command_format
from neumann.format import frame as frame_format
from neumann.format import history as history_format
from neumann.format import names, special
from neumann.format.command import ABSENT, BATCH, DELETE, PUT
from neumann.format.frame import Kind
from neumann.format.ids import Configuration, LogPoint
from neumann.format.limits import SESSION_SERIALS_MAX
from neumann.format.manifest import Archiving, Manifest, SessionRecord
from neumann.format.names import Paths
from neumann.recovery import formation
from neumann.snapshot.publish import publish
from neumann.snapshot.verify import open_view
from neumann.store.manifests import load_newest, write_manifest
from neumann.store.table_writer import write_table
from neumann.wal.log import Log

T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
BLOCK_BYTES = 1024
SEGMENT_BYTES = 16 * 1024

SKEWS_NS = (0, 0, 3600 * SECOND, -1800 * SECOND)
"""A new leader's clock may be an hour ahead of the one before it, or behind."""

Rows = dict[tuple[str, str], tuple[bytes, int]]


class FixedClock:
    """A wall clock that stands, at a time of the test's choosing."""

    def __init__(self, wall_ns: int) -> None:
        self.now_ns = wall_ns

    def wall_ns(self) -> int:
        return self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns


class Peers:
    """The network as a recovery uses it: peers that answer `who`, or nobody."""

    def __init__(self, answers: dict[str, dict[str, object]] | None = None) -> None:
        self.answers = answers or {}

    def send(self, address: str, payload: bytes) -> None:
        raise AssertionError("a recovery sends no messages")

    async def call(self, address: str, method: str, params: list[object], timeout_s: float) -> object:
        assert method == "who"
        if address not in self.answers:
            raise Unavailable(f"{address} can't be reached")
        return self.answers[address]

    def bind(self, handler: object) -> None:
        raise AssertionError

    async def close(self) -> None:
        await asyncio.sleep(0)


def make_env(disk: Disk | None = None, now_ns: int = T0 + 3600 * SECOND, peers: Peers | None = None) -> Env:
    """The doors that a recovery uses; the others are not there."""
    return Env(
        clock=FixedClock(now_ns),
        entropy=RealEntropy(),
        disk=disk or (real := RealDisk()),
        net=peers or Peers(),
        jobs=None,  # type: ignore[arg-type]
        lane=None,  # type: ignore[arg-type]
        run_command=None,  # type: ignore[arg-type]
        places=disk or Places(real),
    )


@dataclass
class Frame:
    """A frame that was written: where it ends, when, the rows after each of its entries, and whether these
    are clients'."""

    first: int
    last: int
    time_ns: int
    states: list[Rows]
    is_data: bool


@dataclass
class Cluster:
    """See the module. `frames` is the truth of the whole line of history up to now."""

    disk: Disk
    root: str
    archive: str
    rng: random.Random
    manifest: Manifest
    log: Log
    now_ns: int
    wall_ns: int
    skew_ns: int = 0
    rows: Rows = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    paused: bool = False
    term: int = 1
    archived: set[str] = field(default_factory=set)
    session: int = 0
    answers: list[tuple[int, int, int]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    @classmethod
    def fresh(cls, disk: Disk, base: str, seed: int = 0, archive: str = "") -> Cluster:
        """A new cluster in `<base>/n1`, archiving to `<base>/archive`."""
        rng = random.Random(seed)
        paths = Paths(f"{base}/n1")
        archive = archive or f"{base}/archive"
        disk.make_dirs(archive)
        disk.make_dirs(paths.root)
        manifest = formation.empty_base(
            "n1", "h1:7878", b"s" * 16, T0, rng.randbytes(16), rng.getrandbits(64), BLOCK_BYTES
        )
        manifest = manifest._replace(archiving=Archiving(True, 0))
        formation.write_member(disk, paths, manifest, "n1", b"s" * 16, SEGMENT_BYTES, 0)
        return cls._opened(disk, paths.root, archive, rng, manifest, T0, T0)

    @classmethod
    def restored(cls, old: Cluster, root: str, rows: Rows) -> Cluster:
        """The cluster that goes on in a restored directory, with the old one's truth up to the cut."""
        manifest = load_newest(old.disk, Paths(root).store)
        assert manifest is not None
        new = cls._opened(old.disk, root, old.archive, old.rng, manifest, manifest.time_ns, old.wall_ns)
        fork = manifest.history.records[-1].fork_index
        new.frames = [
            Frame(f.first, min(f.last, fork), f.time_ns, f.states[: fork - f.first + 1], f.is_data)
            for f in old.frames
            if f.first <= fork
        ]
        new.rows = dict(rows)
        new.term = manifest.point.term + 1
        return new

    @classmethod
    def _opened(
        cls,
        disk: Disk,
        root: str,
        archive: str,
        rng: random.Random,
        manifest: Manifest,
        now_ns: int,
        wall_ns: int,
    ) -> Cluster:
        paths, history = Paths(root), manifest.history
        disk.remove_tree(paths.wal)
        log = Log.create(disk, paths.wal, history.cluster_id, history.timeline, manifest.point, SEGMENT_BYTES)
        path = f"{archive}/{names.history_name(history.timeline)}"
        write_new(disk, path, history_format.encode(history))
        return cls(disk, root, archive, rng, manifest, log, now_ns, wall_ns)

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    # --- writing ---------------------------------------------------------------------------------

    def write(self, kind: Kind, entries: list[bytes], effect: list[Rows] | None = None) -> Frame:
        """One frame, durable. Its time is the leader's clock, and at least 1 ns after the last frame's."""
        self.wall_ns += self.rng.choice((1, 2, self.rng.randint(1, 3 * SECOND)))
        self.now_ns = max(self.now_ns + 1, self.wall_ns + self.skew_ns)
        last = self.log.last
        frame = frame_format.encode(kind, last.index + 1, self.term, self.now_ns, last.chain, entries)
        self.log.stage([frame])
        batch = self.log.take_batch()
        assert batch is not None
        batch.run()
        states = effect or [dict(self.rows)]
        header = frame.header
        written = Frame(header.first_index, header.last_index, self.now_ns, states, kind is Kind.DATA)
        self.frames.append(written)
        return written

    def say(self, entry: special.Special) -> Frame:
        """A special entry."""
        kind, body = special.encode(entry)
        return self.write(kind, [body])

    def data(self, count: int = 0) -> Frame:
        """A frame of random commands."""
        index = self.log.last.index
        entries, states = [], []
        for _ in range(count or self.rng.randint(1, 6)):
            index += 1
            entries.append(self._command(index))
            states.append(dict(self.rows))
        return self.write(Kind.DATA, entries, states)

    def put(self, key: str, value: object) -> Frame:
        """One put."""
        packed = command_format.pack_value(value)
        if not self.paused:
            self.rows["t", key] = (packed, self.log.last.index + 1)
        return self.write(Kind.DATA, [command_format.encode_put("t", key, packed)], [dict(self.rows)])

    def pause(self) -> None:
        self.say(special.Pause("test", self.now_ns, ""))
        self.paused = True

    def resume(self) -> None:
        self.say(special.Resume("asked"))
        self.paused = False

    def seal(self, name: str = "") -> Frame:
        """Seal the segment, and archive it."""
        written = self.say(special.Marker(seal=True, name=name))
        self.copy_archive()
        return written

    def snapshot(self, backup: str = "") -> Manifest:
        """A published snapshot at a marker; with `backup`, copied there as rsync would."""
        written = self.say(special.Marker(seal=True, snapshot=True, publish=special.Publish.ASKED))
        self.copy_archive()
        last = self.log.last
        rows = {
            command_format.row_key(*row): (value, revision, self.now_ns)
            for row, (value, revision) in self.rows.items()
        }
        ref = write_table(self.disk, self.paths.store, sorted(rows.items()), BLOCK_BYTES)
        self.manifest = self.manifest._replace(
            point=LogPoint(*last),
            time_ns=written.time_ns,
            tables=(ref,) if ref else (),
            sessions=self.sessions(),
        )
        if self.paused:
            self.manifest = self.manifest._replace(pause=special.Pause("test", self.now_ns, ""))
        write_manifest(self.disk, self.paths.store, self.manifest)
        publish(self.disk, self.paths, self.manifest)
        if backup:
            copy_tree(
                self.disk,
                f"{self.paths.snapshots}/{self.manifest.snapshot_id}",
                f"{backup}/{self.manifest.snapshot_id}",
            )
        return self.manifest

    def copy_archive(self) -> None:
        """archive_command = cp %p archive/%f, for every sealed segment."""
        for segment in self.log.segments():
            if segment.sealed and segment.name not in self.archived:
                write_new(self.disk, f"{self.archive}/{segment.name}", read_file(self.disk, segment.path))
                self.archived.add(segment.name)

    def work(self, frames: int, backup: str = "") -> None:
        """A random run of everything."""
        for _ in range(frames):
            dice = self.rng.random()
            if dice < 0.75:
                self.data()
            elif dice < 0.87:
                self.seal()
            elif dice < 0.91:
                (self.resume if self.paused else self.pause)()
            elif dice < 0.94:
                self.say(Configuration(self.manifest.configuration.members))
            elif dice < 0.97:
                self.fail_over()
            elif not self.paused:
                self.snapshot(backup)

    def fail_over(self) -> None:
        """Another leader, with another clock."""
        self.term += 1
        self.skew_ns = self.rng.choice(SKEWS_NS)
        self.say(special.Noop())

    def sessions(self) -> tuple[SessionRecord, ...]:
        """The one client session of this timeline, if it is open."""
        kept = tuple(self.answers[-SESSION_SERIALS_MAX:])
        return (SessionRecord(self.session, len(self.answers), kept),) if self.session else ()

    def _command(self, index: int) -> bytes:
        """A command, some in a session; or one of the session's again, which changes nothing."""
        rng = self.rng
        if not self.session and not self.paused and rng.random() < 0.3:
            self.session = index
            return command_format.encode_open()
        if not self.session or rng.random() < 0.6:
            return self._random_command(index)
        if self.sent and rng.random() < 0.3:
            return rng.choice(self.sent[-100:])
        serial, before = len(self.answers) + 1, dict(self.rows)
        plain = self._random_command(index)
        is_refused = command_format.decode(plain)[3] is not None and self.rows == before
        self.answers.append((serial, index, 3 if self.paused else int(is_refused)))
        self.sent.append(command_format.with_session(plain, self.session, serial))
        return self.sent[-1]

    def _random_command(self, index: int) -> bytes:
        rng = self.rng
        key, value = f"k{rng.randrange(40)}", rng.randbytes(rng.randint(0, 20))
        packed = command_format.pack_value(value)
        match rng.randrange(6):
            case 0:
                self._set({key: None}, index)
                return command_format.encode_delete("t", key)
            case 1:
                if ("t", key) not in self.rows:
                    self._set({key: packed}, index)
                return command_format.encode_put("t", key, packed, (ABSENT,))
            case 2:
                other = f"k{rng.randrange(40)}"
                self._set({key: packed, other: None}, index)
                ops = [(PUT, "t", key, None, packed), (DELETE, "t", other, None, None)]
                assert BATCH == 3
                return command_format.encode_batch(ops)
        self._set({key: packed}, index)
        return command_format.encode_put("t", key, packed)

    def _set(self, changes: dict[str, bytes | None], index: int) -> None:
        if self.paused:
            return
        for key, value in changes.items():
            if value is None:
                self.rows.pop(("t", key), None)
            else:
                self.rows["t", key] = (value, index)

    # --- the truth -------------------------------------------------------------------------------

    def rows_at(self, index: int) -> Rows:
        """The rows after that entry."""
        before: Rows = {}
        for frame in self.frames:
            if frame.first > index:
                break
            before = frame.states[min(len(frame.states), index - frame.first + 1) - 1]
        return before

    def index_at(self, time_ns: int) -> int:
        """The last entry whose frame is not after that time; 0 for none."""
        return max((f.last for f in self.frames if f.time_ns <= time_ns), default=0)

    @property
    def archived_end(self) -> Frame:
        """The last archived frame."""
        last = max(s.last_index for s in self.log.segments() if s.sealed)
        return next(f for f in self.frames if f.last == last)


def rows_in(disk: Disk, root: str) -> Rows:
    """What a data directory holds."""
    paths = Paths(root)
    manifest = load_newest(disk, paths.store)
    assert manifest is not None
    found: Rows = {}
    for row, (value, revision, _) in open_view(disk, paths.store, manifest).scan():
        assert value is not None
        found[command_format.split_row_key(row)] = (value, revision)
    return found


def copy_tree(disk: Disk, source: str, target: str) -> None:
    """A copy that shares nothing with its source."""
    disk.make_dirs(target)
    for name in disk.list(source):
        if disk.stat(f"{source}/{name}").is_directory:
            copy_tree(disk, f"{source}/{name}", f"{target}/{name}")
        else:
            write_new(disk, f"{target}/{name}", read_file(disk, f"{source}/{name}"))


def segment_files(archive: str) -> list[Path]:
    """In order."""
    return sorted(Path(archive).glob("*.wal"))
