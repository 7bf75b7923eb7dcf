"""What ends, ends whole: each part, whatever the end of another raises, and the first error is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from neumann.format import state
from neumann.runtime.ending import end_all
from neumann.wal import TwoSlotFile
from tests.runtime.nodes import config_of, leads, one_node, start, until, write_rows


def _failing(what: str, told: list[str]) -> Any:
    async def end() -> None:
        told.append(what)
        raise OSError(what)

    return end


async def test_all_end_and_the_first_error_is_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    with pytest.raises(OSError, match="first"):
        await end_all(lambda: told.append("good"), _failing("first", told), _failing("second", told))
    assert told == ["good", "first", "second"]
    assert "second" in caplog.text and "first" not in caplog.text
    with pytest.raises(KeyError):
        await end_all(_failing("third", told), failed=KeyError())
    assert told[3:] == ["third"]
    await end_all(lambda: told.append("last"))
    assert told[4:] == ["last"]


async def test_who_is_cancelled_while_parts_end_ends_the_others_first() -> None:
    told: list[str] = []
    task = asyncio.create_task(end_all(lambda: asyncio.sleep(60), lambda: told.append("second")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == ["second"]


async def test_a_node_of_which_parts_fail_to_close_is_closed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the archiver's end failed, the member was not stopped: its lanes and files stayed open, and its
    log was not marked as ended in order."""
    config = config_of(tmp_path)
    running = await start(config)
    node, told = running.node, list[str]()
    await until(lambda: leads(node), "it leads")
    await write_rows(node, range(3))
    member, archiving = node.member, node.host.archiving
    assert member is not None and archiving is not None
    monkeypatch.setattr(member.scrub, "stop", _failing("the scrub", told))
    with monkeypatch.context() as patch:
        patch.setattr(archiving, "close", _failing("the archive", told))
        with pytest.raises(OSError, match="the archive"):
            await running.stop()
    await archiving.close()
    assert told == ["the archive", "the scrub"] and node.member is None
    marks = TwoSlotFile(node.env.disk, node.paths.sync_mark, state.encode_mark_slot, state.decode_mark)
    assert marks.read()[1].clean
    marks.close()
    async with one_node(config) as again:
        assert leads(again)
