"""What a start makes of a log that lost what was once durable: the floor, and who refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.errors import Corrupt, RefusedByState
from neumann.format import state
from neumann.format.ids import LogPoint
from neumann.format.names import Paths
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.format.state import SyncMark, Vote
from neumann.runtime.floor import raise_floor
from neumann.wal.slots import TwoSlotFile
from tests.runtime.nodes import (
    Running,
    cluster,
    config_of,
    keys_of,
    leads,
    one_node,
    start,
    until,
    write_rows,
)

VOTE = Vote(term=7, voted_for="n2", start_number=3)
MARK = SyncMark(1, 64, 100, 6, 1, 50, 6)


def test_the_floor_is_the_last_frame_that_may_have_been_acknowledged() -> None:
    raised = raise_floor(VOTE, MARK, LogPoint(120, 7, 9))
    assert (raised.floor_term, raised.floor_index, raised.term, raised.voted_for) == (7, 120, 7, "n2")
    again = raise_floor(raised, MARK, LogPoint(110, 6, 9))
    assert (again.floor_term, again.floor_index) == (7, 120), "never lowered"


def test_where_that_frame_is_not_known_the_floor_is_the_next_term_which_is_entered() -> None:
    for vote, mark in ((VOTE, MARK), (VOTE._replace(term=5), MARK._replace(term=7))):
        raised = raise_floor(vote, mark, None)
        assert (raised.floor_term, raised.floor_index, raised.term, raised.voted_for) == (8, 1, 8, "")


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def segments(root: Path, node_id: str) -> list[Path]:
    return sorted((root / node_id / "raft/wal").iterdir())


async def _a_follower_stops(running: list[Running]) -> Running:
    follower = next(one for one in running if not leads(one.node))
    running.remove(follower)
    await follower.stop()
    return follower


async def _comes_back(running: list[Running], stopped: Running, keys: int) -> Running:
    """It starts, holds a floor, is supplied, and has no floor any more."""
    back = await start(stopped.node.config)
    running.append(back)
    member = back.node.member
    assert member is not None
    await until(lambda: member.raft.floor == (0, 0), "the leader has supplied it")
    await until(lambda: member.raft.leader != "", "it follows")
    assert len(await keys_of(back.node)) == keys
    return back


async def test_a_follower_with_a_flipped_bit_above_its_manifest_is_supplied_by_the_leader(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(tmp_path) as running:
        leading = next(one.node for one in running if leads(one.node))
        await write_rows(leading, range(200))
        stopped = await _a_follower_stops(running)
        node_id = stopped.node.config.node.id
        path = segments(tmp_path, node_id)[-1]
        whole = path.read_bytes()
        flip(path, len(whole.rstrip(b"\0")) - 5)
        await write_rows(leading, range(200, 300))
        back = await _comes_back(running, stopped, 300)
        [told] = [r.getMessage() for r in caplog.records if "does not campaign until" in r.getMessage()]
        assert str(path) in told and "entries" in told
        assert back.node.gauges()["corruption_total"] == {("log", "set_aside"): 1}
        assert back.node.gauges()["voting_floor"] == 0
        [copy] = (tmp_path / node_id / "aside").rglob("*.torn")
        assert copy.stat().st_size > 0
        await back.stop()
        running.remove(back)
        assert path.read_bytes()[: len(whole.rstrip(b"\0"))] == whole.rstrip(b"\0"), "the same bytes again"


async def test_a_follower_whose_log_ends_early_gets_its_vote_from_a_leader_of_a_later_term(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as running:
        leading = next(one.node for one in running if leads(one.node))
        await write_rows(leading, range(100))
        assert leading.member is not None
        term = leading.member.raft.term
        stopped = await _a_follower_stops(running)
        node_id = stopped.node.config.node.id
        paths = Paths(str(tmp_path / node_id))
        marks = TwoSlotFile(leading.env.disk, paths.sync_mark, state.encode_mark_slot, state.decode_mark)
        mark = marks.read()[1]
        marks.write(mark._replace(clean=False))
        marks.close()
        path = segments(tmp_path, node_id)[-1]
        path.write_bytes(path.read_bytes()[: mark.offset - 100])
        back = await _comes_back(running, stopped, 100)
        assert back.node.member is not None and back.node.member.raft.term > term


async def test_a_sole_voter_with_damage_above_its_manifest_refuses_and_changes_nothing(
    tmp_path: Path,
) -> None:
    config = config_of(tmp_path)
    async with one_node(config) as node:
        await write_rows(node, range(50))
    [path] = segments(tmp_path, "n1")
    flip(path, SEGMENT_HEADER_BYTES + 60)
    damaged = path.read_bytes()
    with pytest.raises(Corrupt, match="once durable") as failure:
        await start(config)
    assert "wal-replay" in failure.value.remedy and path.read_bytes() == damaged


async def test_a_sole_voter_with_damage_below_its_manifest_goes_on(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with one_node(config) as node:
        await write_rows(node, range(50))
        await node.snapshot()
        await write_rows(node, range(50, 70))
    first, _ = segments(tmp_path, "n1")
    flip(first, SEGMENT_HEADER_BYTES + 20)
    async with one_node(config) as node:
        assert len(await keys_of(node)) == 70
        assert node.gauges()["corruption_total"]["log", "passed_over"] == 1
        await node.snapshot()


@pytest.mark.parametrize("name", ["vote", "sync-mark"])
async def test_a_sole_voter_without_a_readable_vote_or_mark_refuses(tmp_path: Path, name: str) -> None:
    config = config_of(tmp_path)
    async with one_node(config) as node:
        await write_rows(node, range(5))
    for offset in (20, 4096 + 20):
        flip(tmp_path / "n1/raft" / name, offset)
    with pytest.raises(RefusedByState, match="the only voter") as failure:
        await start(config)
    assert "wal-replay" in failure.value.remedy
