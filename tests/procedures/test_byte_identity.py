"""After load, failover, restart, an install and compactions the members' data directories are the same."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import neumann
from neumann.errors import ConditionFailed
from tests.procedures.cluster import Cluster, Member
from tests.procedures.disks import assert_same_disks, compare_disks, read_disk

ROWS, IN_FLIGHT, KEYS = 600, 64, 200
SECTIONS = {
    "wal": {"retain_entries": 50, "segment_bytes_max": "64 KiB"},
    "snapshot": {"interval_entries": 60, "publish_interval_s": 1, "keep_age_min_s": 1, "keep_newest": 1},
    "store": {"block_bytes": 1024},
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three voters that make a snapshot each 60 rows, merge eight tables at once, and keep little log."""
    with Cluster(tmp_path, sections=SECTIONS) as running:
        running.start("--bootstrap")
        running.wait_voters(3)
        yield running


def load(contact: str, seed: int, rows: int = ROWS) -> None:
    """Puts, deletes, batches and writes whose condition fails, on keys that collide."""
    rng = random.Random(seed)

    async def write(store: neumann.Store, slots: asyncio.Semaphore) -> None:
        key, text = f"k{rng.randrange(KEYS):03d}", rng.randbytes(rng.choice([5, 300])).hex()
        async with slots:
            match rng.randrange(6):
                case 0:
                    await store.delete("load", key)
                case 1:
                    await store.batch([neumann.Put("load", key, text), neumann.Delete("load", f"{key}+")])
                case 2:
                    with suppress(ConditionFailed):
                        await store.put("load", key, text, if_absent=True)
                case _:
                    await store.put("load", key, {"text": text, "n": rng.random()})

    async def run() -> None:
        slots = asyncio.Semaphore(IN_FLIGHT)
        async with neumann.connect(contact) as store:
            await asyncio.gather(*(write(store, slots) for _ in range(rows)))

    asyncio.run(run())


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.05)


def first_index(member: Member) -> int:
    """Where its log begins."""
    return int(min((member.data / "raft/wal").glob("*.wal")).stem.rpartition("-")[2])


def test_disks_after_failover_and_restart(cluster: Cluster) -> None:
    load(cluster.contact, 1)
    leader = cluster.leader()
    leader.kill()
    cluster.leader()
    load(cluster.contact, 2)
    leader.start("--bootstrap")
    cluster.wait_serving()
    load(cluster.contact, 3)
    # It seals what is behind the newest published snapshot, so that a sealed segment is there to compare.
    leader.must_admin("restore-point", "compared", "--no-wait")
    found = compare_disks(cluster)
    assert found.tables < 3 * ROWS // 60, "tables were merged"
    assert found.tables > 1 and found.snapshots >= 1 and found.segments >= 1
    cluster.stop()
    cluster.start("--bootstrap")
    assert compare_disks(cluster).segments >= 1
    cluster.stop()
    table = leader.data / "store" / next(iter(read_disk(leader).tables))
    changed = bytearray(table.read_bytes())
    changed[len(changed) // 2] ^= 1
    table.write_bytes(changed)
    with pytest.raises(AssertionError):
        assert_same_disks(cluster.members)


def test_disks_after_installs(cluster: Cluster) -> None:
    """One that was away until the log is gone, and one whose disk is empty: both get tables and segments."""
    load(cluster.contact, 1)
    leader = cluster.leader()
    late, wiped = [member for member in cluster.members if member is not leader]
    late.stop()
    behind = first_index(late)
    end = leader.status()["commit_index"]

    def is_gone() -> bool:
        """It is cut where a snapshot is published, once a second at most: a fast machine needs more loads."""
        load(cluster.contact, 2)
        return first_index(leader) > end + 1

    wait_until(is_gone, "a log that is gone")
    late.start("--bootstrap")
    cluster.wait_serving()
    wait_until(lambda: "installed snapshot" in late.log.read_text(), "an install")
    assert first_index(late) > behind
    wiped.kill()
    shutil.rmtree(wiped.data)
    load(cluster.contact, 3)
    wiped.start("--bootstrap")
    cluster.wait_serving()
    load(cluster.contact, 4)
    found = compare_disks(cluster)
    assert found.tables < 4 * ROWS // 60, "tables were merged"
    assert found.tables > 1 and found.snapshots >= 1 and found.segments >= 1
