"""wal-push into a directory: what it puts there, what it refuses, and that a kill is always harmless."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.env.files import read_file, write_new
from neumann.errors import BadInput, Corrupt, DiskFull, NotFound, RefusedByState, Unavailable, WrongHistory
from tests.archive.pushing import ARCHIVE, Node, contents, expected, make_node, push_to, write_history
from tests.sim.disk import SimCrash, SimDisk

ADMIN = Path(sys.executable).parent / "neumann-admin"


@pytest.fixture
def node() -> Node[SimDisk]:
    disk = SimDisk()
    disk.make_dirs(ARCHIVE)
    return make_node(disk)


def put_there(node: Node[SimDisk], path: str, data: bytes) -> str:
    """A file that is in the archive already."""
    there = f"{ARCHIVE}/{path.rpartition('/')[2]}"
    write_new(node.disk, there, data)
    node.disk.sync_dir(ARCHIVE)
    return there


def test_history_and_segments_are_copied_and_the_same_again_is_success(node: Node[SimDisk]) -> None:
    assert [push_to(node.disk, path).did for path in node.files] == ["copied"] * 3
    assert [push_to(node.disk, path).did for path in node.files] == ["there"] * 3
    assert contents(node.disk) == expected(node)


@pytest.mark.parametrize("kept", [0, 1, 63, 64, 100, -1])
def test_what_a_killed_cp_left_is_replaced(node: Node[SimDisk], kept: int) -> None:
    push_to(node.disk, node.history_path)
    for path in node.segments:
        put_there(node, path, read_file(node.disk, path)[:kept])
        assert push_to(node.disk, path).did == "replaced"
    assert contents(node.disk) == expected(node)


def test_a_killed_copy_of_the_history_is_replaced(node: Node[SimDisk]) -> None:
    put_there(node, node.history_path, read_file(node.disk, node.history_path)[:20])
    with pytest.raises(Corrupt):
        push_to(node.disk, node.segments[0])
    assert push_to(node.disk, node.history_path).did == "replaced"
    assert push_to(node.disk, node.segments[0]).did == "copied"


def damaged(data: bytes) -> bytes:
    return data[:90] + bytes([data[90] ^ 1]) + data[91:]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (damaged, "it is damaged"),
        (lambda data: data + b"x", "it is damaged"),
        (lambda data: data[:100] + bytes(len(data) - 100), "it is damaged"),
        (lambda data: b"not a segment", "it is damaged"),
    ],
)
def test_other_bytes_under_the_name_are_refused_and_left_alone(
    node: Node[SimDisk], change: Callable[[bytes], bytes], why: str
) -> None:
    push_to(node.disk, node.history_path)
    path = node.segments[0]
    put_there(node, path, change(read_file(node.disk, path)))
    before = contents(node.disk)
    with pytest.raises(RefusedByState, match="is there with other bytes") as refused:
        push_to(node.disk, path)
    assert why in refused.value.message and refused.value.exit_code == 9
    assert contents(node.disk) == before


def test_a_twin_with_another_log_is_refused(node: Node[SimDisk]) -> None:
    """Two nodes that lead one timeline with different entries: the second finds out, nothing is lost."""
    for path in node.files:
        push_to(node.disk, path)
    before = contents(node.disk)
    twin = make_node(node.disk, "/twin", segments=0)
    twin.cluster.put("a0", "another")
    twin.cluster.seal()
    path = twin.cluster.log.segments()[0].path
    with pytest.raises(RefusedByState, match="both are whole: two logs of one timeline"):
        push_to(node.disk, path)
    assert contents(node.disk) == before


# --- whose archive it is -------------------------------------------------------------------------


def test_a_segment_is_not_archived_where_its_history_is_not(node: Node[SimDisk]) -> None:
    """A directory that is not mounted is an empty one."""
    with pytest.raises(RefusedByState, match="is it mounted") as refused:
        push_to(node.disk, node.segments[0])
    assert f"wal-push --create {node.history_path} {ARCHIVE}" in refused.value.remedy
    assert contents(node.disk) == {}
    with pytest.raises(NotFound, match="does not exist"):
        push_to(node.disk, node.history_path, "/archive/wal")
    assert not node.disk.exists("/archive/wal")


def test_the_remedy_names_a_history_file_that_is_there(node: Node[SimDisk]) -> None:
    """It named raft/X.history of a node that never had written one, so to follow it failed as well."""
    away = f"{ARCHIVE}.away"
    node.disk.rename(node.history_path, away)
    with pytest.raises(RefusedByState, match="is it mounted") as refused:
        push_to(node.disk, node.segments[0])
    stamp = node.history_path.rpartition("/")[2]
    assert f"wal-push --create DATA_DIR/raft/{stamp} {ARCHIVE}, with the data dir" in refused.value.remedy
    node.disk.rename(away, node.history_path)
    brought = f"{node.cluster.paths.scratch}/{node.segments[0].rpartition('/')[2]}"
    node.disk.make_dirs(node.cluster.paths.scratch)
    write_new(node.disk, brought, read_file(node.disk, node.segments[0]))
    with pytest.raises(RefusedByState, match="is it mounted") as refused:
        push_to(node.disk, brought)
    assert f"wal-push --create {node.history_path} {ARCHIVE}" in refused.value.remedy


def test_a_later_timeline_begins_an_archive_only_when_a_person_says_so(node: Node[SimDisk]) -> None:
    history = node.cluster.manifest.history
    record = history.records[0]
    child = history.child(
        record._replace(timeline=record.timeline._replace(counter=2), parent=record.timeline, base_index=99)
    )
    path = write_history(node.disk, "/node", child)
    with pytest.raises(RefusedByState, match="is it mounted"):
        push_to(node.disk, path)
    assert push_to(node.disk, path, create=True).did == "copied"
    node.disk.make_dirs("/old")
    push_to(node.disk, node.history_path, "/old")
    assert push_to(node.disk, path, "/old").did == "copied"
    with pytest.raises(BadInput, match="begins no archive"):
        push_to(node.disk, node.segments[0], create=True)


def test_another_clusters_archive_is_refused(node: Node[SimDisk]) -> None:
    for path in node.files:
        push_to(node.disk, path)
    before = contents(node.disk)
    other = make_node(node.disk, "/other", seed=2)
    for path in other.files:
        with pytest.raises(WrongHistory, match="is the archive of cluster") as refused:
            push_to(node.disk, path, create=path == other.history_path)
        assert refused.value.exit_code == 6
    node.disk.unlink(f"{ARCHIVE}/{node.history_path.rpartition('/')[2]}")
    with pytest.raises(WrongHistory):
        push_to(node.disk, other.history_path)
    del before[node.history_path.rpartition("/")[2]]
    assert contents(node.disk) == before


def test_an_archive_that_cp_began_is_gone_on_with(node: Node[SimDisk]) -> None:
    for path in node.files[:2]:
        put_there(node, path, read_file(node.disk, path))
    assert [push_to(node.disk, path).did for path in node.segments] == ["there", "copied"]


# --- what may be archived ------------------------------------------------------------------------


def test_a_segment_that_is_not_whole_is_not_archived(node: Node[SimDisk]) -> None:
    push_to(node.disk, node.history_path)
    path = node.segments[0]
    good = read_file(node.disk, path)
    for offset in range(0, len(good), 7):
        node.disk.unlink(path)
        write_new(node.disk, path, good[:offset] + bytes([good[offset] ^ 16]) + good[offset + 1 :])
        with pytest.raises(Corrupt):
            push_to(node.disk, path)
    for kept in (0, 10, 64, len(good) - 1):
        node.disk.unlink(path)
        write_new(node.disk, path, good[:kept])
        with pytest.raises(Corrupt):
            push_to(node.disk, path)
    assert list(contents(node.disk)) == [node.history_path.rpartition("/")[2]]


def test_an_open_segment_is_not_archived(node: Node[SimDisk]) -> None:
    node.cluster.put("uncommitted", 1)
    push_to(node.disk, node.history_path)
    with pytest.raises(RefusedByState, match="still open"):
        push_to(node.disk, node.cluster.log.segments()[-1].path)


def test_files_that_are_none_of_an_archive(node: Node[SimDisk]) -> None:
    with pytest.raises(BadInput, match="no name of a segment"):
        push_to(node.disk, "/node/n1/raft/vote")
    with pytest.raises(NotFound):
        push_to(node.disk, node.segments[0].replace("0001.wal", "0999.wal"))
    renamed = node.segments[0].replace("0001.wal", "0999.wal")
    write_new(node.disk, renamed, read_file(node.disk, node.segments[0]))
    with pytest.raises(Corrupt, match="another name"):
        push_to(node.disk, renamed)


# --- failures and kills --------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["nothing", "a part", "the whole"])
def test_every_crash_point(before: str) -> None:
    """Power loss at each step, and again while it is repeated: the name never leads to anything but a
    whole copy or what was there, and the same push ends well; after its success nothing is lost."""

    def prepared() -> tuple[SimDisk, Node[SimDisk]]:
        disk = SimDisk()
        disk.make_dirs(ARCHIVE)
        made = make_node(disk, segments=1)
        push_to(disk, made.history_path)
        data = read_file(disk, made.segments[0])
        if before != "nothing":
            put_there(made, made.segments[0], data[:70] if before == "a part" else data)
        return disk, made

    disk, node = prepared()
    begin = disk.operations
    push_to(disk, node.segments[0])
    steps = disk.operations - begin
    path, data = node.segments[0], read_file(disk, node.segments[0])
    there = f"{ARCHIVE}/{path.rpartition('/')[2]}"
    allowed: list[bytes | None] = [data, {"nothing": None, "a part": data[:70], "the whole": data}[before]]
    for step in range(steps + 1):
        for seed in range(6):
            disk, node = prepared()
            disk.crash_at = disk.operations + step
            rng = random.Random(seed)
            for again in range(4):
                try:
                    push_to(disk, path, token=bytes([again] * 8))
                except SimCrash:
                    disk = disk.crash(rng) if seed % 2 else disk.kill()
                    found = read_file(disk, there) if disk.exists(there) else None
                    assert found in allowed
                    disk.crash_at = disk.operations + rng.randrange(steps + 1) if again < 2 else None
                else:
                    break
            disk = disk.crash(rng)
            assert push_to(disk, path).did == "there"
            assert read_file(disk, there) == data and len(disk.list(ARCHIVE)) == 2


def test_a_full_destination_takes_it_when_there_is_room_again(node: Node[SimDisk]) -> None:
    push_to(node.disk, node.history_path)
    before = contents(node.disk)
    room = node.disk.capacity_bytes
    node.disk.capacity_bytes -= node.disk.free_bytes("/") - 100
    with pytest.raises(DiskFull, match="make room there") as refused:
        push_to(node.disk, node.segments[0])
    assert refused.value.exit_code == 8 and contents(node.disk) == before
    node.disk.capacity_bytes = room
    assert push_to(node.disk, node.segments[0]).did == "copied"


@pytest.mark.parametrize("part", [".tmp", ARCHIVE])
def test_a_failed_fsync_is_no_success(node: Node[SimDisk], part: str) -> None:
    push_to(node.disk, node.history_path)
    node.disk.fail_sync(part)
    with pytest.raises(Unavailable, match="Input/output error"):
        push_to(node.disk, node.segments[0])
    push_to(node.disk, node.segments[0])
    after = node.disk.crash(random.Random(1))
    assert read_file(after, f"{ARCHIVE}/{node.segments[0].rpartition('/')[2]}") == read_file(
        after, node.segments[0]
    )


def test_an_unsynced_copy_whose_fsync_fails_is_made_again(node: Node[SimDisk]) -> None:
    """After a failed fsync the kernel calls the pages clean: a second fsync would succeed, over nothing."""
    push_to(node.disk, node.history_path)
    path = node.segments[0]
    there = f"{ARCHIVE}/{path.rpartition('/')[2]}"
    file = node.disk.open(there, write=True, create=True)
    file.pwrite(read_file(node.disk, path), 0)
    file.close()
    node.disk.sync_dir(ARCHIVE)
    node.disk.fail_sync(there)
    assert push_to(node.disk, path).did == "replaced"
    after = node.disk.crash(random.Random(1))
    assert read_file(after, there) == read_file(after, path)


def test_leftovers_of_killed_pushes_do_not_fill_the_archive(node: Node[SimDisk]) -> None:
    push_to(node.disk, node.history_path)
    name = node.segments[0].rpartition("/")[2]
    for number in range(3):
        write_new(node.disk, f"{ARCHIVE}/{name}.{number}.tmp", b"x" * 100)
    write_new(node.disk, f"{ARCHIVE}/mine.tmp", b"not ours")
    push_to(node.disk, node.segments[0])
    assert node.disk.list(ARCHIVE) == sorted([node.history_path.rpartition("/")[2], name, "mine.tmp"])


class Interleaved(SimDisk):
    """Lets somebody else act once, right before a link is made."""

    before_link: Callable[[], object] | None = None

    def link(self, source: str, target: str) -> None:
        act, self.before_link = self.before_link, None
        if act is not None:
            act()
        super().link(source, target)


def test_a_push_whose_temporary_copy_was_taken_fails_cleanly() -> None:
    """Two leaders' pushes of one segment at once: the later one removes what looks like a leftover."""
    disk = Interleaved()
    disk.make_dirs(ARCHIVE)
    node = make_node(disk)
    path = node.segments[0]
    push_to(disk, node.history_path)
    disk.before_link = lambda: push_to(disk, path, token=b"overtakes")
    with pytest.raises(Unavailable, match="another wal-push"):
        push_to(disk, path)
    assert push_to(disk, path).did == "there"
    assert contents(disk) == expected(node, 2)


# --- the real program ----------------------------------------------------------------------------


def test_sigkill_at_random_moments_and_the_same_command_again(tmp_path: Path) -> None:
    disk = RealDisk()
    node = make_node(disk, str(tmp_path / "node"), segments=0)
    for number in range(300):
        node.cluster.put(f"k{number}", "x" * 20_000)
    node.cluster.seal()
    path = max((s for s in node.cluster.log.segments() if s.sealed), key=lambda s: s.bytes).path
    archive = tmp_path / "archive"
    archive.mkdir()
    push_to(disk, node.history_path, str(archive))
    command = [str(ADMIN), "wal-push", path, str(archive)]
    began = time.monotonic()
    assert subprocess.run(command, check=False).returncode == 0
    took_s = time.monotonic() - began
    there, data = archive / path.rpartition("/")[2], Path(path).read_bytes()
    killed, rng = 0, random.Random(1)
    for _ in range(5):
        there.unlink(missing_ok=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(took_s * rng.uniform(0.5, 1.0))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert not there.exists() or there.read_bytes() == data
    assert subprocess.run(command, check=False).returncode == 0
    assert sorted(p.name for p in archive.iterdir()) == sorted([Path(node.history_path).name, there.name])
    assert there.read_bytes() == data and killed
