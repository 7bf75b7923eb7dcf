"""The log is kept for whoever needs it (R7)."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from neumann.env import File, real_env
from neumann.env.disk import RealDisk
from neumann.runtime import archiving
from tests.runtime.nodes import config_of, one_node, put, unhandled_errors, until


async def test_nothing_is_dropped_while_archiving_is_being_switched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first `archived` entry names where the leader's log begins; what was dropped before it was
    applied was then missing in the archive, and archiving never went on (as in litestream#1084)."""
    is_open = asyncio.Event()
    propose = archiving.MemberLog.propose

    async def late(self: archiving.MemberLog, special: object) -> int:
        await is_open.wait()
        return await propose(self, special)  # type: ignore[arg-type]

    monkeypatch.setattr(archiving.MemberLog, "propose", late)
    (tmp_path / "archive").mkdir()
    command = f"cp %p {tmp_path}/archive/%f"
    async with one_node(config_of(tmp_path, retain_entries=0, archive_command=command)) as node:
        member = node.member
        assert member is not None
        for key in range(3):
            await node.write(put(f"{key}"))
            await node.snapshot()
        is_open.set()
        reached = member.applier.applied_index
        await until(lambda: member.applier.state.archiving.through >= reached - 1, "all of it is archived")
        assert len(list((tmp_path / "archive").glob("*.wal"))) == 3


class _NoHistory(RealDisk):
    """History files can't be made while `is_full`."""

    is_full = True

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        if create and self.is_full and ".history" in path:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return super().open(path, write=write, create=create)


async def test_an_archiver_that_met_an_error_says_so_and_goes_on(tmp_path: Path) -> None:
    """Its task ended without a word: only the lag showed it."""
    (tmp_path / "archive").mkdir()
    env = real_env()
    env.disk = disk = _NoHistory()
    config = config_of(tmp_path, archive_command=f"cp %p {tmp_path}/archive/%f")
    with unhandled_errors() as told:
        async with one_node(config, env) as node:
            assert node.host.archiving is not None
            status = node.host.archiving.archiver.status
            await until(lambda: "No space left" in status.last_error, "the error is told")
            assert status.failures
            disk.is_full = False
            await until(lambda: list((tmp_path / "archive").glob("*.history")) != [], "it goes on")
    assert not told
