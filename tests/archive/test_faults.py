"""Destinations that fail: what the archiver, wal-push and a plain cp leave behind, and how it goes on.

The runbook's plain `cp %p DIR/%f` is as safe as a cp can be: a copy that is cut short is a failure while
the leader sees it, and is written again, whole; it is never counted as archived. Three things cp can't do,
and each has a test that says so: it overwrites other bytes, it writes into a directory that is not
mounted, and what it wrote may be lost with the archive's power. wal-push refuses, refuses, and syncs.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neumann.archive.archiver import Settings
from neumann.env.disk import RealDisk
from neumann.errors import ArchiveGap
from neumann.recovery.catalog import Catalog
from neumann.recovery.runs import runs
from tests.archive.archiving import RealLog, World

ADMIN = Path(sys.executable).parent / "neumann-admin"


def wal_push(world: World, timeout_s: float = 60.0, before: str = "") -> Settings:
    return Settings(f"{before}{ADMIN} wal-push %p {world.archive}", timeout_s)


def is_whole(world: World) -> bool:
    """Every file of the log is in the archive, and nothing else."""
    assert isinstance(world.log, RealLog)
    there = {path.name: path.read_bytes() for path in world.archive.iterdir()}
    files = [Path(segment.path) for segment in world.log.segments]
    found = runs(Catalog(RealDisk(), str(world.archive)), bodies=True)
    names = sorted(there) == world.archived() == sorted(world.names())
    return names and not found.wrong and all(there[file.name] == file.read_bytes() for file in files)


# --- wal-push ------------------------------------------------------------------------------------


async def test_a_whole_log_by_wal_push(real: World) -> None:
    real.settings = wal_push(real)
    real.log.add(3)
    async with real.leading():
        await real.until(lambda: real.log.state.through == real.log.segments[-1].last_index)
    assert not real.archiver.status.failures and is_whole(real)


async def test_a_destination_that_hangs(real: World) -> None:
    """wal-push behind a pipe that nobody feeds, killed with its group; the next attempt has it whole."""
    pipe = real.root / "pipe"
    os.mkfifo(pipe)
    real.settings = Settings(f"cat {pipe} > /dev/null; {wal_push(real).command}", 0.3)
    real.log.add()
    async with real.leading():
        await real.until(lambda: real.archiver.status.failures["timeout"] >= 2)
        assert real.archived() == [] and real.log.proposed == [0]
        real.settings = wal_push(real)
        real.archiver.wake()
        await real.until(lambda: real.log.state.through > 0)
    assert is_whole(real)


async def test_a_destination_that_is_not_mounted(real: World) -> None:
    """The mount point is there, and empty: nothing may land in it."""
    real.settings = wal_push(real)
    real.log.add()
    async with real.leading():
        await real.until(lambda: real.log.state.through > 0)
        mounted = real.archive.rename(real.root / "mounted")
        real.archive.mkdir()
        through = real.log.state.through
        real.log.add()
        real.archiver.wake()
        await real.until(lambda: real.archiver.status.failures["exit"] >= 1)
        assert "is it mounted?" in real.archiver.status.last_error
        assert real.archived() == [] and real.log.state.through == through
        real.archive.rmdir()
        await real.until(lambda: real.archiver.status.failures["exit"] >= 2)
        assert real.log.state.through == through
        mounted.rename(real.archive)
        await real.until(lambda: real.log.state.through > through)
    assert is_whole(real)


async def test_a_file_size_limit_is_a_full_destination(real: World) -> None:
    """RLIMIT_FSIZE makes a write end as a full disk does, in the middle of the file."""
    real.settings = wal_push(real, before="ulimit -f 8; ")
    assert isinstance(real.log, RealLog)
    real.log.add(1, value_bytes=100_000)
    async with real.leading():
        await real.until(lambda: real.archiver.status.failures["exit"] >= 1)
        assert "make room there" in real.archiver.status.last_error
        assert real.archived() == real.names()[:1]
        real.settings = wal_push(real)
        real.archiver.wake()
        await real.until(lambda: real.log.state.through > 0)
    assert is_whole(real)


@pytest.fixture
def small(real: World) -> Iterator[Path]:
    """A file system of 256 KiB at the archive's place. Only root can mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(real.archive)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small tmpfs")
    yield real.archive
    subprocess.run(["umount", str(real.archive)], check=True)


@pytest.mark.parametrize("command", ["wal-push", "cp"])
async def test_a_full_file_system(real: World, small: Path, command: str) -> None:
    """Nothing is archived that is not whole; when somebody made room, it goes on by itself."""
    if command == "wal-push":
        real.settings = wal_push(real)
    ballast = small / "ballast"
    ballast.write_bytes(bytes(200 * 1024))
    assert isinstance(real.log, RealLog)
    real.log.add(1, value_bytes=100_000)
    async with real.leading():
        await real.until(lambda: real.archiver.status.failures["exit"] >= 2)
        assert real.log.state.through == 0
        assert "No space left on device" in real.archiver.status.last_error
        ballast.unlink()
        await real.until(lambda: real.log.state.through > 0)
    assert is_whole(real)


