"""Archives that are not what they should be: each file's fault is named, and nothing short is restored."""

from __future__ import annotations

import asyncio
import errno
import os
import posixpath
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk, RealFile
from neumann.errors import (
    ArchiveGap,
    BadInput,
    BeyondArchive,
    Corrupt,
    DiskFull,
    NeumannError,
    NotFound,
    Unavailable,
    WrongHistory,
)
from neumann.format import history as history_format
from neumann.format import names
from neumann.format.command import row_key
from neumann.format.table import print_of
from neumann.recovery.catalog import Catalog
from neumann.recovery.prepare import Planned, Request, plan_restore
from neumann.recovery.restore import restore
from neumann.recovery.runs import runs
from neumann.recovery.targets import Kind, Target, parse_target
from tests.recovery.world import SEGMENT_BYTES, Cluster, make_env, rows_in, segment_files

DISK = RealDisk()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Four archived segments, of two puts each."""
    made = Cluster.fresh(DISK, str(tmp_path), 1)
    for number in range(4):
        made.put(f"a{number}", number)
        made.put(f"b{number}", number)
        made.seal()
    return made


def plan(cluster: Cluster, target: Target | None = None, **more: object) -> Planned:
    wanted = Request(
        target or parse_target(until="latest"),
        data_dir=f"{cluster.archive}-none",
        node_id="n1",
        address="h:1",
        wal_dir=cluster.archive,
        segment_bytes=SEGMENT_BYTES,
        **more,  # type: ignore[arg-type]
    )
    return plan_restore(make_env(DISK), wanted)


def at(time_ns: int) -> Target:
    return Target(Kind.TIME, "then", time_ns)


def refusal(cluster: Cluster, kind: type[NeumannError], code: int, target: Target | None = None) -> str:
    with pytest.raises(kind) as refused:
        plan(cluster, target)
    assert refused.value.exit_code == code
    return str(refused.value)


def test_a_missing_segment_is_a_gap_for_all_that_lies_behind_it(cluster: Cluster) -> None:
    segments = segment_files(cluster.archive)
    segments[1].unlink()
    assert "entries 4..6 are missing" in refusal(cluster, ArchiveGap, 4)
    assert "4..6" in refusal(cluster, ArchiveGap, 4, at(cluster.frames[7].time_ns))
    assert "4..6" in refusal(cluster, ArchiveGap, 4, at(cluster.frames[2].time_ns + 1))
    assert plan(cluster, at(cluster.frames[1].time_ns)).plan.cut.index == 2
    assert plan(cluster, at(cluster.frames[2].time_ns)).plan.cut.index == 3
    assert any("4..6" in str(gap) for gap in runs(Catalog(DISK, cluster.archive), bodies=False).wrong)


def test_every_second_segment_missing(cluster: Cluster) -> None:
    """A cp that drops every second file and exits 0."""
    for path in segment_files(cluster.archive)[1::2]:
        path.unlink()
    assert "entries 4..6" in refusal(cluster, ArchiveGap, 4, at(cluster.frames[7].time_ns))


def test_the_first_segment_missing_and_no_snapshot(cluster: Cluster) -> None:
    segment_files(cluster.archive)[0].unlink()
    assert "entries 1..3 are missing" in refusal(cluster, ArchiveGap, 4)


def test_the_last_segment_missing_is_the_archives_end(cluster: Cluster) -> None:
    segment_files(cluster.archive)[-1].unlink()
    text = refusal(cluster, BeyondArchive, 3, at(cluster.frames[10].time_ns))
    assert "recoverable: the beginning .. " in text and "index 0 .. 9" in text
    assert plan(cluster).plan.cut.index == 9


@pytest.mark.parametrize("kept", [0, 1, 63, 64, 100, -1])
def test_a_short_segment_in_the_middle(cluster: Cluster, kept: int) -> None:
    """A copy that was cut, or came out empty, is never taken for the end of the archive."""
    path = segment_files(cluster.archive)[1]
    path.write_bytes(path.read_bytes()[:kept])
    assert path.name in refusal(cluster, Corrupt, 5)
    assert path.name in refusal(cluster, Corrupt, 5, at(cluster.frames[-1].time_ns))
    assert plan(cluster, at(cluster.frames[1].time_ns)).plan.cut.index == 2


@pytest.mark.parametrize("kept", [0, 64, 100, -1])
def test_a_short_last_segment(cluster: Cluster, kept: int) -> None:
    path = segment_files(cluster.archive)[-1]
    path.write_bytes(path.read_bytes()[:kept])
    text = refusal(cluster, Corrupt, 5)
    assert path.name in text


def test_frames_before_the_cut_of_a_short_file_can_be_reached(cluster: Cluster) -> None:
    path = segment_files(cluster.archive)[-1]
    path.write_bytes(path.read_bytes()[:-1])
    text = refusal(cluster, Corrupt, 5)
    assert "--until-index 11" in text
    assert plan(cluster, parse_target(until_index=11)).plan.cut.index == 11
    assert plan(cluster, at(cluster.frames[10].time_ns)).plan.cut.index == 11
    assert plan(cluster, parse_target(until=text.rpartition(" ")[2])).plan.cut.index == 11
    refusal(cluster, Corrupt, 5, at(cluster.frames[10].time_ns + 1))


def test_every_flipped_byte_of_a_needed_segment_is_noticed(cluster: Cluster, tmp_path: Path) -> None:
    path = segment_files(cluster.archive)[1]
    good = path.read_bytes()
    for offset in range(len(good)):
        damaged = bytearray(good)
        damaged[offset] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(NeumannError) as refused:
            plan(cluster)
        assert refused.value.exit_code in (5, 6) and path.name in str(refused.value), offset
    path.write_bytes(good)
    assert plan(cluster).plan.cut.index == 12


def test_an_open_segment_is_not_taken_for_archived(cluster: Cluster) -> None:
    cluster.put("uncommitted", 1)
    open_one = cluster.log.segments()[-1]
    shutil.copy(open_one.path, cluster.archive)
    assert plan(cluster).plan.cut.index == 12
    text = refusal(cluster, BeyondArchive, 3, parse_target(until_index=13))
    assert "was copied while it was open" in text


def test_files_of_two_clusters(cluster: Cluster, tmp_path: Path) -> None:
    other = Cluster.fresh(DISK, str(tmp_path / "other"), 2)
    other.put("x", 1)
    other.seal()
    for path in Path(other.archive).iterdir():
        shutil.copy(path, cluster.archive)
    text = refusal(cluster, WrongHistory, 6)
    assert cluster.manifest.history.cluster_id.hex() in text and "2 clusters" in text


def test_a_snapshot_of_another_cluster(cluster: Cluster, tmp_path: Path) -> None:
    other = Cluster.fresh(DISK, str(tmp_path / "other"), 2)
    other.put("x", 1)
    other.snapshot(str(tmp_path / "snapshots"))
    with pytest.raises(WrongHistory):
        plan(cluster, snapshot_dir=str(tmp_path / "snapshots"))


def test_a_segment_under_another_name(cluster: Cluster) -> None:
    first, second, *_ = segment_files(cluster.archive)
    shutil.copy(first, second)
    assert "under another name" in refusal(cluster, Corrupt, 5)


def test_a_segment_of_a_sibling_under_the_right_name(cluster: Cluster, tmp_path: Path) -> None:
    """Two leaders' logs that differ from one index on: the chain tells, not the name."""
    twin = Cluster.fresh(DISK, str(tmp_path / "twin"), 1)
    for number in range(4):
        twin.put(f"other{number}", number)
        twin.put(f"b{number}", number)
        twin.seal()
    shutil.copy(segment_files(twin.archive)[1], cluster.archive)
    text = refusal(cluster, WrongHistory, 6)
    assert "does not continue" in text


