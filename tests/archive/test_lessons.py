"""What users of other systems lost data or sleep over, where it can happen here: a test for each thread."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from neumann import config
from neumann.archive.archiver import Settings
from neumann.env.disk import RealDisk
from neumann.errors import ConfigError, Corrupt, DiskFull, RefusedByState, Unavailable, WrongHistory
from neumann.format.manifest import Archiving, Manifest
from neumann.recovery.catalog import Catalog
from neumann.recovery.rebase import rebase
from neumann.recovery.runs import runs
from neumann.wal.retention import retain
from neumann.wal.segment import SegmentInfo
from tests.archive.archiving import World
from tests.archive.pushing import ARCHIVE, Node, contents, expected, make_node, push_to, write_history
from tests.recovery.world import SECOND, T0, Cluster
from tests.sim.disk import SimDisk, SimFile


@pytest.fixture
def node() -> Node[SimDisk]:
    """Two sealed segments; its history is archived."""
    disk = SimDisk()
    disk.make_dirs(ARCHIVE)
    made = make_node(disk)
    push_to(disk, made.history_path)
    return made


def restored(manifest: Manifest, seed: int, *, new_cluster: bool = False) -> Manifest:
    """The base of what a restore makes of this state, as recovery/adopt.py does it."""
    return rebase(
        manifest._replace(archiving=Archiving(True, manifest.point.index)),
        highest_term=manifest.point.term,
        now_ns=T0 + 60 * SECOND,
        reason="restored",
        random64=random.Random(seed).getrandbits(64),
        member=manifest.configuration.members[0],
        new_cluster_id=b"n" * 16 if new_cluster else None,
    )


def test_pgbackrest_1908_postgres_operator_3443_two_restores_of_one_archive(node: Node[SimDisk]) -> None:
    """Cloning twice from one archive made the same timeline and the same file name, and the push failed."""
    paths = []
    for seed in range(2):
        base = restored(node.cluster.manifest, seed)
        paths.append(write_history(node.disk, "/node", base.history))
        assert push_to(node.disk, paths[-1]).did == "copied"
    assert paths[0] != paths[1]
    assert {path.rpartition("/")[2] for path in paths} < set(contents(node.disk))


def test_pgbackrest_1753_1399_the_same_name_with_another_checksum(node: Node[SimDisk]) -> None:
    """Split brain: stop and say so, and never overwrite what is there."""
    twin = make_node(node.disk, "/twin", segments=0)
    twin.cluster.put("a0", "the other half of a split brain")
    twin.cluster.seal()
    push_to(node.disk, node.segments[0])
    before = contents(node.disk)
    with pytest.raises(RefusedByState, match="two logs of one timeline"):
        push_to(node.disk, twin.cluster.log.segments()[0].path)
    assert contents(node.disk) == before


def test_pgbackrest_1616_a_trial_restore_leaves_no_trace_in_the_archive(node: Node[SimDisk]) -> None:
    """It archived its own timeline into production's archive, and later restores took the wrong branch."""
    base = restored(node.cluster.manifest, 1, new_cluster=True)
    assert not base.archiving.on
    before = contents(node.disk)
    with pytest.raises(WrongHistory):
        push_to(node.disk, write_history(node.disk, "/node", base.history), create=True)
    assert contents(node.disk) == before


def test_barman_507_killed_between_the_copy_and_the_note_of_it(node: Node[SimDisk]) -> None:
    """The retry was refused for ever, `already present`, and the disk filled up."""
    push_to(node.disk, node.segments[0])
    after = node.disk.crash(random.Random(1))
    assert push_to(after, node.segments[0]).did == "there"


def test_barman_11_a_cloned_server_archives_into_the_originals_directory(node: Node[SimDisk]) -> None:
    push_to(node.disk, node.segments[0])
    before = contents(node.disk)
    clone = make_node(node.disk, "/clone", seed=2)
    for path in clone.files:
        with pytest.raises(WrongHistory, match="a directory of its own"):
            push_to(node.disk, path)
    assert contents(node.disk) == before


