"""What goes to the other members, and in which order."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from unittest.mock import patch

from neumann.format.frame import Frame
from tests.runtime.nodes import cluster, leads, start, until, write_rows

_CACHE_BYTES = 64 * 1024
_HEARTBEATS = 15


async def test_what_is_read_for_a_follower_far_behind_is_read_once(tmp_path: Path) -> None:
    """A heartbeat overtook the frames that were still being read from the disk: the follower refused it, and
    with each heartbeat all that was under way was read and sent once more."""
    async with cluster(tmp_path) as running:
        leader = next(one for one in running if leads(one.node))
        behind = next(one for one in running if one is not leader)
        await behind.stop()
        member = leader.node.member
        assert member is not None
        member.wal._cache.bytes_max = _CACHE_BYTES
        await write_rows(leader.node, range(200), "x" * 20_000)
        read_frames, send, term = member.wal.read_frames, member.env.net.send, member.raft.term
        read_bytes, sent, released = 0, 0, threading.Event()

        def read_late(after_index: int, last_index: int) -> tuple[Frame, ...]:
            nonlocal read_bytes
            released.wait(20.0)
            frames = read_frames(after_index, last_index)
            read_bytes += sum(len(frame.data) for frame in frames)
            return frames

        def count(address: str, payload: bytes) -> None:
            nonlocal sent
            sent += address == behind.node.config.node.advertise
            send(address, payload)

        with patch.object(member.wal, "read_frames", read_late), patch.object(member.env.net, "send", count):
            again = running[running.index(behind)] = await start(behind.node.config)
            await until(lambda: sent > _HEARTBEATS, "heartbeats while it is read")
            async with asyncio.timeout(5.0):
                await member._read_lane.run(lambda: "a client's read waits for none of it")
            released.set()
            end = member.raft.last.index
            await until(
                lambda: (node := again.node.member) is not None and node.raft.durable_index >= end,
                "it has caught up",
            )
        assert leads(leader.node) and member.raft.term == term
        log_bytes = sum(segment.bytes for segment in member.wal.segments())
        assert log_bytes / 2 < read_bytes < 1.5 * log_bytes
