"""The swap at every crash point: the directory is the old one or the new one, never a mixture, never less."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.env.doors import Disk
from neumann.env.files import read_file, write_new
from neumann.errors import InUse, NotFound
from neumann.format.names import Paths
from neumann.recovery import aside, swap
from tests.sim.disk import SimCrash, SimDisk

ROOT = "/data"
NOW = 1_700_000_000_000_000_000
OLD = {"raft/vote": b"old", "raft/wal/1.wal": b"old log", "store/1.table": b"old rows"}
NEW = {"raft/vote": b"new", "raft/wal/9.wal": b"new log", "store/9.table": b"new rows", "store/x": b"x"}


def put(disk: Disk, root: str, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = f"{root}/{name}"
        directory = path.rpartition("/")[0]
        disk.make_dirs(directory)
        write_new(disk, path, data)
        disk.sync_dir(directory)


def tree(disk: Disk, root: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in disk.list(root):
        path = f"{root}/{name}"
        if disk.stat(path).is_directory:
            found |= {f"{name}/{below}": data for below, data in tree(disk, path).items()}
        else:
            found[name] = read_file(disk, path)
    return found


def state_of(disk: Disk, root: str) -> dict[str, bytes]:
    return {k: v for k, v in tree(disk, root).items() if k.startswith(("raft/", "store/"))}


def prepared(with_old: bool = True) -> SimDisk:
    disk = SimDisk()
    disk.make_dirs(ROOT)
    if with_old:
        put(disk, ROOT, OLD)
    put(disk, swap.new_state(Paths(ROOT)).root, NEW)
    return disk


@pytest.mark.parametrize("with_old", [True, False])
def test_every_crash_point(with_old: bool) -> None:
    count_disk = prepared(with_old)
    begin = count_disk.operations
    swap.swap_in(count_disk, Paths(ROOT), "restore", NOW)
    steps = count_disk.operations - begin
    assert steps > 8
    outcomes = set()
    for step in range(steps):
        for seed in range(6):
            disk = prepared(with_old)
            disk.crash_at = disk.operations + step
            with pytest.raises(SimCrash):
                swap.swap_in(disk, Paths(ROOT), "restore", NOW)
            outcomes.add(finish_through_crashes(disk.crash(random.Random(seed)), with_old, seed))
    assert outcomes == {"old", "new"}


def finish_through_crashes(disk: SimDisk, with_old: bool, seed: int) -> str:
    """Restart until a start gets through, crashing each of the first few at another step."""
    for step in range(4):
        disk.crash_at = disk.operations + step + seed
        try:
            swap.finish_or_undo(disk, ROOT)
        except SimCrash:
            disk = disk.crash(random.Random(seed + step))
            continue
        break
    disk.crash_at = None
    swap.finish_or_undo(disk, ROOT)
    old = OLD if with_old else {}
    state = state_of(disk, ROOT)
    assert state in (old, NEW)
    assert not disk.exists(Paths(ROOT).journal) and not disk.exists(swap.new_state(Paths(ROOT)).root)
    if state == NEW and with_old:
        (kept,) = aside.list_aside(disk, ROOT)
        assert tree(disk, kept.path) == OLD
    return "new" if state == NEW else "old"


def test_what_was_set_aside_is_moved_back_when_the_new_state_is_gone() -> None:
    disk = prepared()
    begin = disk.operations
    swap.swap_in(disk.fork(), Paths(ROOT), "restore", NOW)
    undone = 0
    for step in range(40):
        disk = prepared()
        disk.crash_at = begin + step
        try:
            swap.swap_in(disk, Paths(ROOT), "restore", NOW)
        except SimCrash:
            disk = disk.kill()
        if state_of(disk, ROOT).keys() & NEW.keys() - OLD.keys() or not disk.exists(Paths(ROOT).journal):
            continue
        disk.remove_tree(swap.new_state(Paths(ROOT)).root)
        assert "undid" in swap.finish_or_undo(disk, ROOT)
        assert state_of(disk, ROOT) == OLD
        undone += 1
    assert undone >= 2


def test_a_killed_process_leaves_a_swap_that_the_next_finishes(tmp_path: Path) -> None:
    """A real process is killed with SIGKILL before each rename in turn."""
    program = textwrap.dedent(
        """
        import os, signal, sys
        from neumann.env.disk import RealDisk
        from neumann.format.names import Paths
        from neumann.recovery import swap

        class Killed(RealDisk):
            left = int(sys.argv[2])
            def rename(self, source, target):
                if not self.left:
                    os.kill(os.getpid(), signal.SIGKILL)
                self.left -= 1
                super().rename(source, target)

        swap.swap_in(Killed(), Paths(sys.argv[1]), "restore", 1_700_000_000_000_000_000)
        """
    )
    disk, seen = RealDisk(), set()
    for renames in range(8):
        root = str(tmp_path / f"d{renames}")
        put(disk, root, OLD)
        put(disk, swap.new_state(Paths(root)).root, NEW)
        ended = subprocess.run(
            [sys.executable, "-c", program, root, str(renames)],
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            check=False,
        )
        assert ended.returncode in (0, -signal.SIGKILL)
        swap.finish_or_undo(disk, root)
        state = state_of(disk, root)
        assert state in (OLD, NEW)
        seen.add((ended.returncode, state == NEW))
    assert seen == {(-signal.SIGKILL, False), (-signal.SIGKILL, True), (0, True)}


def test_rejoin_sets_the_state_aside_and_nothing_is_lost() -> None:
    disk = prepared()
    aside_id = swap.rejoin(disk, ROOT, NOW)
    assert state_of(disk, ROOT) == {}
    (kept,) = aside.list_aside(disk, ROOT)
    assert (kept.id, kept.holds) == (aside_id, ("raft", "store"))
    assert tree(disk, kept.path) == OLD and kept.bytes == sum(map(len, OLD.values()))
    with pytest.raises(NotFound):
        swap.rejoin(disk, ROOT, NOW)


def test_rejoin_of_a_running_server_is_refused() -> None:
    disk = prepared()
    release = disk.lock(Paths(ROOT).lock)
    with pytest.raises(InUse):
        swap.rejoin(disk, ROOT, NOW)
    release()
    assert state_of(disk, ROOT) == OLD
