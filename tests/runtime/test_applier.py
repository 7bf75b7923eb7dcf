"""The applier on a real log and store: what may come while it waits for a lane."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from neumann.config import Config, StoreConfig
from neumann.env import Env, File, real_env
from neumann.env.disk import RealDisk
from neumann.format.command import VALUE, Limits, encode_put, pack_value, row_key
from neumann.format.frame import Frame
from neumann.format.names import Paths
from neumann.machine.state import MachineState
from neumann.runtime import applier as applier_module
from neumann.runtime.applier import Applier
from neumann.runtime.core import make_core
from neumann.runtime.lag import LagSamples
from neumann.runtime.metrics import Metrics
from neumann.runtime.opening import open_member
from neumann.runtime.proposer import Proposer
from neumann.runtime.repair import repair_of
from neumann.runtime.settled import Settled
from tests.runtime.nodes import config_of, one_node, put, unhandled_errors, until


class HeldDisk(RealDisk):
    """Whoever opens a segment to read it waits for `gate`; `held` says that somebody does."""

    def __init__(self) -> None:
        self.gate, self.held = threading.Event(), threading.Event()
        self.gate.set()

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        if path.endswith(".wal") and not write:
            self.held.set()
            assert self.gate.wait(10)
        return super().open(path, write=write, create=create)


class Alone:
    """An applier on a member's directory, with nobody beside it. `frames`: those not applied yet."""

    def __init__(self, config: Config, env: Env) -> None:
        opened = open_member(env.disk, Paths(config.node.data_dir), config, 1)
        self.failures: list[BaseException] = []
        self.log, self.store = opened.wal, opened.store
        self._lane = env.lane("read")
        self.frames: list[Frame] = list(
            self.log.read_frames(opened.manifest.point.index, self.log.last.index)
        )
        core, metrics = make_core(env, config, opened), Metrics()
        proposer = Proposer(
            core,
            env.clock,
            Limits(),
            metrics,
            unanswered_bytes_max=1,
            gate=lambda: None,
            hold=lambda: False,
            voters_clock_ns=lambda: None,
            pump=lambda: None,
            on_failure=self.failures.append,
        )
        self.applier = Applier(
            MachineState.from_manifest(opened.manifest),
            self.store,
            self.log,
            self._lane,
            repair_of(
                env,
                Paths(config.node.data_dir),
                metrics,
                core,
                self.store,
                Settled(env.disk, self.log, core, self._lane),
            ),
            proposer,
            env.clock,
            metrics,
            lag=LagSamples(),
            unsealed_entries=0,
            run_end=lambda after, bytes_max: core.log.run_after(after, bytes_max, 4096).last_index,
            on_special=lambda *_: None,
            on_applied=lambda _: None,
            on_failure=self.failures.append,
        )

    async def reached(self, frame: Frame) -> None:
        """Wait until it is applied, or something failed."""
        last = frame.header.last_index
        await until(lambda: bool(self.failures) or self.applier.applied_index == last, "it is applied")
        await asyncio.sleep(0.02)
        assert not self.failures and self.applier.applied_index == last

    def close(self) -> None:
        """Let go of the directory."""
        self._lane.close()
        self.log.close()


@asynccontextmanager
async def alone(root: Path, *commands: bytes) -> AsyncIterator[Alone]:
    """One that has a table with the row `cold`, no cache, and these commands still to apply, each in its
    own frame."""
    config = replace(config_of(root), store=StoreConfig(cache_bytes_max=0, disk_free_bytes_min=0))
    async with one_node(config) as node:
        await node.write(put("cold", 1))
        await node.snapshot()
        for command in commands:
            await node.write(command)
    env = real_env()
    env.disk = HeldDisk()
    one = Alone(config, env)
    try:
        yield one
    finally:
        one.close()