def test_barman_897_duplicates_from_a_replicated_database(node: Node[SimDisk]) -> None:
    """Two nodes archive the same log, as around a change of leaders: one file for each segment."""
    replica = make_node(node.disk, "/replica")
    assert [push_to(node.disk, path).did for path in node.segments] == ["copied", "copied"]
    assert [push_to(node.disk, path).did for path in replica.files] == ["there"] * 3
    assert contents(node.disk) == expected(node)


def test_cloudnative_pg_6470_a_restored_cluster_goes_on_in_the_same_place(node: Node[SimDisk]) -> None:
    """`Expected empty archive`: people had to invent a new path for each restore."""
    for path in node.segments:
        push_to(node.disk, path)
    base = restored(node.cluster.manifest, 1)
    assert base.archiving == Archiving(True, base.point.index)
    assert push_to(node.disk, write_history(node.disk, "/node", base.history)).did == "copied"
    assert set(expected(node)) < set(contents(node.disk))


@pytest.mark.parametrize("kept", [0, 100])
def test_wal_g_63_wal_e_169_a_truncated_or_empty_segment(node: Node[SimDisk], kept: int) -> None:
    """It was archived as it was, and ended a later recovery silently."""
    path = node.segments[0]
    file = node.disk.open(path, write=True)
    file.truncate(kept)
    with pytest.raises(Corrupt):
        push_to(node.disk, path)
    assert len(contents(node.disk)) == 1


def test_pgbackrest_842_what_was_written_is_not_what_is_there() -> None:
    """A damaged copy was found at the restore: the data is just lost. Here the push finds it."""

    class BadDisk(SimDisk):
        is_bad = False

        def open(self, path: str, *, write: bool = False, create: bool = False) -> SimFile:
            if self.is_bad and not write and path.endswith(".tmp"):
                self.flip(path, 70, 3)
            return super().open(path, write=write, create=create)

    disk = BadDisk()
    disk.make_dirs(ARCHIVE)
    made = make_node(disk)
    push_to(disk, made.history_path)
    disk.is_bad = True
    with pytest.raises(Corrupt, match="not what is read back"):
        push_to(disk, made.segments[0])
    assert len(contents(disk)) == 1
    disk.is_bad = False
    assert push_to(disk, made.segments[0]).did == "copied"


async def test_foundationdb_4640_the_jump_of_the_index_costs_the_archiver_nothing(world: World) -> None:
    """After a restore the version jumped far ahead: a storm of empty work. Here it is one comparison."""
    base = 5_203_273_377
    world.log.first = base + 1
    world.log.state = Archiving(True, base)
    world.log.add(1)
    async with world.leading():
        await world.until(lambda: world.log.state.through == base + 10)
    assert world.log.proposed == [base + 10] and not world.archiver.status.failures


def test_litestream_781_a_restored_cluster_continues_above_the_archive(node: Node[SimDisk]) -> None:
    """Ids began low again after a restore: nothing was backed up until they had passed the old mark."""
    base = restored(node.cluster.manifest, 1)
    assert base.point.index > node.cluster.log.last.index + 10**9
    assert base.archiving.through == base.point.index


async def test_litestream_753_847_the_archive_is_contiguous_when_it_is_written(world: World) -> None:
    """A hole in the log made an archive that looked well until somebody restored it."""
    world.log.add(3)
    del world.log.segments[1]
    async with world.leading():
        await world.until(lambda: world.archiver.status.failures["missing"] >= 2)
    assert world.log.segments[-1].name not in world.archived()


def test_litestream_224_422_two_writers_of_one_place(node: Node[SimDisk]) -> None:
    """Whichever comes second is refused, also where the first has archived no segment yet."""
    other = make_node(node.disk, "/other", seed=2)
    node.disk.make_dirs("/second")
    push_to(node.disk, other.history_path, "/second")
    with pytest.raises(WrongHistory):
        push_to(node.disk, other.history_path)
    with pytest.raises(WrongHistory):
        push_to(node.disk, node.history_path, "/second")


