"""How much room a restore needs: what it copies, and no more; and it is refused before it has begun."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.errors import DiskFull
from neumann.format import names
from neumann.recovery.prepare import Request, plan_restore
from neumann.recovery.restore import restore
from neumann.recovery.targets import parse_target
from tests.recovery.test_restore import request
from tests.recovery.world import SEGMENT_BYTES, Cluster, make_env, rows_in

DISK = RealDisk()
LATEST = parse_target(until="latest")


class Room(RealDisk):
    """A disk with so much room left."""

    def __init__(self, free_bytes: int) -> None:
        self.left_bytes = free_bytes

    def free_bytes(self, path: str) -> int:
        return self.left_bytes


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """200 rows that compress well, in a snapshot of the node and of the repository; one more behind it."""
    made = Cluster.fresh(DISK, str(tmp_path), 1)
    for number in range(200):
        made.put(f"k{number}", "x" * 2000)
    made.snapshot(f"{made.archive}-snapshots")
    made.put("z", 1)
    made.seal()
    return made


def table_bytes(cluster: Cluster) -> int:
    tables = [Path(cluster.paths.store, names.table_name(ref.digest)) for ref in cluster.manifest.tables]
    size = sum(path.stat().st_size for path in tables)
    assert 0 < 2 * size < sum(ref.raw_bytes for ref in cluster.manifest.tables)
    return size


def needed_bytes(cluster: Cluster, wanted: Request) -> int:
    """What is needed, which is enough: one byte less is refused by the plan, so by a dry run too."""
    planned = plan_restore(make_env(DISK), wanted)
    needed = planned.needed_bytes
    assert plan_restore(make_env(Room(needed)), wanted).needed_bytes == needed
    with pytest.raises(DiskFull, match=f"{needed - 1} bytes free and {needed} are needed") as refused:
        plan_restore(make_env(Room(needed - 1)), wanted)
    assert "aside-delete" in refused.value.remedy
    return needed - SEGMENT_BYTES - planned.plan.log_bytes


async def test_what_is_linked_needs_no_room(cluster: Cluster) -> None:
    """Bug: the uncompressed size of all tables had to be free, also of those that are linked: a disk that is
    half full could not be restored in place, and a dry run had said that it can."""
    wanted = replace(request(LATEST, cluster), snapshot_dir="")
    assert needed_bytes(cluster, wanted) == 0
    env = make_env(Room(table_bytes(cluster) + 2 * SEGMENT_BYTES))
    planned = plan_restore(env, wanted)
    assert planned.plan.start.directory.startswith(f"{cluster.root}/")
    await restore(env, planned)
    assert rows_in(DISK, cluster.root) == cluster.rows


def test_what_is_copied_needs_the_room_of_its_files(cluster: Cluster, tmp_path: Path) -> None:
    size = table_bytes(cluster)
    assert needed_bytes(cluster, request(LATEST, cluster, f"{tmp_path}/r")) == size
    shutil.rmtree(cluster.paths.snapshots)  # so that the snapshot of the repository is chosen
    for manifest in Path(cluster.paths.store).glob("*.manifest"):
        manifest.unlink()
    wanted = request(LATEST, cluster)
    assert needed_bytes(cluster, wanted) == size
    delta = replace(wanted, delta=True)
    assert needed_bytes(cluster, delta) == 0
    (table,) = Path(cluster.paths.store).glob("*.table")
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    assert needed_bytes(cluster, delta) == size, "a damaged one is copied"
