"""wal-replay is killed with SIGKILL at random moments: what stands is the old state or the new, whole; the
next identical command finishes or undoes what had begun, and ends with exactly the rows that were asked for.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.env.files import read_file
from neumann.format.names import Paths
from neumann.recovery import swap
from neumann.store.manifests import load_newest
from tests.recovery.world import Cluster, Rows, rows_in

DISK = RealDisk()
_CALL = "import sys; from neumann.cli.admin import main; sys.argv[0] = 'neumann-admin'; main()"


def command(cluster: Cluster, data: Path, index: int) -> list[str]:
    words = ["wal-replay", "--wal-dir", cluster.archive, "--until-index", str(index), "--yes", "--quiet"]
    words += ["--jobs", "3"]
    return [sys.executable, "-c", _CALL, *words, "--data-dir", str(data), "--node-id", "n1"]


def kill_after(words: list[str], seconds: float) -> bool:
    """Whether the kill came before the end."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, said = process.communicate(timeout=seconds)
        assert process.returncode == 0, said
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True


def state_of(data: Path) -> tuple[Rows, bytes]:
    """The rows that a start would open, and the vote, after what a start does first."""
    swap.finish_or_undo(DISK, str(data))
    paths = Paths(str(data))
    manifest = load_newest(DISK, paths.store)
    assert manifest is not None
    return rows_in(DISK, str(data)), read_file(DISK, paths.vote)


def rounds(count: int, tmp_path: Path) -> None:
    rng = random.Random(count)
    cluster = Cluster.fresh(DISK, str(tmp_path), 5)
    cluster.work(60)
    cluster.seal()
    index = cluster.frames[len(cluster.frames) // 2].last
    wanted = cluster.rows_at(index)
    began = time.monotonic()
    subprocess.run([*command(cluster, tmp_path / "timed", index)], check=True, capture_output=True)
    whole_s = time.monotonic() - began
    old = state_of(Path(cluster.root))
    outcomes = set()
    for number in range(count):
        data = tmp_path / f"round-{number}"
        shutil.copytree(cluster.root, data)
        # The first third of the time is the interpreter's start; most kills fall behind it.
        moment_s = whole_s * rng.uniform(0.2, 1.1)
        was_killed = kill_after(command(cluster, data, index), moment_s)
        stands = state_of(data)
        is_old = stands == old
        assert is_old or stands[0] == wanted
        outcomes.add((was_killed, is_old))
        if is_old:
            subprocess.run(command(cluster, data, index), check=True, capture_output=True)
        else:
            assert kept_aside(data) == old[1]
        assert state_of(data)[0] == wanted
        assert kept_aside(data) == old[1]
        shutil.rmtree(data)
    assert any(was_killed for was_killed, _ in outcomes), "no kill came before the end"


def kept_aside(data: Path) -> bytes:
    """The vote of the one state that was set aside."""
    (kept,) = (data / "aside").iterdir()
    return (kept / "raft/vote").read_bytes()


def test_a_few_moments(tmp_path: Path) -> None:
    rounds(6, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_moments(tmp_path: Path) -> None:
    rounds(50, tmp_path)