def test_litestream_0_5_0_a_setting_that_is_not_understood_is_refused() -> None:
    """Settings for encryption were accepted and ignored, and plain text was uploaded."""
    text = '[node]\nid = "n1"\n[wal]\narchive_encryption = "age"\n'
    with pytest.raises(ConfigError, match="archive_encryption"):
        config.load(text, "config.toml", {}, {})


async def test_tidb_53047_lag_grows_while_the_command_hangs(world: World) -> None:
    """`NORMAL`, with a checkpoint stuck for five hours: the lag is told from what is not archived."""
    world.settings = Settings("sleep 60; cp %p %f", 60.0)
    world.log.add(2)
    async with world.leading():
        await world.until(lambda: world.log.state.on)
        assert world.archiver.lag().segments == 2 and world.archiver.lag().seconds > 0


def test_tidb_58691_a_full_archive_goes_on_when_there_is_room(node: Node[SimDisk]) -> None:
    room = node.disk.capacity_bytes
    node.disk.capacity_bytes -= node.disk.free_bytes("/") - 100
    for _ in range(3):
        with pytest.raises(DiskFull):
            push_to(node.disk, node.segments[0])
    node.disk.capacity_bytes = room
    for path in node.segments:
        push_to(node.disk, path)
    assert contents(node.disk) == expected(node)


@pytest.mark.parametrize("archived", [0, 30, 70, 100])
def test_cockroachdb_34031_47050_the_log_waits_for_the_archive(archived: int) -> None:
    """Data that the next incremental backup needed had been collected. Here the archive pins the log."""
    segments = [SegmentInfo(f"{n}", "", n, n + 9, 1, 2, 1, True) for n in range(1, 100, 10)]
    segments.append(SegmentInfo("101", "", 101, 101, 1, 2, 1, False))
    dropped = retain(segments, snapshot_index=100, archived_through=archived, retain_entries=0)
    assert dropped == archived
    assert retain(segments, snapshot_index=100, archived_through=None, retain_entries=0) == 100


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("exit 126 # %p", "exec"),
        ("exit 127 # %p", "not_found"),
        ("exit 200 # %p", "signal"),
        ("kill -TERM $$ # %p", "signal"),
    ],
)
async def test_pg_stat_archiver_every_failure_is_counted(world: World, command: str, reason: str) -> None:
    """PostgreSQL's counter misses exit codes above 125, and signals."""
    world.log.add()
    world.settings = Settings(command, 20.0)
    async with world.leading():
        await world.until(lambda: world.archiver.status.failures[reason] >= 2)
    assert world.archiver.status.last_error and world.log.proposed == [0]


def test_foundationdb_12038_what_the_archive_covers_is_a_set_of_intervals(tmp_path: Path) -> None:
    """With logs missing in the middle one minimum and one maximum were shown, and both were wrong."""
    cluster = Cluster.fresh(RealDisk(), str(tmp_path), 1)
    for number in range(5):
        cluster.put("k", number)
        cluster.seal()
    files = sorted(Path(cluster.archive).glob("*.wal"))
    files[1].unlink()
    files[3].unlink()
    found = runs(Catalog(RealDisk(), cluster.archive), bodies=True)
    assert [(run.first_index, run.last_index) for run in found.found] == [(1, 2), (5, 6), (9, 10)]
    assert [str(error).partition(": ")[2][:12] for error in found.wrong] == ["entries 3..4", "entries 7..8"]


def test_wal_g_1126_an_error_is_not_the_same_as_nothing_there(node: Node[SimDisk]) -> None:
    """A failure that passes is told from a place that is missing: by class, exit code and text."""
    node.disk.fail_sync(".tmp")
    with pytest.raises(Unavailable) as failed:
        push_to(node.disk, node.segments[0])
    with pytest.raises(RefusedByState) as unmounted:
        node.disk.make_dirs("/empty")
        push_to(node.disk, node.segments[0], "/empty")
    assert (failed.value.exit_code, unmounted.value.exit_code) == (8, 9)