# --- a plain cp ----------------------------------------------------------------------------------


def short_copy(world: World, kept: int) -> Path:
    """What a cp leaves that was killed in the middle: a short file under the final name."""
    segment = world.log.segments[-1]
    path = world.archive / segment.name
    path.write_bytes(Path(segment.path).read_bytes()[:kept])
    return path


@pytest.mark.parametrize("kept", [0, 100])
async def test_a_cp_that_was_killed_is_a_failure_and_its_short_file_is_written_again(
    real: World, kept: int
) -> None:
    real.log.add()
    done = real.root / "killed"
    first = f"test -e {done} || {{ touch {done}; head -c {kept} %p > {real.archive}/%f; kill -9 $$; }}; "
    real.settings = Settings(f"case %f in *.wal) {first} ;; esac; cp %p {real.archive}/%f", 20.0)
    async with real.leading():
        await real.until(lambda: real.archiver.status.failures["signal"] == 1)
        await real.until(lambda: real.log.state.through > 0)
    assert is_whole(real)


async def test_a_short_file_of_a_killed_leader_is_written_again_by_the_next(real: World) -> None:
    """The old leader's machine died with its cp; `archived` is in no log, so the next one pushes it."""
    real.log.add()
    short_copy(real, 100)
    async with real.leading():
        await real.until(lambda: real.log.state.through > 0)
    assert is_whole(real)


async def test_test_and_cp_stays_behind_its_own_short_file_and_wal_push_replaces_it(real: World) -> None:
    """barman#507: PostgreSQL's advice `test ! -f DIR/%f && cp` refuses for ever what a kill left."""
    real.log.add()
    real.settings = Settings(f"test ! -f {real.archive}/%f && cp %p {real.archive}/%f", 20.0)
    path = short_copy(real, 100)
    async with real.leading():
        await real.until(lambda: real.archiver.status.failures["exit"] >= 3)
        assert path.stat().st_size == 100 and real.log.state.through == 0
        real.settings = wal_push(real)
        real.archiver.wake()
        await real.until(lambda: real.log.state.through > 0)
    assert is_whole(real)


async def test_cp_overwrites_other_bytes_and_wal_push_does_not(real: World) -> None:
    real.log.add()
    path = real.archive / real.log.segments[0].name
    path.write_bytes(b"another cluster's, or another log's")
    real.settings = wal_push(real)
    async with real.leading():
        await real.until(lambda: real.archiver.status.failures["exit"] >= 2)
        assert path.read_bytes() == b"another cluster's, or another log's" and real.log.state.through == 0
        real.settings = Settings(f"cp %p {real.archive}/%f", 20.0)
        real.archiver.wake()
        await real.until(lambda: real.log.state.through > 0)
    assert path.read_bytes() == Path(real.log.segments[0].path).read_bytes()


async def test_cp_into_an_unmounted_directory_is_a_gap_that_wal_verify_names(real: World) -> None:
    """cp ends with 0, so the log says archived: only reading the archive can tell. wal-push refuses."""
    real.log.add()
    async with real.leading():
        await real.until(lambda: real.log.state.through > 0)
        mounted = real.archive.rename(real.root / "mounted")
        real.archive.mkdir()
        real.log.add()
        real.archiver.wake()
        await real.until(lambda: real.log.state.through == real.log.segments[-1].last_index)
        real.archive.rename(real.root / "under the mount point")
        mounted.rename(real.archive)
        real.log.add()
        real.archiver.wake()
        await real.until(lambda: real.log.state.through == real.log.segments[-1].last_index)
    (gap,) = runs(Catalog(RealDisk(), str(real.archive)), bodies=True).wrong
    assert isinstance(gap, ArchiveGap)


async def test_what_cp_lost_with_the_archives_power_is_found_by_wal_verify_only(real: World) -> None:
    """cp does not sync: after a power loss a copy that ended with 0 may be empty. wal-push syncs first."""
    real.log.add(2)
    async with real.leading():
        await real.until(lambda: real.log.state.through == real.log.segments[-1].last_index)
        path = real.archive / real.log.segments[0].name
        path.write_bytes(b"")
        real.archiver.wake()
        await asyncio.sleep(0.05)
        assert path.stat().st_size == 0
    wrong = runs(Catalog(RealDisk(), str(real.archive)), bodies=True).wrong
    assert any(path.name in str(error) for error in wrong)


async def test_an_archive_that_cp_began_is_gone_on_with_by_wal_push(real: World) -> None:
    real.log.add(2)
    async with real.leading():
        await real.until(lambda: real.log.state.through == real.log.segments[-1].last_index)
        real.settings = wal_push(real)
        real.log.add()
        real.archiver.wake()
        await real.until(lambda: real.log.state.through == real.log.segments[-1].last_index)
    assert not real.archiver.status.failures and is_whole(real)