def test_without_the_history_file_nothing_is_guessed(cluster: Cluster) -> None:
    history = Path(cluster.archive, names.history_name(cluster.manifest.history.timeline))
    data = history.read_bytes()
    history.unlink()
    assert "history file is missing" in refusal(cluster, WrongHistory, 6)
    history.write_bytes(data[:-1])
    assert history.name in refusal(cluster, Corrupt, 5)
    history.write_bytes(b"")
    assert history.name in refusal(cluster, Corrupt, 5)
    assert history_format.decode(data, "x") == cluster.manifest.history


def test_unknown_files_are_named_and_harmless(cluster: Cluster) -> None:
    Path(cluster.archive, "README").write_text("mine")
    Path(cluster.archive, "x.wal.part").write_text("")
    assert Catalog(DISK, cluster.archive).unknown == ["README", "x.wal.part"]
    assert plan(cluster).plan.cut.index == 12


@pytest.mark.parametrize(("make", "kind"), [(Path.mkdir, "directory"), (os.mkfifo, "FIFO")])
def test_what_is_no_file_under_a_segments_name(
    cluster: Cluster, make: Callable[[Path], None], kind: str
) -> None:
    """It was `this machine: Is a directory`, of no file; who opened a FIFO waited for ever."""
    path = segment_files(cluster.archive)[1]
    path.unlink()
    make(path)
    assert f"{path}: is a {kind}, and no file" in refusal(cluster, Corrupt, 5)
    assert plan(cluster, parse_target(until_index=3)).plan.cut.index == 3


