"""docs/runbook.md, Retention: the block as it is printed, on a repository that is old enough to lose some.

The repository is written by tests/recovery/world.py, with a clock of its choosing; what deletes, and what
restores afterwards, are bash and neumann-admin.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.format import names
from tests.procedures.cluster import BIN, Ended, must, run
from tests.procedures.pages import blocks
from tests.procedures.test_runbook_page import PAGE, Site
from tests.recovery.world import SECOND, Cluster, rows_in

HOUR, DAY = 3600 * SECOND, 86400 * SECOND


class Repository:
    """`backup` of the page, with snapshots and log of any age: a put and a seal before each snapshot."""

    def __init__(self, root: Path) -> None:
        self.site = Site(root / "site")
        self.path = self.site.repository
        self.path.mkdir(parents=True)
        self.now_ns = time.time_ns()
        self.cluster = Cluster.fresh(RealDisk(), str(root), 7, archive=str(self.path / "wal"))

    def snapshot(self, age_ns: int) -> None:
        """Some log up to that age, then a snapshot at it, copied as rsync would."""
        self.cluster.wall_ns = self.now_ns - age_ns
        self.cluster.put(f"k{age_ns}", age_ns)
        self.cluster.seal()
        self.cluster.put("last", age_ns)
        self.cluster.snapshot(backup=str(self.path / "snapshots"))

    def seal(self, age_ns: int) -> None:
        """Log up to that age, archived."""
        self.cluster.wall_ns = self.now_ns - age_ns
        self.cluster.seal()

    def retention(self) -> Ended:
        """The block of the page, in a shell of its own."""
        block = next(b for b in blocks(PAGE) if b.section == "Retention")
        assert block.machines == ("backup",)
        return run(["bash", "-c", self.site.adapted(block.text, "backup")], {"PATH": f"{BIN}:/usr/bin:/bin"})

    def files(self) -> set[str]:
        return {str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()}

    def restored(self, target: str, into: Path) -> dict[tuple[str, str], tuple[bytes, int]]:
        """The rows of a real restore from what is left."""
        shutil.rmtree(into, ignore_errors=True)
        words = ["wal-replay", "--repo", self.path, "--until", target, "--as-new-cluster"]
        must([BIN / "neumann-admin", *words, "--data-dir", into, "--node-id", "drill"])
        return rows_in(RealDisk(), str(into))


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    made = Repository(tmp_path)
    yield made
    made.site.close()


def moment(time_ns: int) -> str:
    """To the whole second, as a person types it; the second that holds it is over by then."""
    return datetime.fromtimestamp(time_ns // SECOND, UTC).isoformat()


def test_it_deletes_by_time_and_every_moment_that_is_kept_can_be_restored(
    repository: Repository, tmp_path: Path
) -> None:
    """Bug: the newest 30 snapshots were kept, of which a node makes one an hour: 30 hours were left of a
    promise of 30 days, and the log before them was gone."""
    for day in range(40, 29, -1):
        repository.snapshot(day * DAY + HOUR)  # eleven are too old: of these the newest stays
    for hour in range(35, 0, -1):
        repository.snapshot(hour * HOUR)
    before = repository.files()
    ended = repository.retention()
    assert ended.code == 0, ended.out + ended.err
    gone = before - repository.files()
    assert repository.files() < before
    points = [names.parse_snapshot(path.split("/")[1]) for path in gone if path.endswith("/manifest")]
    assert len(points) == 10
    logs = [path for path in gone if path.startswith("wal/")]
    assert len(logs) >= 20  # two segments to each snapshot that went, and one before the one that stays

    cluster, now_ns = repository.cluster, repository.now_ns
    for age_ns in (30 * DAY, 35 * HOUR, 34 * HOUR + HOUR // 2, HOUR // 2 + HOUR):
        rows = repository.restored(moment(now_ns - age_ns), tmp_path / "drill")
        assert rows == cluster.rows_at(cluster.index_at((now_ns - age_ns) // SECOND * SECOND))
    assert repository.restored("latest", tmp_path / "drill") == cluster.rows
    again = repository.files()
    assert repository.retention().code == 0
    assert repository.files() == again
    assert sorted(p.name for p in repository.path.iterdir()) == ["snapshots", "wal"]


def test_forty_young_snapshots_and_the_log_before_them_stay(repository: Repository) -> None:
    """Bug: as above; and the log before the first snapshot counts too, it leads there from the beginning."""
    for hour in range(40, 0, -1):
        repository.snapshot(hour * HOUR)
    before = repository.files()
    assert repository.retention().code == 0
    assert repository.files() == before


def test_a_quiet_cluster_keeps_its_newest_thirty(repository: Repository) -> None:
    for day in range(77, 44, -1):
        repository.snapshot(day * DAY)
    repository.seal(0)
    before = repository.files()
    ended = repository.retention()
    assert ended.code == 0, ended.out + ended.err
    gone = before - repository.files()
    assert len([path for path in gone if path.endswith("/manifest")]) == 2  # of 33; the 31st begins the log


@pytest.mark.parametrize("missing", ["behind the oldest", "behind the newest"])
def test_nothing_is_deleted_where_the_rest_would_not_restore(repository: Repository, missing: str) -> None:
    """Bug: the proof came after the deletion, and looked at the newest moment only."""
    for day in range(33, 30, -1):
        repository.snapshot(day * DAY)
    for hour in range(35, 0, -1):
        repository.snapshot(hour * HOUR)
    repository.seal(HOUR // 2)
    repository.seal(0)
    segments = sorted((repository.path / "wal").glob("*.wal"))
    segments[6 if missing == "behind the oldest" else -2].unlink()
    before = repository.files()
    ended = repository.retention()
    assert ended.code == 4, ended.out + ended.err
    assert before < repository.files()  # and what was tried is there to be looked at
