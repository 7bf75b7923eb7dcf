"""Restores that fetch many files of a distant archive at once: the same result, and the same refusals."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.env.places import Places
from neumann.errors import ArchiveGap, Corrupt, InUse, RefusedByState
from neumann.recovery.prepare import Request, plan_restore
from neumann.recovery.restore import Report, restore
from neumann.recovery.targets import parse_target
from tests import distant
from tests.recovery.world import Cluster, make_env, rows_in


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """About thirty archived segments."""
    made = Cluster.fresh(RealDisk(), str(tmp_path_factory.mktemp("jobs")), 3)
    for _ in range(30):
        made.work(5)
        made.seal()
    return made


@pytest.fixture(params=["host", "bucket"])
def place(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, str]:
    """A copy of the archive on this disk, and the name under which it lies elsewhere. It is uploaded when
    `upload` is called with it."""
    found = request.getfixturevalue(request.param)
    for name, value in found.environ.items():
        monkeypatch.setenv(name, value)
    copy = Path(shutil.copytree(cluster.archive, tmp_path / "archive"))
    name = f"{distant.ALIAS}:{copy}" if request.param == "host" else f"s3://{distant.BUCKET}/{tmp_path.name}"
    return copy, name


def upload(place: tuple[Path, str]) -> None:
    copy, name = place
    if name.startswith("s3://"):
        subprocess.run(["aws", "s3", "cp", "--quiet", "--recursive", str(copy), name], check=True)


def run(source: str, target: Path, jobs: int, index: int) -> None:
    """One restore."""
    request = Request(
        parse_target(None, index, None, False), str(target), "n1", "h1:7878", wal_dir=source, jobs=jobs
    )
    env = make_env()
    assert isinstance(env.places, Places)
    try:
        asyncio.run(restore(env, plan_restore(env, request)))
    finally:
        env.places.close()


def test_many_jobs_reach_what_one_does(place: tuple[Path, str], cluster: Cluster, tmp_path: Path) -> None:
    upload(place)
    for index in (cluster.frames[-1].last, cluster.frames[len(cluster.frames) // 2].last):
        for jobs in (1, 5):
            target = tmp_path / f"{index}-{jobs}"
            run(place[1], target, jobs, index)
            assert rows_in(RealDisk(), str(target)) == cluster.rows_at(index)


def test_a_missing_and_a_damaged_file_are_told_apart(
    place: tuple[Path, str], cluster: Cluster, tmp_path: Path
) -> None:
    segments = sorted(place[0].glob("*.wal"))
    content = bytearray(segments[10].read_bytes())
    content[len(content) // 2] ^= 1
    segments[10].write_bytes(content)
    upload(place)
    index = cluster.frames[-1].last
    with pytest.raises(Corrupt, match=segments[10].name):
        run(place[1], tmp_path / "damaged", 5, index)
    segments[10].unlink()
    if place[1].startswith("s3://"):
        subprocess.run(["aws", "s3", "rm", "--quiet", f"{place[1]}/{segments[10].name}"], check=True)
    with pytest.raises(ArchiveGap):
        run(place[1], tmp_path / "gap", 5, index)
    assert not (tmp_path / "damaged").exists() and not (tmp_path / "gap").exists()


def test_however_a_restore_ends_its_threads_do(cluster: Cluster, tmp_path: Path) -> None:
    """Those that fetched for the plan stayed, with their connections, where it was not carried out."""

    def fetching() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("fetch")]

    def ask(target: Path, to: str = "") -> Report:
        env = make_env()
        wanted = parse_target(None, cluster.frames[-1].last, None, False)
        request = Request(
            wanted, str(target), "n1", "h1:7878", wal_dir=cluster.archive, jobs=4, index_jump=1, to=to
        )
        planned = plan_restore(env, request)
        assert fetching(), "they are there while it is not known what becomes of the plan"
        return asyncio.run(restore(env, planned))

    target = tmp_path / "target"
    assert not ask(target).already and not fetching()
    assert ask(target).already and not fetching()
    release = RealDisk().lock(f"{target}/lock")
    with pytest.raises(InUse):
        ask(target)
    release()
    assert not fetching()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(RefusedByState):
        ask(target, str(tmp_path / "other"))
    assert not fetching()