def test_a_restore_point_may_be_in_what_is_missing(cluster: Cluster) -> None:
    """`it has: none`, and not a word on the gap that may hold it."""
    cluster.seal("named")
    named = segment_files(cluster.archive)[-1]
    cluster.seal()
    assert plan(cluster, parse_target(until_name="named")).plan.cut.index == 13
    named.unlink()
    text = refusal(cluster, BeyondArchive, 3, parse_target(until_name="named"))
    assert "entries 13..13 are missing" in text and "it has: none" in text


def test_duplicates_under_other_names_count_once(cluster: Cluster) -> None:
    """Copies that somebody made beside the files, the part of a receiver among them."""
    path = segment_files(cluster.archive)[1]
    for name in (f"{path.name}.bak", f"copy-of-{path.name}", f"{path.name}.part"):
        shutil.copy(path, path.with_name(name))
    assert plan(cluster).plan.cut.index == 12
    found = runs(Catalog(DISK, cluster.archive), bodies=True)
    assert found.wrong == [] and [run.files for run in found.found] == [4]


def test_reading_changes_nothing_in_an_archive(cluster: Cluster, tmp_path: Path) -> None:
    """It may lie on a medium that nobody can write."""
    before = {path.name: path.stat() for path in Path(cluster.archive).iterdir()}
    times = {name: (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for name, stat in before.items()}
    planned = plan(cluster, to=str(tmp_path / "to"))
    asyncio.run(restore(make_env(DISK), planned))
    assert runs(Catalog(DISK, cluster.archive), bodies=True).wrong == []
    after = {path.name: path.stat() for path in Path(cluster.archive).iterdir()}
    assert times == {name: (s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in after.items()}


def test_sources_that_are_none(cluster: Cluster, tmp_path: Path) -> None:
    Path(cluster.archive).rename(tmp_path / "gone")
    with pytest.raises(NotFound):
        plan(cluster)
    with pytest.raises(BadInput, match="name a directory, host:path or s3://bucket/prefix"):
        plan_restore(
            make_env(DISK),
            Request(parse_target(until="latest"), str(tmp_path / "d"), "n1", "h:1", wal_dir="ftp://b/wal"),
        )


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def another_one(path: Path) -> None:
    shutil.copy(path.parent / sorted(path.parent.glob("*.wal"))[0].name, path)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "kind"),
    [(flipped, Corrupt), (cut_short, Corrupt), (another_one, Corrupt), (Path.unlink, Unavailable)],
)
def test_an_archive_that_changes_behind_the_plan(
    cluster: Cluster, change: Callable[[Path], object], kind: type[NeumannError]
) -> None:
    """What is damaged or gone by the time of the real run is named, and nothing in place was touched, and
    nothing half-written stays: a full disk stayed full."""
    env = make_env(DISK)
    planned = plan_restore(env, replace(in_place(cluster), target=parse_target(until_index=12)))
    path = segment_files(cluster.archive)[2]
    change(path)
    before = sorted(str(p) for p in Path(cluster.root, "raft").rglob("*"))
    rows = rows_in(DISK, cluster.root)
    with pytest.raises(kind, match=path.name):
        asyncio.run(restore(env, planned))
    assert rows_in(DISK, cluster.root) == rows
    assert sorted(str(p) for p in Path(cluster.root, "raft").rglob("*")) == before
    assert not list(Path(cluster.root, "scratch").iterdir())