async def test_a_frame_that_waits_for_its_rows_is_applied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn that was scheduled when a long run was cut off also began while a frame waited for rows
    from the disk, and applied it a second time."""
    condition = (VALUE, pack_value(1))
    conditional = encode_put("t", "cold", pack_value(2), condition)
    async with alone(tmp_path, put("a"), conditional) as one:
        with unhandled_errors() as told, monkeypatch.context() as patch:
            patch.setattr(applier_module, "_ENTRIES_PER_TURN", 1)
            one.applier.appended(one.frames, None)
            one.applier.committed(one.frames[-1].header.last_index, soon=False)
            one.applier.wake()
            await one.reached(one.frames[-1])
        assert not told
        version = one.store.get(row_key("t", "cold"))
        assert version is not None and version[0] == pack_value(2)


async def test_committed_entries_are_read_back_while_the_tail_is_cut(tmp_path: Path) -> None:
    """A truncation above the commit index made the log refuse what the applier was reading below it, and
    the node stopped."""
    async with alone(tmp_path, put("a"), put("b"), put("c")) as one:
        disk = one.log._disk
        assert isinstance(disk, HeldDisk)
        committed = one.frames[1]
        disk.held.clear()
        disk.gate.clear()
        one.applier.committed(committed.header.last_index, soon=False)
        await until(disk.held.is_set, "the log is being read")
        one.log.stage((), committed.header.last_index)
        one.applier.appended((), committed.header.last_index)
        disk.gate.set()
        await one.reached(committed)


async def test_what_is_read_back_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that was in memory and read back as well took room for ever, until no frame was kept."""
    async with alone(tmp_path, put("a"), put("b"), put("c")) as one:
        first, second, third = one.frames
        monkeypatch.setattr(applier_module, "_TAIL_BYTES_MAX", len(second.data))
        one.applier.appended([second], None)
        one.applier.committed(second.header.last_index, soon=False)
        assert one.applier.applied_index < first.header.first_index, "the first frame is read back"
        await one.reached(second)
        one.applier.appended([third], None)
        one.applier.committed(third.header.last_index, soon=False)
        assert one.applier.applied_index == third.header.last_index, "the third is in memory"


async def test_what_is_to_be_applied_soon_lets_pass_what_the_loop_has_to_do_already(tmp_path: Path) -> None:
    async with alone(tmp_path, put("a")) as one:
        seen: list[int] = []
        before = one.applier.applied_index
        asyncio.get_running_loop().call_soon(lambda: seen.append(one.applier.applied_index))
        one.applier.appended(one.frames, None)
        one.applier.committed(one.frames[-1].header.last_index, soon=True)
        await one.reached(one.frames[-1])
        assert seen == [before]


@pytest.mark.parametrize("waits", [False, True], ids=["soon", "behind its rows"])
async def test_a_frame_that_was_applied_in_part_ends_the_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """An error on the way was only logged where the frame was applied in a turn of the loop of its own: the
    next commit read the frame back, and applied it again on what the first try had left."""
    condition = (VALUE, pack_value(1)) if waits else None
    async with alone(tmp_path, encode_put("t", "cold", pack_value(2), condition)) as one:
        with unhandled_errors() as told, monkeypatch.context() as patch:
            patch.setattr(applier_module, "apply_data", Mock(side_effect=AssertionError("no")))
            one.applier.appended(one.frames, None)
            one.applier.committed(one.frames[-1].header.last_index, soon=True)
            await until(lambda: bool(told), "it is applied")
        assert [str(error) for error in one.failures] == ["no"]


async def test_the_next_frame_is_made_before_the_last_one_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So followers write and sync it meanwhile."""
    async with one_node(config_of(tmp_path)) as node:
        assert node.member is not None
        raft = node.member.raft
        told: list[str] = []
        second: list[asyncio.Task[tuple[int, int]]] = []
        propose, applied = raft.propose, raft.applied

        def proposing(frame: Frame) -> None:
            told.append(f"made {frame.header.first_index - start}")
            propose(frame)
            if not second:
                second.append(asyncio.create_task(node.write(put("b"))))

        def applying(index: int) -> None:
            told.append(f"applied {index - start}")
            applied(index)

        start = raft.last.index
        monkeypatch.setattr(raft, "propose", proposing)
        monkeypatch.setattr(raft, "applied", applying)
        await node.write(put("a"))
        await second[0]
        assert told == ["made 1", "made 2", "applied 1", "applied 2"]
