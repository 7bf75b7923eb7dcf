"""Where archives are read from: what is a place, and what is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.archive.sources import Source, source
from neumann.env.disk import RealDisk
from neumann.errors import BadInput, NotFound

DISK = RealDisk()


def test_a_repository_is_a_wal_and_a_snapshot_directory(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    assert source(DISK, repo=str(tmp_path)) == Source("", f"{tmp_path}/snapshots")
    (tmp_path / "wal").mkdir()
    assert source(DISK, repo=f"{tmp_path}/") == Source(f"{tmp_path}/wal", f"{tmp_path}/snapshots")
    assert source(DISK, wal_dir=f"{tmp_path}/wal") == Source(f"{tmp_path}/wal", "")


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


@pytest.mark.parametrize("place", ["backup:/backups/neumann", "me@backup:wal", "s3://bucket/wal"])
def test_places_of_a_later_release_are_refused_in_one_line(place: str) -> None:
    with pytest.raises(BadInput, match="copy it to a directory first") as refused:
        source(DISK, wal_dir=place)
    assert "\n" not in str(refused.value) and place in str(refused.value)