class CopiesRot(RealDisk):
    """Flips one bit of each table that is copied, after it was written."""

    def __init__(self, find: Callable[[bytes], int]) -> None:
        self._find = find

    def rename(self, source: str, target: str) -> None:
        if names.parse_table(posixpath.basename(target)):
            data = bytearray(Path(source).read_bytes())
            data[self._find(bytes(data))] ^= 1
            Path(source).write_bytes(data)
        super().rename(source, target)


@pytest.mark.parametrize(
    "find",
    [
        lambda _: 3,
        lambda data: data.index(b"rotten"),
        lambda data: data.rindex(print_of(row_key("t", "rotten"))),
        lambda data: len(data) - 20,
    ],
    ids=["magic", "row", "filter", "footer"],
)
def test_a_copy_that_differs_from_what_was_read_is_never_swapped_in(
    cluster: Cluster, tmp_path: Path, find: Callable[[bytes], int]
) -> None:
    """The plan has read the tables where they lie, and the copy is what counts."""
    cluster.put("rotten", 1)
    snapshots = f"{cluster.archive}-snapshots"
    cluster.snapshot(snapshots)
    planned = plan(cluster, snapshot_dir=snapshots, to=f"{tmp_path}/r")
    assert planned.plan.start.directory.startswith(snapshots)
    with pytest.raises(Corrupt, match="table"):
        asyncio.run(restore(make_env(CopiesRot(find)), planned))
    assert not {"raft", "store"} & set(DISK.list(f"{tmp_path}/r"))


class FailingDisk(RealDisk):
    """Each change of a name fails, or each write, from the nth on; 0 for never."""

    def __init__(self, renames: int = 0, full: bool = False) -> None:
        self.renames = renames
        self.full = full

    def rename(self, source: str, target: str) -> None:
        self.renames -= 1
        if not self.renames:
            raise OSError(errno.EIO, "Input/output error", source)
        super().rename(source, target)

    def open(self, path: str, *, write: bool = False, create: bool = False) -> RealFile:
        if self.full and write and "/scratch/" in path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        found = super().open(path, write=write, create=create)
        assert isinstance(found, RealFile)
        return found


def in_place(cluster: Cluster) -> Request:
    return Request(
        parse_target(until_index=6),
        data_dir=cluster.root,
        node_id="n1",
        address="h:1",
        wal_dir=cluster.archive,
        segment_bytes=SEGMENT_BYTES,
    )


def test_a_full_data_directory_is_said_and_left_as_it_was(cluster: Cluster) -> None:
    """It was `this machine: No space left on device`, of no directory, and exit 1."""
    rows = rows_in(DISK, cluster.root)
    env = make_env(FailingDisk(full=True))
    with pytest.raises(DiskFull, match=f"{cluster.root}: No space left on device"):
        asyncio.run(restore(env, plan_restore(env, in_place(cluster))))
    assert rows_in(DISK, cluster.root) == rows
    assert not list(Path(cluster.root, "scratch").iterdir())


def test_a_swap_that_fails_on_its_way_is_finished_by_the_same_command(cluster: Cluster) -> None:
    """What cleans up after a failure must not take away the new state that a begun swap still needs."""
    failures = 0
    for renames in range(1, 30):
        env = make_env(FailingDisk(renames))
        try:
            asyncio.run(restore(env, plan_restore(env, replace(in_place(cluster), again=True))))
            break
        except (OSError, NeumannError):
            failures += 1
        env = make_env(DISK)
        asyncio.run(restore(env, plan_restore(env, in_place(cluster))))
        assert rows_in(DISK, cluster.root) == cluster.rows_at(6)
    assert failures >= 4
