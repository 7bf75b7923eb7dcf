"""The checkpoint pipeline on the real doors: threads, a helper process, a file system, two event loops."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
import uvloop

from neumann.env.disk import RealDisk
from neumann.env.jobs import RealJobs
from neumann.env.lane import RealLane
from neumann.format import special as special_format
from neumann.format.command import decode_body
from neumann.format.frame import Kind
from neumann.format.manifest import Manifest, layout_digest
from neumann.format.special import Marker
from neumann.machine.apply import apply_data
from neumann.machine.state import MachineState, apply_special
from neumann.store.checkpoint import Checkpointer
from neumann.store.compaction import FAN
from neumann.store.manifests import load_newest
from neumann.store.store import Store
from tests.store.log import Log, some_command
from tests.store.rows import HISTORY, manifest_of

MARKERS = FAN + 3


async def checkpoints(directory: Path) -> None:
    """Enough markers for a merge; reads go on in a lane meanwhile; then everything from the disk again."""
    rng, disk, log = random.Random(1), RealDisk(), Log(HISTORY.base)
    store = Store.open(disk, str(directory), manifest_of(), 1 << 20)
    state = MachineState.from_manifest(store.manifest)
    made: list[Manifest] = []
    failures: list[Exception] = []

    def on_snapshot(manifest: Manifest, digest: bytes, _: Marker) -> None:
        assert digest == layout_digest(manifest)
        made.append(manifest)

    jobs, lane, read_lane = RealJobs(), RealLane("checkpoint"), RealLane("read")
    checkpointer = Checkpointer(disk, jobs, lane, store, on_snapshot, failures.append)
    await checkpointer.start()
    for number in range(MARKERS):
        first = len(log.frames)
        after = log.last.index
        for _ in range(5):
            log.add(Kind.DATA, [some_command(rng, 40) for _ in range(10)])
        while number == MARKERS - 1 and not checkpointer.finished_compaction:
            assert failures == []
            await asyncio.sleep(0.01)
        marker = Marker(snapshot=True, compaction=checkpointer.finished_compaction)
        log.add_special(marker)
        for frame in log.frames[first:-1]:
            result = apply_data(state, frame.header, decode_body(frame.body), store.active.rows, store.get)
            store.active.note(frame.header, result.skipped)
        apply_special(state, log.frames[-1].header, special_format.decode(log.frames[-1]))
        path = str(directory / f"log-{number}")
        log.store(disk, path)
        expected = store.view().scan()
        frozen = store.freeze(state.applied, state.time_ns)
        checkpointer.submit(marker, frozen, state.copy(), log.pieces(path, after, log.last.index))
        assert await read_lane.run(store.view().scan) == expected
        if number >= FAN - 1:
            await checkpointer.drain()
            assert failures == []
            assert await read_lane.run(store.view().scan) == expected
    assert failures == [] and len(made) == MARKERS
    assert made[FAN - 1].compaction is not None and made[-1].compaction is None and len(made[-1].tables) < FAN
    await checkpointer.close()
    await jobs.close()
    lane.close()
    read_lane.close()
    assert load_newest(disk, str(directory)) == made[-1]
    reopened = Store.open(disk, str(directory), made[-1], 0)
    assert reopened.view().scan() == expected
    for table in reopened.tables:
        table.verify()


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_checkpoints(tmp_path: Path, loop_factory: object) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:  # type: ignore[arg-type]
        runner.run(checkpoints(tmp_path))
