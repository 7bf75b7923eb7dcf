"""Where archives are read from: what is a place, and what is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.archive.sources import Source, place, source
from neumann.env.disk import RealDisk
from neumann.errors import BadInput, NeumannError, NotFound
from neumann.recovery.search import Query, search
from neumann.recovery.survey import survey

DISK = RealDisk()


def test_a_repository_is_a_wal_and_a_snapshot_directory(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    assert source(DISK, repo=str(tmp_path)) == Source("", f"{tmp_path}/snapshots")
    (tmp_path / "wal").mkdir()
    assert source(DISK, repo=f"{tmp_path}/") == Source(f"{tmp_path}/wal", f"{tmp_path}/snapshots")
    assert source(DISK, wal_dir=f"{tmp_path}/wal") == Source(f"{tmp_path}/wal", "")


def test_an_archive_without_a_segment_is_empty_and_no_failure(tmp_path: Path) -> None:
    """wal-list ended with a traceback where nothing but a history file was archived yet."""
    found = survey(DISK, source(DISK, wal_dir=str(tmp_path)), bodies=True)
    assert found.runs == ([], [], 0) and found.recoverable == {}
    wrong: list[NeumannError] = []
    assert list(search(found.catalog, Query(), wrong)) == [] and wrong == []


def test_what_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="name one source"):
        source(DISK)
    with pytest.raises(BadInput, match="name one source"):
        source(DISK, repo="/a", wal_dir="/b")
    with pytest.raises(BadInput, match="exclude each other"):
        source(DISK, repo=str(tmp_path), snapshot_dir=str(tmp_path))
    with pytest.raises(NotFound, match="neither wal/ nor snapshots/"):
        source(DISK, repo=str(tmp_path))
    with pytest.raises(NotFound):
        source(DISK, wal_dir=f"{tmp_path}/nothing")
    with pytest.raises(BadInput, match="is a file"):
        source(DISK, wal_dir=f"{tmp_path}/file")


@pytest.mark.parametrize(
    "name", ["ftp://host/wal", "s3://", "s3://a/wal", "S3://bucket/wal", "wal", "-x:wal"]
)
def test_what_is_no_place_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        source(DISK, wal_dir=name)
    assert "\n" not in str(refused.value) and name in str(refused.value)


def test_a_place_has_one_form() -> None:
    names = {
        "/a//b/": "/a/b",
        "backup:/a/b/": "backup:/a/b",
        "me@backup:": "me@backup:.",
        "backup:x": "backup:x",
    }
    names["s3://bucket/a/b/"] = "s3://bucket/a/b"
    assert {name: place(name, "--wal-dir") for name in names} == names
