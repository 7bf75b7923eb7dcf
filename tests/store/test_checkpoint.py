"""Checkpoints are a function of the log (R5): whatever the pace, the restarts and the crashes.

One log is made together with a leader that says which compaction each marker installs. Other nodes then
apply the same log at another pace, are killed or lose power, come back, and must make the same snapshots
byte for byte; what they serve is compared with a dictionary.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar

import pytest

from neumann.env.files import read_file
from neumann.errors import Corrupt, StorageFailed
from neumann.format import manifest as manifest_format
from neumann.format import names
from neumann.format import special as special_format
from neumann.format.command import decode_body, encode_put
from neumann.format.frame import Frame, Kind
from neumann.format.ids import Configuration, Member
from neumann.format.manifest import Manifest
from neumann.format.special import Archived, Marker, Noop, Pause, Resume
from neumann.format.table import Version
from neumann.machine.apply import apply_data
from neumann.machine.state import MachineState, apply_special
from neumann.store.checkpoint import Checkpointer
from neumann.store.manifests import load_newest
from neumann.store.store import Store
from tests.sim.disk import SimCrash, SimDisk
from tests.sim.doors import Pace, SimJobs, SimLane
from tests.sim.loop import Process, ProcessDied, SimLoop
from tests.store.log import Log, some_command
from tests.store.rows import HISTORY, Rows, live, manifest_of

STORE, LOG = "/data/store", "/data/log"
KEYS = 60
FAST = Pace()
SLOW = Pace(slowness=60)
T = TypeVar("T")


def apply_frame(state: MachineState, store: Store, frame: Frame) -> None:
    """What the runtime does with a committed frame."""
    header = frame.header
    if header.kind is Kind.DATA:
        result = apply_data(state, header, decode_body(frame.body), store.active.rows, store.get)
        store.active.note(header, result.skipped)
    else:
        apply_special(state, header, special_format.decode(frame))


class FailingJobs:
    """A helper whose first jobs fail as told."""

    def __init__(self, jobs: SimJobs, *failures: Exception) -> None:
        self._jobs = jobs
        self._failures = list(failures)

    async def run(self, function: str, params: Any) -> dict[str, Any]:
        if self._failures:
            raise self._failures.pop(0)
        return await self._jobs.run(function, params)

    async def close(self) -> None:
        """Nothing to end."""


class Node:
    """A store with its checkpointer, on the doors of one simulated process."""

    def __init__(
        self,
        process: Process,
        disk: SimDisk,
        pace: Pace,
        rng: random.Random,
        *failures: Exception,
        lane_pace: Pace | None = None,
    ) -> None:
        manifest = load_newest(disk, STORE) or manifest_of()
        self.rng = rng
        self.state = MachineState.from_manifest(manifest)
        self.store = Store.open(disk, STORE, manifest, 1 << 16)
        self.made: dict[int, bytes] = {}
        self.failures: list[Exception] = []
        jobs = FailingJobs(SimJobs(process.loop, disk, pace, rng), *failures)
        lane = SimLane(process, lane_pace or pace, rng)
        self.checkpointer = Checkpointer(
            disk, jobs, lane, self.store, self._on_snapshot, self.failures.append, mend=self._mend
        )

    async def _mend(self, error: Corrupt) -> bool:
        """A peer has every file."""
        return "path" in error.detail

    def _on_snapshot(self, manifest: Manifest, layout_digest: bytes, marker: Marker) -> None:
        assert marker.snapshot and manifest == self.store.manifest
        self.made[manifest.point.index] = layout_digest

    def apply(self, log: Log, frame: Frame) -> None:
        apply_frame(self.state, self.store, frame)
        marker = special_format.decode(frame) if frame.header.kind is Kind.MARKER else None
        if isinstance(marker, Marker) and marker.snapshot:
            frozen = self.store.freeze(self.state.applied, self.state.time_ns)
            pieces = log.pieces(LOG, frozen.first.index, frozen.point.index, self.rng)
            self.checkpointer.submit(marker, frozen, self.state.copy(), pieces)

    async def follow(self, log: Log) -> None:
        """Apply the rest of the log, at random moments."""
        await self.checkpointer.start()
        for frame in log.frames:
            if frame.header.last_index > self.state.applied.index:
                self.apply(log, frame)
                if self.rng.random() < 0.3:
                    await asyncio.sleep(self.rng.choice([0, 0.01, 0.2]))
        await self.checkpointer.drain()


class Truth(NamedTuple):
    """A log, and what every node must make of it."""

    log: Log
    made: dict[int, bytes]
    rows: Rows
    installed: int


def run(loop: SimLoop, process: Process, work: Coroutine[Any, Any, T]) -> T:
    return loop.run(process.call(work))


def some_frames(log: Log, rng: random.Random) -> list[Frame]:
    """Random entries: commands, now and then a special one."""
    frames = []
    for _ in range(rng.randrange(6)):
        frames.append(log.add(Kind.DATA, [some_command(rng, KEYS) for _ in range(rng.randrange(1, 8))]))
    member = Member("n1", b"s" * 16, f"host:{rng.randrange(9)}", "voter")
    if rng.random() < 0.3:
        chosen = rng.choice(
            [
                Noop(),
                Pause("op", 1, ""),
                Resume("asked"),
                Archived(rng.randrange(99)),
                Configuration((member,)),
            ]
        )
        frames += [log.add_special(chosen), log.add_special(Resume("expired"))]
    return frames


async def lead(node: Node, disk: SimDisk, markers: int) -> Truth:
    """Make a log as a leader does: a marker names a compaction only when its own merge is done."""
    rng, log, installed = node.rng, Log(HISTORY.base), 0
    rows: Rows = {}
    await node.checkpointer.start()

    def lookup(row: str) -> Version | None:
        return rows.get(row)

    model_state = node.state.copy()
    for _ in range(markers):
        frames = some_frames(log, rng)
        finished = node.checkpointer.finished_compaction
        named = rng.choice([finished, finished, 0, 12345])
        installed += named != 0 and named == finished
        frames.append(log.add_special(Marker(snapshot=True, compaction=named)))
        if disk.exists(LOG):
            disk.unlink(LOG)
        log.store(disk, LOG)
        for frame in frames:
            node.apply(log, frame)
            if frame.header.kind is Kind.DATA:
                apply_data(model_state, frame.header, decode_body(frame.body), rows, lookup)
            else:
                apply_special(model_state, frame.header, special_format.decode(frame))
        await node.checkpointer.drain()
        await asyncio.sleep(rng.choice([0, 0.1, 4]))
    assert node.failures == []
    return Truth(log, node.made, rows, installed)


def new_disk(log: Log | None = None) -> SimDisk:
    disk = SimDisk()
    disk.make_dirs(STORE)
    if log is not None:
        log.store(disk, LOG)
        disk.sync_dir("/data")
    return disk


def made_truth(seed: int, markers: int = 60) -> Truth:
    with SimLoop() as loop:
        process, disk = loop.process("leader"), new_disk()
        node = Node(process, disk, FAST, random.Random(seed))
        truth = run(loop, process, lead(node, disk, markers))
        check_state(node, truth)
        return truth


def check_state(node: Node, truth: Truth) -> None:
    """All that was made is as it must be, and so are the rows."""
    assert node.failures == []
    assert node.made.items() <= truth.made.items()
    assert node.store.backlog == 0
    assert node.store.view().scan() == live(truth.rows)


@pytest.mark.parametrize("seed", range(4))
def test_the_layout_does_not_depend_on_the_pace(seed: int) -> None:
    truth = made_truth(seed)
    assert len(truth.made) == 60 and truth.installed >= 3
    for pace in (FAST, SLOW):
        with SimLoop() as loop:
            process = loop.process("follower")
            node = Node(process, new_disk(truth.log), pace, random.Random(seed + 100))
            run(loop, process, node.follow(truth.log))
            check_state(node, truth)
            assert node.made == truth.made


@pytest.mark.parametrize("seed", range(4))
def test_nor_on_restarts(seed: int) -> None:
    """Killed again and again at any moment, without loss of what was written."""
    truth, rng = made_truth(seed), random.Random(seed)
    disk, made, restarts = new_disk(truth.log), dict[int, bytes](), 0
    with SimLoop() as loop:
        while max(made, default=0) < max(truth.made):
            process = loop.process("follower")
            node = Node(process, disk, rng.choice([FAST, SLOW]), rng)
            process.spawn(node.follow(truth.log))
            loop.run(asyncio.sleep(rng.uniform(0.1, 2.5)))
            process.kill()
            disk = disk.kill()
            check_prefix(node, truth)
            made |= node.made
            restarts += 1
    assert restarts > 3


def check_prefix(node: Node, truth: Truth) -> None:
    assert node.failures == [] and node.made.items() <= truth.made.items()


@pytest.mark.parametrize("seed", range(6))
def test_nor_on_a_loss_of_power_at_any_change_of_the_disk(seed: int) -> None:
    """Bug 5: the applied index was saved apart from the data, so after a crash replicas held different rows.
    Each restart gets a few changes further; whatever was announced as a snapshot is there after it."""
    truth, rng = made_truth(seed, markers=30), random.Random(seed)
    disk, made, crashes = new_disk(truth.log), dict[int, bytes](), 0
    while True:
        disk.crash_at = disk.operations + rng.randrange(60)
        announced, is_over = follow_once(disk, truth, rng)
        made |= announced
        assert made.items() <= truth.made.items()
        if is_over:
            break
        crashes += 1
        disk = disk.crash(rng)
        assert max(made, default=0) <= (load_newest(disk, STORE) or manifest_of()).point.index
    assert crashes > 5
    left = {name for name in disk.list(STORE) if not name.endswith(".manifest")}
    kept = [read_file(disk, f"{STORE}/{n}") for n in disk.list(STORE) if n.endswith(".manifest")]
    assert len(kept) == 2
    named = {names.table_name(t.digest) for data in kept for t in manifest_format.decode(data, "").tables}
    assert named <= left and len(left - named) <= 1, "only the output of a merge may wait for its marker"


def test_one_loss_of_power_at_each_change_of_the_disk() -> None:
    """Bug 6: a crash while the store was rewritten left data and applied index apart. Every point of a run
    that flushes, merges, installs and unlinks; the next start finishes the log."""
    truth = made_truth(seed=2, markers=12)
    assert truth.installed
    changes = 0
    for changes in range(1000):
        rng = random.Random(changes)
        disk = new_disk(truth.log)
        disk.crash_at = disk.operations + changes
        made, is_over = follow_once(disk, truth, rng)
        if is_over:
            break
        disk = disk.crash(rng)
        assert max(made, default=0) <= (load_newest(disk, STORE) or manifest_of()).point.index
        finished, is_over = follow_once(disk, truth, rng)
        assert is_over and (made | finished).items() <= truth.made.items()
    assert changes > 80


def follow_once(disk: SimDisk, truth: Truth, rng: random.Random) -> tuple[dict[int, bytes], bool]:
    """(the snapshots made, whether the end of the log was reached with the right rows)."""
    with SimLoop() as loop:
        process = loop.process("follower")
        node = Node(process, disk, FAST, rng)
        try:
            run(loop, process, node.follow(truth.log))
            disk.check_alive()
        except (SimCrash, ProcessDied):
            return node.made, False
        check_state(node, truth)
        return node.made, True


def one_marker() -> Log:
    log = Log(HISTORY.base)
    log.add(Kind.DATA, [encode_put("t", "a", b"\x01")])
    log.add_special(Marker(snapshot=True))
    return log


def _damaged(name: str) -> Corrupt:
    return Corrupt(f"{name} is damaged", detail={"path": name})


@pytest.mark.parametrize(
    ("failures", "ends"),
    [
        ([StorageFailed("died")] * 2, True),
        ([StorageFailed("died")] * 3, False),
        ([Corrupt("damaged")], False),
        ([_damaged("a"), _damaged("b"), _damaged("c"), _damaged("d")], True),
        ([StorageFailed("died"), _damaged("a"), StorageFailed("died"), _damaged("a")], True),
        ([_damaged("a"), _damaged("b"), _damaged("a"), _damaged("a")], False),
    ],
)
def test_a_job_is_run_again_where_its_helper_died_or_damage_is_mended(
    failures: list[Exception], ends: bool
) -> None:
    """The third of its files that was damaged ended the node, though a peer had each of them."""
    log = one_marker()
    with SimLoop() as loop:
        process, disk = loop.process("node"), new_disk(log)
        node = Node(process, disk, FAST, random.Random(1), *failures)
        run(loop, process, node.follow(log))
        assert list(node.made) == ([2] if ends else [])
        assert node.failures == ([] if ends else failures[-1:])


def test_a_full_disk_is_waited_for() -> None:
    log = one_marker()
    with SimLoop() as loop:
        process, disk = loop.process("node"), new_disk(log)
        node = Node(process, disk, FAST, random.Random(1))
        disk.capacity_bytes = 0
        task = process.spawn(node.follow(log))
        loop.run(asyncio.sleep(60))
        assert node.made == {} and node.failures == [] and not task.done()
        disk.capacity_bytes = 1 << 30
        loop.run(asyncio.sleep(10))
        assert list(node.made) == [2] and task.done()


def test_a_failed_sync_of_a_manifest_is_told() -> None:
    log = one_marker()
    with SimLoop() as loop:
        process, disk = loop.process("node"), new_disk(log)
        node = Node(process, disk, FAST, random.Random(1))
        disk.fail_sync(".manifest")
        run(loop, process, node.follow(log))
        assert node.made == {} and isinstance(node.failures[0], StorageFailed)


def test_what_is_submitted_as_it_starts_is_not_cleared_away() -> None:
    """Bug: on a slow disk the table of a marker that was applied meanwhile was taken for what a crash left,
    and the manifest that named it came behind: the node had lost a table."""
    log = one_marker()
    with SimLoop() as loop:
        process, disk = loop.process("node"), new_disk(log)
        node = Node(process, disk, FAST, random.Random(1), lane_pace=Pace(slowness=2000))

        async def work() -> None:
            starting = asyncio.create_task(node.checkpointer.start())
            await asyncio.sleep(0)
            for frame in log.frames:
                node.apply(log, frame)
            await starting
            await node.checkpointer.drain()

        run(loop, process, work())
        assert list(node.made) == [2] and node.failures == []
        assert all(disk.exists(f"{STORE}/{names.table_name(r.digest)}") for r in node.store.manifest.tables)
