"""The log is kept for whoever needs it (R7)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from neumann.runtime import archiving
from tests.runtime.nodes import config_of, one_node, put, until


async def test_nothing_is_dropped_while_archiving_is_being_switched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first `archived` entry names where the leader's log begins; what was dropped before it was
    applied was then missing in the archive, and archiving never went on."""
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
