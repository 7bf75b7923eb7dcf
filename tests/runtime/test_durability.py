"""What a member makes durable, where a disk fails in the middle of it, and what it believes of it."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from neumann.env import Disk, File, real_env
from neumann.env.disk import RealDisk
from neumann.errors import StorageFailed
from neumann.format import frame as frame_format
from neumann.format import names, state
from neumann.format.frame import Frame, Kind
from neumann.format.ids import Candidate, LogPoint, Timeline
from neumann.format.message import Message, VoteReply
from neumann.format.state import SyncMark, Vote
from neumann.runtime.durability import Durability
from neumann.runtime.marks import MARK_INTERVAL_S, MarkKeeper
from neumann.runtime.metrics import Metrics
from neumann.runtime.pump import Pump
from neumann.wal import Log, Synced, TwoSlotFile
from tests.runtime.nodes import configs_of, is_formed, leads, start, until, write_rows

BASE = LogPoint(0, 0, 1)


class _FailingFile:
    """A file of which nothing becomes durable."""

    def __init__(self, file: File) -> None:
        self._file = file

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def sync(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


class _FailingDisk(RealDisk):
    """Its sync marks can't be synced."""

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        file = super().open(path, write=write, create=create)
        return _FailingFile(file) if path.endswith(names.SYNC_MARK) else file  # type: ignore[return-value]


def _frame(last: LogPoint) -> Frame:
    return frame_format.encode(Kind.DATA, last.index + 1, 1, last.index + 1, last.chain, [b"\xc0"])


class _Bench(NamedTuple):
    """A log, empty behind BASE, and what makes it durable. `failures`: what was told of any."""

    log: Log
    durability: Durability
    failures: list[BaseException]


@contextmanager
def _bench(
    tmp_path: Path,
    mark: SyncMark,
    *,
    mark_disk: Disk,
    send: Callable[[str, Message], None] = lambda *_: None,
    writes_again: bool = False,
    told: Callable[[Synced, int], None] = lambda *_: None,
) -> Iterator[_Bench]:
    """`mark_disk` holds the sync mark. `writes_again`: what is durable makes it write what came meanwhile,
    as the core's pump does. `told`: of the log's durable end, and the count of truncations behind it."""
    env, disk = real_env(), RealDisk()
    log = Log.create(disk, f"{tmp_path}/wal", b"c" * 16, Timeline(1, 1), BASE, 1 << 20)
    path = f"{tmp_path}/{names.SYNC_MARK}"
    TwoSlotFile(disk, path, state.encode_mark_slot, state.decode_mark).create(mark)
    mark_file = TwoSlotFile(mark_disk, path, state.encode_mark_slot, state.decode_mark)
    vote_file = TwoSlotFile(disk, f"{tmp_path}/vote", state.encode_vote_slot, state.decode_vote)
    vote_file.create(Vote())
    for file in (mark_file, vote_file):
        file.read()
    failures: list[BaseException] = []
    lane, mark_lane = env.lane("wal"), env.lane("mark")

    def on_durable(synced: Synced | None, vote: tuple[int, Candidate] | None, truncations: int) -> None:
        if synced is not None:
            told(synced, truncations)
        if writes_again:
            durability.write()

    durability = Durability(
        lane,
        log,
        Vote(),
        vote_file,
        MarkKeeper(mark_file, mark, mark_lane, failures.append),
        env.clock,
        Metrics(),
        floor=lambda: (0, 0),
        send=send,
        on_durable=on_durable,
        on_full=failures.append,
        on_failure=failures.append,
    )
    try:
        yield _Bench(log, durability, failures)
    finally:
        for held in (mark_lane, lane, log, mark_file, vote_file):
            held.close()


async def test_a_member_whose_mark_can_not_be_lowered_fails_and_stops(tmp_path: Path) -> None:
    """A truncation waits for a lower sync mark; when that could not be written nobody was told that
    nothing would follow, and stopping the node waited for ever."""
    with _bench(tmp_path, SyncMark(1, 0, 2, 1, 0, 0, 0), mark_disk=_FailingDisk()) as bench:
        first = _frame(BASE)
        bench.log.stage([first, _frame(first.header.end)])
        bench.log.stage((), 1)
        bench.durability.write()
        await until(lambda: bool(bench.failures), "the failure is told")
        assert isinstance(bench.failures[0], StorageFailed)
        async with asyncio.timeout(5):
            await bench.durability.stop()


