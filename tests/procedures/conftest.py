"""A cluster that archives, for the procedures that need no other one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.procedures.cluster import Cluster


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Where it archives to."""
    directory = tmp_path / "archive"
    directory.mkdir()
    return directory


@pytest.fixture
def cluster(tmp_path: Path, archive: Path) -> Iterator[Cluster]:
    """Three voters with five rows, all of it archived, and no idle seals in the test's time."""
    wal = {"archive_command": f"cp %p {archive}/%f", "archive_timeout": 3600}
    with Cluster(tmp_path / "cluster", sections={"wal": wal}) as made:
        made.start("--bootstrap")
        made.wait_voters(3)
        for number in range(5):
            assert made["n1"].request("PUT", f"/kv/t/k{number}", number).status == 200
        made["n1"].must_admin("archive-flush")
        yield made
