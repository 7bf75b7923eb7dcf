"""Install: what arrives is what was promised, through lost calls, damage and crashes; tables are reused."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from neumann.env.files import read_file, write_new
from neumann.errors import Corrupt, Unavailable
from neumann.format import manifest as manifest_format
from neumann.format import names
from neumann.format.manifest import Manifest
from neumann.format.message import SnapshotOffer
from neumann.format.names import Paths
from neumann.format.state import decode_mark
from neumann.recovery.formation import empty_base, write_vote
from neumann.snapshot import install, journal
from neumann.snapshot.publish import list_published, open_published, publish
from neumann.snapshot.verify import open_view, verify_tables
from neumann.store.manifests import load_newest
from neumann.wal.log import Log
from tests.recovery.world import SEGMENT_BYTES, Cluster
from tests.sim.disk import SimCrash, SimDisk
from tests.sim.inode import FileNode

JOINER = Paths("/joiner")


class InlineLane:
    """env.Lane that runs at once."""

    def submit(self, work: Callable[[], Any], done: Any) -> None:
        done(work(), None)

    async def run(self, work: Callable[[], Any]) -> Any:
        return work()

    def close(self) -> None:
        return


class Leader:
    """env.Net as a joiner sees it: a leader that serves its published snapshot. `fail` loses calls,
    `damage` may change what is sent."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.bytes_sent = 0
        self.fail: Callable[[], bool] = lambda: False
        self.damage: Callable[[bytes], bytes] = lambda data: data

    def call(self, address: str, method: str, params: list[Any], timeout_s: float) -> Awaitable[Any]:
        return self._answer(method, params)

    async def _answer(self, method: str, params: list[Any]) -> Any:
        if self.fail():
            raise Unavailable("lost")
        disk, paths = self.cluster.disk, self.cluster.paths
        if method == "snapshot.describe":
            manifest = open_published(disk, f"{paths.snapshots}/{params[0] or 'latest'}")
            directory = f"{paths.snapshots}/{manifest.snapshot_id}"
            sealed = [s for s in self.cluster.log.segments() if s.sealed]
            return {
                "id": manifest.snapshot_id,
                "manifest": manifest_format.encode(manifest),
                "tables": [
                    [t.name, disk.stat(f"{directory}/{names.table_name(t.digest)}").size_bytes]
                    for t in manifest.tables
                ],
                "segments": [[s.name, s.bytes] for s in sealed[-2:]],
            }
        *where, offset, length = params
        root = paths.wal if method == "segment.read" else f"{paths.snapshots}/{where[0]}"
        data = read_file(disk, f"{root}/{where[-1]}")[offset : offset + length]
        self.bytes_sent += len(data)
        return self.damage(data)

    def send(self, address: str, payload: bytes) -> None:
        raise AssertionError

    def bind(self, handler: Any) -> None:
        raise AssertionError

    async def close(self) -> None:
        return


@pytest.fixture
def leader() -> Leader:
    disk = SimDisk()
    cluster = Cluster.fresh(disk, "/world", 3)
    for number in range(60):
        cluster.put(f"k{number}", "x" * 50)
        if number % 20 == 19:
            cluster.seal()
    cluster.snapshot()
    disk.make_dirs(JOINER.root)
    return Leader(cluster)


def fetch(leader: Leader, disk: SimDisk, offer: SnapshotOffer | None = None, **more: Any) -> install.Fetched:
    return asyncio.run(
        install.fetch(leader, "h:1", offer, disk, InlineLane(), JOINER, **more)  # type: ignore[arg-type]
    )


def check_installed(disk: SimDisk, manifest: Manifest) -> None:
    assert load_newest(disk, JOINER.store) == manifest
    verify_tables(disk, JOINER.store, manifest)
    history = manifest.history
    _, mark = decode_mark(read_file(disk, JOINER.sync_mark), "mark")
    log, recovery = Log.recover(
        disk,
        JOINER.wal,
        history.cluster_id,
        history.timeline,
        mark,
        manifest.point,
        SEGMENT_BYTES,
        JOINER.aside,
    )
    assert log.last == manifest.point and recovery.cut is None
    log.close()