async def test_answers_go_out_in_the_order_in_which_they_were_staged(tmp_path: Path) -> None:
    """An answer that came while the disk wrote overtook those that waited for it: the core was told first,
    and its pump sent what had queued behind them. A refused vote arrived before the granted one."""
    sent: list[Message] = []
    replies = [VoteReply(1, number == 0, False, bytes([number]) * 16) for number in range(3)]
    mark = SyncMark(1, 0, 0, 0, 1, 0, 0)
    with _bench(
        tmp_path,
        mark,
        mark_disk=RealDisk(),
        send=lambda _, message: sent.append(message),
        writes_again=True,
    ) as bench:
        durability = bench.durability
        durability.stage((1, Candidate("n2", replies[0].candidate)), [("n2", replies[0])], 0)
        durability.write()
        for reply in replies[1:]:
            durability.stage(None, [("n2", reply)], 0)
            durability.write()
        assert sent == [], "nothing is promised before it is durable"
        await until(lambda: len(sent) == 3 or bool(bench.failures), "three answers")
        assert sent == replies and not bench.failures
        await durability.stop()


async def test_what_is_durable_is_told_with_the_truncations_that_were_written_and_no_later_ones(
    tmp_path: Path,
) -> None:
    """A frame that is written, cut, and written again looks the same each time: the core must hear of which
    time it is (bug 29). A batch that cuts first waits for its mark, and meanwhile more is staged."""
    told: list[tuple[int, int]] = []
    mark = SyncMark(1, 0, 2, 1, 0, 0, 0)
    with _bench(
        tmp_path,
        mark,
        mark_disk=RealDisk(),
        told=lambda synced, truncations: told.append((synced.point.index, truncations)),
        writes_again=True,
    ) as bench:
        log, durability = bench.log, bench.durability
        first = _frame(BASE)
        again = _frame(first.header.end)
        for frames, cut, truncations in [([first, again], None, 0), ([again], 1, 1), ([again], 1, 2)]:
            log.stage(frames, cut)
            durability.stage(None, [], truncations)
            durability.write()
            if truncations == 0:
                await until(lambda: len(told) == 1, "the first write")
        await until(lambda: len(told) == 3 or bool(bench.failures), "the others")
        assert told == [(2, 0), (2, 1), (2, 2)] and not bench.failures
        await durability.stop()


async def test_a_mark_is_never_lowered_to_a_place_that_is_not_durable(tmp_path: Path) -> None:
    """A truncation in the batch of the frames before it, while a mark was being written, "lowered" the
    mark to a place that nothing had synced yet; after a crash the node found itself corrupt (R16)."""
    env, disk = real_env(), RealDisk()
    path = f"{tmp_path}/{names.SYNC_MARK}"
    file = TwoSlotFile(disk, path, state.encode_mark_slot, state.decode_mark)
    written = SyncMark(1, 10, 40, 1, 0, 0, 0)
    file.create(written)
    file.read()
    lane, gate = env.lane("mark"), threading.Event()
    keeper = MarkKeeper(file, written, lane, lambda error: None)
    lane.submit(lambda: gate.wait(10), lambda *_: None)
    keeper.synced(1, 20, 60, 1, 0)
    await asyncio.sleep(2 * MARK_INTERVAL_S)
    lowered: list[object] = []
    keeper.lower(written._replace(index=80, offset=30), lowered.append)
    gate.set()
    await until(lambda: bool(lowered), "the log may be cut")
    lane.close()
    assert file.read()[1].index == 60


async def test_who_catches_up_on_frames_of_an_earlier_term_believes_its_disk(tmp_path: Path) -> None:
    """Only frames of the current term were believed to be durable: a node that came back behind a change of
    leader made no snapshot, and had no segment for anybody, until the last of the log had come."""
    settings = [replace(c, raft=replace(c.raft, inflight_bytes_max=4096)) for c in configs_of(tmp_path, 3)]
    running = [await start(config) for config in settings]
    seen: list[tuple[Synced, int, int]] = []
    real = Pump.durable

    def durable(pump: Pump, synced: Synced | None, *rest: tuple[int, Candidate] | int | None) -> None:
        real(pump, synced, *rest)  # type: ignore[arg-type]
        if synced is not None and pump._raft.node_id == behind.node.config.node.id:
            seen.append((synced, pump._raft.term, pump._raft.durable_index))

    try:
        await until(lambda: is_formed(running), "formed")
        leader = next(one for one in running if leads(one.node))
        behind, other = (one for one in running if one is not leader)
        running.remove(behind)
        await behind.stop()
        for key in range(30):
            await write_rows(leader.node, range(key, key + 1), "x" * 500)
        written = leader.node.applied_index
        await leader.node.leader_transfer(other.node.config.node.id)
        with patch.object(Pump, "durable", durable):
            again = await start(behind.node.config)
            running.append(again)
            await until(lambda: again.node.applied_index > written, "it has caught up")
    finally:
        await asyncio.gather(*(one.stop() for one in running))
    earlier = [(synced.point.index, index) for synced, term, index in seen if synced.point.term < term]
    assert earlier and all(synced == believed for synced, believed in earlier)
