"""One suite over both disks: what the simulation lets pass must be what the real disk does."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from neumann.env.disk import RealDisk
from neumann.env.doors import Disk
from neumann.env.files import read_file, remove_temporaries, write_durable, write_new
from neumann.errors import Corrupt, InUse
from tests.sim.disk import SimCrash, SimDisk


@pytest.fixture(params=["real", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Disk, str]]:
    """(disk, an empty directory on it)."""
    if request.param == "real":
        yield RealDisk(), str(tmp_path)
        return
    disk = SimDisk()
    disk.make_dirs("/data")
    yield disk, "/data"


Place = tuple[Disk, str]


def test_bytes_at_offsets(place: Place) -> None:
    disk, root = place
    file = disk.open(f"{root}/a", write=True, create=True)
    file.pwrite(b"world", 6)
    assert file.pread(100, 0) == bytes(6) + b"world"
    file.pwrite(b"hello ", 0)
    assert file.pread(100, 0) == b"hello world" and file.pread(5, 6) == b"world"
    assert file.pread(10, 11) == b"" and file.pread(10, 50) == b""
    file.truncate(5)
    file.truncate(8)
    assert file.pread(100, 0) == b"hello\0\0\0" and file.size() == 8
    file.allocate(4096)
    file.allocate(100)
    assert file.size() == 4096 and file.pread(4096, 5) == bytes(4091)
    file.sync()
    file.close()
    assert disk.stat(f"{root}/a").size_bytes == 4096


def test_open_errors(place: Place) -> None:
    disk, root = place
    write_new(disk, f"{root}/a", b"x")
    with pytest.raises(FileExistsError):
        disk.open(f"{root}/a", write=True, create=True)
    with pytest.raises(FileNotFoundError):
        disk.open(f"{root}/b")
    with pytest.raises(FileNotFoundError):
        disk.open(f"{root}/no/b", write=True, create=True)
    with pytest.raises(NotADirectoryError):
        disk.open(f"{root}/a/b")
    for write in (False, True):
        with pytest.raises(Corrupt, match="is a directory, and no file"):
            disk.open(root, write=write)
    file = disk.open(f"{root}/a")
    with pytest.raises(OSError) as failure:
        file.pwrite(b"y", 0)
    assert failure.value.errno == errno.EBADF
    file.close()
    with pytest.raises(OSError) as failure:
        file.pread(1, 0)
    assert failure.value.errno == errno.EBADF


def test_names(place: Place) -> None:
    disk, root = place
    disk.make_dirs(f"{root}/x/y/z")
    disk.make_dirs(f"{root}/x/y/z")
    write_new(disk, f"{root}/x/b", b"1")
    write_new(disk, f"{root}/x/a", b"22")
    assert disk.list(f"{root}/x") == ["a", "b", "y"] and disk.list(f"{root}/none") == []
    assert disk.stat(f"{root}/x").is_directory and not disk.stat(f"{root}/x/a").is_directory
    disk.rename(f"{root}/x/a", f"{root}/x/b")
    assert disk.list(f"{root}/x") == ["b", "y"] and read_file(disk, f"{root}/x/b") == b"22"
    disk.rename(f"{root}/x", f"{root}/moved")
    assert disk.exists(f"{root}/moved/y/z") and not disk.exists(f"{root}/x")
    disk.unlink(f"{root}/moved/b")
    for call in (disk.stat, disk.unlink, disk.sync_dir, disk.read_link):
        with pytest.raises(FileNotFoundError):
            call(f"{root}/moved/b")
    with pytest.raises(FileNotFoundError):
        disk.rename(f"{root}/moved/b", f"{root}/c")
    disk.remove_tree(f"{root}/moved")
    disk.remove_tree(f"{root}/moved")
    assert disk.list(root) == []


def test_renames_that_are_refused(place: Place) -> None:
    disk, root = place
    disk.make_dirs(f"{root}/full/below")
    disk.make_dirs(f"{root}/empty")
    disk.make_dirs(f"{root}/source/inner")
    write_new(disk, f"{root}/file", b"")
    with pytest.raises(NotADirectoryError):
        disk.rename(f"{root}/empty", f"{root}/file")
    with pytest.raises(IsADirectoryError):
        disk.rename(f"{root}/file", f"{root}/empty")
    with pytest.raises(OSError) as failure:
        disk.rename(f"{root}/source", f"{root}/full")
    assert failure.value.errno == errno.ENOTEMPTY
    disk.rename(f"{root}/source", f"{root}/empty")
    assert disk.list(f"{root}/empty") == ["inner"]
    with pytest.raises(NotADirectoryError):
        disk.list(f"{root}/file")
    with pytest.raises(NotADirectoryError):
        disk.make_dirs(f"{root}/file/below")


def test_hard_links_share_an_inode(place: Place) -> None:
    disk, root = place
    write_new(disk, f"{root}/a", b"x")
    disk.link(f"{root}/a", f"{root}/b")
    with pytest.raises(FileExistsError):
        disk.link(f"{root}/a", f"{root}/b")
    first, second = disk.stat(f"{root}/a"), disk.stat(f"{root}/b")
    assert first.links == second.links == 2 and first.inode == second.inode
    disk.unlink(f"{root}/a")
    assert disk.stat(f"{root}/b").links == 1 and read_file(disk, f"{root}/b") == b"x"


def test_an_open_file_outlives_its_name(place: Place) -> None:
    disk, root = place
    write_new(disk, f"{root}/a", b"old")
    file = disk.open(f"{root}/a")
    disk.unlink(f"{root}/a")
    write_new(disk, f"{root}/a", b"new")
    assert file.pread(3, 0) == b"old" and read_file(disk, f"{root}/a") == b"new"
    file.close()


def test_symbolic_links(place: Place) -> None:
    disk, root = place
    disk.make_dirs(f"{root}/7-1")
    write_new(disk, f"{root}/7-1/manifest", b"m")
    disk.symlink("7-1", f"{root}/latest")
    assert disk.read_link(f"{root}/latest") == "7-1"
    assert read_file(disk, f"{root}/latest/manifest") == b"m"
    assert disk.stat(f"{root}/latest").is_directory and disk.list(f"{root}/latest") == ["manifest"]
    disk.symlink("nowhere", f"{root}/dangling")
    assert disk.exists(f"{root}/dangling")
    with pytest.raises(FileNotFoundError):
        disk.stat(f"{root}/dangling")
    with pytest.raises(OSError) as failure:
        disk.read_link(f"{root}/7-1")
    assert failure.value.errno == errno.EINVAL
    disk.unlink(f"{root}/latest")
    assert disk.exists(f"{root}/7-1/manifest")


def test_lock(place: Place) -> None:
    disk, root = place
    unlock = disk.lock(f"{root}/lock")
    with pytest.raises(InUse, match="is in use by"):
        disk.lock(f"{root}/lock")
    unlock()
    disk.lock(f"{root}/lock")()
    assert disk.exists(f"{root}/lock")


def test_whole_files(place: Place) -> None:
    disk, root = place
    write_durable(disk, f"{root}/a", b"one")
    write_durable(disk, f"{root}/a", b"two")
    write_new(disk, f"{root}/b.tmp", b"")
    remove_temporaries(disk, root)
    assert disk.list(root) == ["a"] and read_file(disk, f"{root}/a") == b"two"
    assert disk.free_bytes(root) > 0


# --- what only the simulated disk can show ---------------------------------------------------------


def _disk() -> SimDisk:
    disk = SimDisk()
    disk.make_dirs("/d")
    return disk


def _outcomes(make: SimDisk, path: str) -> set[bytes | None]:
    found: set[bytes | None] = set()
    for seed in range(200):
        after = make.fork().crash(Random(seed))
        found.add(read_file(after, path) if after.exists(path) else None)
    return found


def test_a_synced_file_in_a_synced_directory_survives() -> None:
    disk = _disk()
    write_new(disk, "/d/a", b"kept")
    disk.sync_dir("/d")
    assert _outcomes(disk, "/d/a") == {b"kept"}


def test_a_name_is_lost_or_kept_without_sync_dir() -> None:
    """Bug 8: a log was renamed and its directory not synced, so a loss of power took the whole file."""
    disk = _disk()
    write_new(disk, "/d/a", b"kept")
    assert _outcomes(disk, "/d/a") == {b"kept", None}


def test_an_unsynced_write_is_lost_torn_or_kept() -> None:
    disk = _disk()
    write_new(disk, "/d/a", bytes(1024))
    disk.sync_dir("/d")
    disk.open("/d/a", write=True).pwrite(b"x" * 1024, 0)
    lost, kept = bytes(512), b"x" * 512
    assert _outcomes(disk, "/d/a") == {lost + lost, lost + kept, kept + lost, kept + kept}


def test_an_unsynced_rename_is_atomic() -> None:
    disk = _disk()
    write_new(disk, "/d/a", b"old")
    write_new(disk, "/d/a.tmp", b"new")
    disk.sync_dir("/d")
    disk.rename("/d/a.tmp", "/d/a")
    assert _outcomes(disk, "/d/a") == {b"old", b"new"}


def test_a_killed_process_loses_nothing() -> None:
    disk = _disk()
    disk.lock("/d/lock")
    disk.open("/d/a", write=True, create=True).pwrite(b"x", 0)
    after = disk.kill()
    assert read_file(after, "/d/a") == b"x"
    after.lock("/d/lock")
    with pytest.raises(SimCrash):
        disk.list("/d")


def test_the_nth_change_crashes_and_nothing_follows() -> None:
    disk = _disk()
    file = disk.open("/d/a", write=True, create=True)
    disk.crash_at = disk.operations + 1
    file.pwrite(b"x", 0)
    with pytest.raises(SimCrash):
        file.sync()
    with pytest.raises(SimCrash):
        file.pread(1, 0)


def test_the_same_seed_leaves_the_same_disk() -> None:
    disk = _disk()
    for name in "abcdef":
        disk.open(f"/d/{name}", write=True, create=True).pwrite(name.encode() * 2000, 0)

    def image(seed: int) -> list[tuple[str, bytes]]:
        after = disk.fork().crash(Random(seed))
        return [(name, read_file(after, f"/d/{name}")) for name in after.list("/d")]

    assert all(image(seed) == image(seed) for seed in range(20))
    assert len({tuple(image(seed)) for seed in range(20)}) > 1


def test_a_failed_sync_loses_its_pages_for_good() -> None:
    """fsync that fails once and then says yes: Linux takes the lost pages for clean (R9)."""
    disk = _disk()
    write_new(disk, "/d/a", b"old")
    disk.sync_dir("/d")
    file = disk.open("/d/a", write=True)
    file.pwrite(b"new", 0)
    disk.fail_sync("/d/a")
    with pytest.raises(OSError) as failure:
        file.sync()
    assert failure.value.errno == errno.EIO
    file.sync()
    assert file.pread(3, 0) == b"new" and _outcomes(disk, "/d/a") == {b"old"}


def test_a_full_disk() -> None:
    disk = SimDisk(capacity_bytes=1000)
    file = disk.open("/a", write=True, create=True)
    file.allocate(900)
    file.pwrite(b"x" * 900, 0)
    with pytest.raises(OSError) as failure:
        file.pwrite(b"x" * 200, 850)
    assert failure.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as failure:
        file.allocate(1001)
    assert failure.value.errno == errno.ENOSPC
    assert file.size() == 900 and disk.free_bytes("/") == 100
    disk.unlink("/a")
    assert disk.free_bytes("/") == 1000


def test_a_flipped_bit() -> None:
    disk = _disk()
    write_new(disk, "/d/a", b"\x00\x00")
    disk.flip("/d/a", 1, 3)
    assert read_file(disk, "/d/a") == b"\x00\x08"