def test_a_joiner_gets_tables_segments_and_a_log_behind_them(leader: Leader) -> None:
    disk, manifest = leader.cluster.disk, leader.cluster.manifest
    assert isinstance(disk, SimDisk)
    seen: list[tuple[int, int]] = []
    point = manifest.point
    offer = SnapshotOffer(1, point.index, point.term, point.chain, 1)
    fetched = fetch(leader, disk, offer, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == fetched.bytes == leader.bytes_sent
    install.place(disk, JOINER, fetched, SEGMENT_BYTES)
    check_installed(disk, manifest)
    assert len([n for n in disk.list(JOINER.wal) if n in fetched.segments]) == 2
    never = empty_base("n2", "h2", b"2" * 16, 1, b"x" * 16, 1, 1024)
    publish(disk, JOINER, never)  # by a formation that was interrupted
    write_vote(disk, JOINER, manifest, "n2", b"2" * 16, 1)
    assert [p.id for p in list_published(disk, JOINER.snapshots)] == [manifest.snapshot_id]
    assert open_view(disk, JOINER.store, manifest).count() == 60


def test_every_crash_point_of_placing(leader: Leader) -> None:
    """Bug 9: the log was dropped before what replaces it was durable, and the node never started again.
    Figure 13, InstallSnapshot 5."""
    model, manifest = leader.cluster.disk, leader.cluster.manifest
    assert isinstance(model, SimDisk)
    fetched = fetch(leader, model)
    steps = 0
    for with_old_log in (False, True):
        base = model.fork()
        if with_old_log:
            base.make_dirs(JOINER.wal)
            for path in (f"{JOINER.wal}/old.wal", JOINER.sync_mark, JOINER.vote):
                write_new(base, path, b"old")
            base.sync_dir(JOINER.wal)
            base.sync_dir(JOINER.raft)
        for step in range(80):
            disk = base.fork()
            disk.crash_at = disk.operations + step
            try:
                install.place(disk, JOINER, fetched, SEGMENT_BYTES)
            except SimCrash:
                disk = disk.crash(random.Random(step))
                journal.finish(disk, JOINER)
                steps += 1
            disk.crash_at = None
            if disk.exists(f"{JOINER.wal}/old.wal"):
                assert read_file(disk, JOINER.sync_mark) == b"old"
                assert load_newest(disk, JOINER.store) is None
            elif disk.exists(JOINER.sync_mark):
                check_installed(disk, manifest)
            assert disk.exists(JOINER.vote) is with_old_log
            again = fetch(leader, disk)
            install.place(disk, JOINER, again, SEGMENT_BYTES)
            check_installed(disk, manifest)
    assert steps > 40


def test_lost_calls_are_repeated_and_what_arrived_is_not_fetched_again(leader: Leader) -> None:
    """Figure 13, InstallSnapshot 2..4."""
    disk = leader.cluster.disk
    assert isinstance(disk, SimDisk)
    calls = iter([False, False, True, True, True])
    leader.fail = lambda: next(calls, False)
    with pytest.raises(Unavailable):
        fetch(leader, disk)
    sent = leader.bytes_sent
    assert sent > 0
    fetched = fetch(leader, disk)
    assert fetched.bytes < sent + fetched.bytes == leader.bytes_sent
    install.place(disk, JOINER, fetched, SEGMENT_BYTES)
    check_installed(disk, leader.cluster.manifest)


def test_a_file_goes_on_where_it_broke_off_also_after_a_power_failure(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file that was under way was fetched from its begin again (rke2#4771: a big one never arrived)."""
    disk = leader.cluster.disk
    assert isinstance(disk, SimDisk)
    whole = fetch(leader, disk.fork()).bytes
    leader.bytes_sent = 0
    monkeypatch.setattr("neumann.snapshot.fetch.CHUNK_BYTES", 200)
    monkeypatch.setattr("neumann.snapshot.fetch._RETRY_S", 0.0)
    rounds, came = 0, 0
    while rounds < 100:
        calls = iter([False] * 5)  # the description, four chunks, and then nothing any more
        leader.fail = lambda calls=calls: next(calls, True)  # type: ignore[misc]
        try:
            fetched = fetch(leader, disk)
        except Unavailable:
            rounds += 1
            assert leader.bytes_sent > came, "each round moves something"
            came = leader.bytes_sent
            if rounds % 2:
                leader.cluster.disk = disk = disk.crash(random.Random(rounds))
        else:
            break
    assert 2 < rounds < 100
    assert whole <= leader.bytes_sent <= whole + rounds * 3 * 200, "but for chunks beside a lost one"
    install.place(disk, JOINER, fetched, SEGMENT_BYTES)
    check_installed(disk, leader.cluster.manifest)


def check_after_power_failure(leader: Leader, disk: SimDisk, fetched: install.Fetched) -> None:
    """Put in place, each byte is on the disk: of tables, and of the log below."""
    install.place(disk, JOINER, fetched, SEGMENT_BYTES)
    assert fetched.segments
    for seed in range(4):
        after = disk.fork().crash(random.Random(seed))
        check_installed(after, leader.cluster.manifest)
        for name in fetched.segments:
            there = read_file(leader.cluster.disk, f"{leader.cluster.paths.wal}/{name}")
            assert read_file(after, f"{JOINER.wal}/{name}") == there


class FailingDisk(SimDisk):
    """Its `fails`-th sync of a file that is being fetched fails."""

    fails = -1
    syncs = 0

    def sync_file(self, node: FileNode, path: str) -> None:
        if path.endswith(names.TEMPORARY):
            if self.syncs == self.fails:
                self.fail_sync(path)
            self.syncs += 1
        super().sync_file(node, path)


def test_an_fsync_that_failed_leaves_no_hole(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: after a failed fsync the fetch went on behind bytes that the disk never got. The next fsync took
    them for clean, the check read them from memory, and a power failure left a hole in what was installed."""
    monkeypatch.setattr("neumann.snapshot.fetch.CHUNK_BYTES", 100)
    for number in itertools.count():
        disk = FailingDisk()
        disk.make_dirs(JOINER.root)
        disk.fails = number
        try:
            fetch(leader, disk)
        except OSError:
            check_after_power_failure(leader, disk, fetch(leader, disk))
        else:
            break
    assert number > 10


def test_a_process_that_was_killed_before_an_fsync_leaves_no_hole(leader: Leader) -> None:
    """Bug: where the last bytes of a file were written, and a kill came before their fsync, the next run
    found the file whole, and never synced it."""
    for step in itertools.count(1):
        disk = SimDisk()
        disk.make_dirs(JOINER.root)
        disk.crash_at = disk.operations + step
        try:
            fetch(leader, disk)
        except SimCrash:
            disk = disk.kill()
            check_after_power_failure(leader, disk, fetch(leader, disk))
        else:
            break
    assert step > 20


def test_what_came_and_fails_its_check_is_fetched_anew(leader: Leader) -> None:
    disk = leader.cluster.disk
    assert isinstance(disk, SimDisk)
    calls = iter([False, False, True, True, True])
    leader.fail = lambda: next(calls, False)
    with pytest.raises(Unavailable):
        fetch(leader, disk)
    scratch = f"{install.scratch_directory(JOINER)}/store"
    name = names.table_name(leader.cluster.manifest.tables[0].digest)
    if disk.exists(f"{scratch}/{name}"):
        disk.unlink(f"{scratch}/{name}")
    write_new(disk, f"{scratch}/{name}.tmp", b"debris")
    with pytest.raises(Corrupt):
        fetch(leader, disk)
    install.place(disk, JOINER, fetch(leader, disk), SEGMENT_BYTES)
    check_installed(disk, leader.cluster.manifest)


def test_tables_that_are_here_are_reused_unless_they_are_damaged(leader: Leader) -> None:
    disk, manifest = leader.cluster.disk, leader.cluster.manifest
    assert isinstance(disk, SimDisk)
    old = "/joiner/aside/x/store"
    disk.make_dirs(old)
    name = names.table_name(manifest.tables[0].digest)
    data = read_file(disk, f"{leader.cluster.paths.store}/{name}")
    write_new(disk, f"{old}/{name}", data)
    only_segments = fetch(leader, disk.fork(), reuse=[old]).bytes
    disk.flip(f"{old}/{name}", 20, 3)
    with_table = fetch(leader, disk.fork(), reuse=[old]).bytes
    assert with_table == only_segments + len(data)


def test_a_table_that_rotted_here_gives_way_to_the_one_that_was_fetched(leader: Leader) -> None:
    """The good one was fetched and thrown away: the damaged one had its name in store/ already."""
    disk, manifest = leader.cluster.disk, leader.cluster.manifest
    assert isinstance(disk, SimDisk)
    disk.make_dirs(JOINER.store)
    name = names.table_name(manifest.tables[0].digest)
    write_new(disk, f"{JOINER.store}/{name}", read_file(disk, f"{leader.cluster.paths.store}/{name}"))
    disk.flip(f"{JOINER.store}/{name}", 20, 3)
    install.place(disk, JOINER, fetch(leader, disk), SEGMENT_BYTES)
    check_installed(disk, manifest)
    assert not [left for left in disk.list(JOINER.store) if left.endswith(names.TEMPORARY)]


def test_damage_on_the_way_is_never_placed(leader: Leader) -> None:
    """What was no bytes at all ended as a TypeError, or as so many zeros."""
    disk = leader.cluster.disk
    assert isinstance(disk, SimDisk)
    leader.damage = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(Corrupt):
        fetch(leader, disk)
    leader.damage = lambda data: data[:-1]
    with pytest.raises(Corrupt):
        fetch(leader, disk)
    for rubbish in (None, 7, "text"):
        leader.damage = lambda _, rubbish=rubbish: rubbish  # type: ignore[misc]
        with pytest.raises(Corrupt, match="no bytes"):
            fetch(leader, disk)
    leader.damage = lambda data: data
    point = leader.cluster.manifest.point
    with pytest.raises(Corrupt, match="offered"):
        fetch(leader, disk, SnapshotOffer(1, point.index, point.term, point.chain ^ 1, 1))
    assert not disk.exists(JOINER.store) and not disk.exists(JOINER.raft)
