"""wal-receive against a real node: what is committed is in the archive at once, also after any kill."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from neumann.archive.destinations import destination, directory_destination
from neumann.archive.receive import Lag, Log, Parts, receive
from neumann.archive.sources import source
from neumann.env.disk import RealDisk
from neumann.env.net import RealNet
from neumann.env.places import Places
from neumann.errors import ArchiveGap, NotFound, WrongHistory
from neumann.format import command, frame, names
from neumann.format.frame import Frame, Kind, decode_run
from neumann.recovery.catalog import Catalog
from neumann.recovery.runs import runs
from neumann.recovery.survey import survey
from neumann.runtime.node import Node
from tests import distant
from tests.archive.archiving import HISTORY
from tests.runtime.nodes import config_of, one_node, put, start, until, write_rows
from tests.sim.disk import SimDisk

DISK = RealDisk()


class Receiving:
    """A receiver in this process."""

    def __init__(self, address: str, archive: Path) -> None:
        self.address = address
        self.archive = archive
        self.through = 0
        self.asks = 0

    async def run(self) -> None:
        net = RealNet()

        async def ask(address: str, method: str, params: list[object], timeout_s: float) -> Any:
            self.asks += 1
            return await net.call(address, method, params, timeout_s)

        try:
            await receive(ask, [self.address], self.target(), self.told)
        finally:
            await net.close()

    def target(self) -> Any:
        return directory_destination(DISK, str(self.archive), b"12345678")

    def told(self, lag: Lag) -> None:
        self.through = lag.last_index

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.through = 0
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def node_at(root: Path) -> AsyncIterator[tuple[Node, Receiving]]:
    """A node that answers RPC, and who may receive from it."""
    config = config_of(root)
    archive = root / "archive"
    archive.mkdir(exist_ok=True)
    running = await start(config)
    try:
        await until(lambda: running.node.member is not None and running.node.member.leads, "it leads")
        yield running.node, Receiving(config.node.listen, archive)
    finally:
        await running.stop()


def commit_of(node: Node) -> int:
    assert node.member is not None
    return node.member.raft.commit_index


def seal(node: Node) -> None:
    assert node.member is not None
    node.member.duties.propose_marker(seal=True)


def archived_end(archive: Path) -> int:
    """The last entry that a restore of what lies there would have."""
    found = survey(DISK, source(DISK, wal_dir=str(archive)), bodies=True)
    assert not found.runs.wrong and len(found.runs.found) == 1 and found.runs.found[0].first_index == 1
    (window,) = next(iter(found.recoverable.values()))
    assert window.last_index == found.runs.found[0].last_index
    return window.last_index


async def test_frames_are_there_as_they_commit_and_segments_as_they_are_sealed(tmp_path: Path) -> None:
    async with node_at(tmp_path) as (node, receiving), receiving.running():
        for number in range(3):
            await write_rows(node, range(50), number)
            await until(lambda: receiving.through == commit_of(node), "what is committed is received")
            assert archived_end(receiving.archive) == commit_of(node)
            seal(node)
        await write_rows(node, range(10))
        await until(lambda: receiving.through == commit_of(node), "all is received")
        assert node.member is not None
        segments = {s.name: Path(s.path) for s in node.member.wal.segments() if s.sealed}
        there = {path.name: path.read_bytes() for path in receiving.archive.iterdir()}
        assert {name: path.read_bytes() for name, path in segments.items()} == {
            name: data for name, data in there.items() if names.parse_segment(name)
        }
        (part,) = [name for name in there if names.parse_part(name)]
        open_segment = Path(node.member.wal.segments()[-1].path).read_bytes()
        assert open_segment.startswith(there[part]) and len(there) == len(segments) + 2


async def test_a_receiver_goes_on_where_it_was(tmp_path: Path) -> None:
    """Behind a part that is whole, torn, without a frame or a header; and when its segment was sealed."""
    async with node_at(tmp_path) as (node, receiving):
        for cut in (None, 0, 1, 40, 64, 100, -1, -40):
            async with receiving.running():
                await write_rows(node, range(20), str(cut))
                await until(lambda: receiving.through == commit_of(node), "received")
            (part,) = receiving.archive.glob("*.part")
            if cut is not None:
                part.write_bytes(part.read_bytes()[:cut])
            if cut in (64, -1):
                seal(node)
            await write_rows(node, range(20))
        async with receiving.running():
            await until(lambda: receiving.through == commit_of(node), "received")
        assert archived_end(receiving.archive) == commit_of(node)


async def test_a_part_that_was_sealed_by_a_killed_receiver_gets_its_name(tmp_path: Path) -> None:
    async with node_at(tmp_path) as (node, receiving):
        await write_rows(node, range(20))
        seal(node)
        async with receiving.running():
            # The seal is only proposed: all that is committed may be received before it is.
            await until(lambda: any(receiving.archive.glob("*.wal")), "the sealed segment is received")
            await until(lambda: receiving.through == commit_of(node), "received")
        whole = sorted(receiving.archive.glob("*.wal"))
        part = Path(f"{whole[-1]}{names.PART}")
        for other in receiving.archive.glob("*.part"):
            other.unlink()
        part.write_bytes(whole[-1].read_bytes())
        whole[-1].unlink()
        async with receiving.running():
            await until(lambda: receiving.through == commit_of(node), "received")
        assert whole == sorted(receiving.archive.glob("*.wal")) and not part.exists()


async def test_consul_6669_only_committed_frames_of_the_own_log_are_read(tmp_path: Path) -> None:
    """A second cluster joined the first by mistake: who asks for the log says whose."""
    async with one_node(config_of(tmp_path)) as node:
        await write_rows(node, range(10))
        assert node.member is not None
        own, commit = node.member.identity, commit_of(node)
        base = node.member.wal.base
        asked = [own.cluster_id, str(own.timeline), base.index, base.chain, 4096, 0.0]
        reached, _, data = await node.call("log.read", asked)
        frames = decode_run(data)
        assert reached >= commit and frames[-1].header.last_index <= reached
        with pytest.raises(WrongHistory, match="was asked for"):
            await node.call("log.read", [b"x" * 16, *asked[1:]])
        with pytest.raises(WrongHistory, match="this node is of cluster"):
            await node.call("segment.find", [b"x" * 16, asked[1], 1])
        assert await node.call("segment.find", [*asked[:2], commit + 1000]) == []
        with pytest.raises(WrongHistory, match="does not go on"):
            await node.call("log.read", [*asked[:3], 7, 4096, 0.0])
        last = frames[-1].header
        began = asyncio.get_running_loop().time()
        again = await node.call("log.read", [*asked[:2], *last.end[::2], 4096, 0.2])
        assert again[2] == b"" and asyncio.get_running_loop().time() - began >= 0.2


async def test_a_log_that_was_dropped_behind_the_archive_is_a_gap(tmp_path: Path) -> None:
    async with node_at(tmp_path) as (node, receiving):
        await write_rows(node, range(10))
        async with receiving.running():
            await until(lambda: receiving.through == commit_of(node), "received")
        assert node.member is not None
        for _ in range(3):
            await write_rows(node, range(10))
            await node.snapshot(10.0)
        member = node.member
        dropped = member.wal.drop_before(member.manifest.point.index)
        assert dropped is not None
        member.raft.compact_to(member.wal.base)
        dropped.run()
        with pytest.raises((ArchiveGap, NotFound)) as refused:
            await asyncio.wait_for(receiving.run(), 10)
        assert isinstance(refused.value, ArchiveGap)


@pytest.mark.parametrize("kind", ["host", "store"])
async def test_to_another_host_and_to_a_store(
    kind: str,
    tmp_path: Path,
    host: distant.SshHost,
    bucket: distant.Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**host.environ, **bucket.environ}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "there").mkdir()
    store = f"s3://{distant.BUCKET}/{uuid.uuid4()}"
    place = f"backup:{tmp_path}/there" if kind == "host" else store
    places, net = Places(DISK), RealNet()
    try:
        async with node_at(tmp_path) as (node, receiving):
            for _ in range(2):
                await write_rows(node, range(20))
                target = destination(places, place, b"12345678")
                await receive(net.call, [receiving.address], target, receiving.told, once=True)
                assert receiving.through >= commit_of(node) - 1
                seal(node)
            await receive(net.call, [receiving.address], target, receiving.told, once=True)
            found = survey(places, source(places, wal_dir=place), bodies=True)
            assert not found.runs.wrong and found.runs.found[0].last_index == receiving.through
            assert any(names.parse_segment(name) for name in target.list())
    finally:
        places.close()
        await net.close()


async def test_sigkill_at_random_moments_under_load(tmp_path: Path) -> None:
    """The real program, killed and started again: never less than it said, and in the end all."""
    async with node_at(tmp_path) as (node, receiving):
        script = (
            "import asyncio, sys\nfrom pathlib import Path\n"
            "from tests.archive.test_receive import Receiving\n"
            "asyncio.run(Receiving(sys.argv[1], Path(sys.argv[2])).run())\n"
        )
        stop = asyncio.Event()

        async def load() -> None:
            number = 0
            while not stop.is_set():
                await node.write(put(f"{number % 50}", "x" * 500))
                number += 1
                if number % 100 == 0:
                    seal(node)

        loading = asyncio.create_task(load())
        for pause_s in (0.5, 0.7, 0.9, 1.1):
            process = subprocess.Popen(
                [sys.executable, "-c", script, receiving.address, str(receiving.archive)]
            )
            await asyncio.sleep(pause_s)
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
        stop.set()
        await loading
        async with receiving.running():
            await until(lambda: receiving.through == commit_of(node), "received")
        assert archived_end(receiving.archive) == commit_of(node)
    assert runs(Catalog(DISK, str(receiving.archive)), bodies=True).wrong == []


def test_parts_of_other_timelines_are_left_alone(tmp_path: Path) -> None:
    other = names.segment_name(HISTORY.timeline._replace(counter=9), 1) + names.PART
    (tmp_path / other).write_bytes(b"x")
    parts = Parts(directory_destination(DISK, str(tmp_path), b"12345678"), Log(HISTORY, HISTORY.base))
    parts.resume()
    assert (tmp_path / other).read_bytes() == b"x" and parts.last == HISTORY.base


def test_what_an_fsync_that_failed_left_is_written_anew() -> None:
    """Bug: a receiver that went on behind an append whose fsync had failed called durable what the disk never
    got: the next fsync took it for clean."""
    disk, frames = SimDisk(), list[Frame]()
    disk.make_dirs("/archive")
    end = HISTORY.base
    for number in range(3):
        row = command.encode_put("t", f"k{number}", command.pack_value("x" * 600))
        frames.append(frame.encode(Kind.DATA, end.index + 1, 1, number + 1, end.chain, [row]))
        end = frames[-1].header.end

    def resumed() -> Parts:
        parts = Parts(directory_destination(disk, "/archive", b"12345678"), Log(HISTORY, HISTORY.base))
        parts.resume()
        return parts

    parts = resumed()
    parts.accept(frames[:1])
    disk.fail_sync(names.PART)
    with pytest.raises(OSError, match="Input/output"):
        parts.accept(frames[1:2])
    parts = resumed()
    parts.accept([one for one in frames if one.header.first_index > parts.last.index])
    disk = disk.crash(Random(0))
    assert resumed().last == end
