"""The data directory is a mount point: the swap happens inside of it, nothing is renamed across."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from neumann.recovery.targets import parse_target
from tests.recovery.test_restore import DISK, carry_out, request
from tests.recovery.world import Cluster, copy_tree, rows_in


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, as a data directory often is."""
    directory = tmp_path / "mounted"
    directory.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64m", "neumann-test", str(directory)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("only root, with the right to mount, can make a file system")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_restore_into_a_mount_point(mounted: Path, tmp_path: Path) -> None:
    cluster = Cluster.fresh(DISK, str(tmp_path), 21)
    kept = cluster.put("kept", 1)
    cluster.put("mistake", 2)
    cluster.seal()
    copy_tree(DISK, cluster.root, str(mounted))
    cluster.root = str(mounted)
    report = carry_out(request(parse_target(until_index=kept.last), cluster))
    assert rows_in(DISK, str(mounted)) == cluster.rows_at(kept.last)
    assert report.adopted is not None
    assert (mounted / "aside" / report.adopted.aside_id / "raft/vote").exists()
    assert carry_out(request(parse_target(until_index=kept.last), cluster)).already
