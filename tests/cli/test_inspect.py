"""`inspect` prints each of our files, and says what is wrong with a damaged one, whichever it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from neumann.format import journal
from tests.cli.conftest import Admin
from tests.corruption.directory import ARCHIVE, ROOT, kinds, load, make
from tests.corruption.every import KINDS
from tests.format.examples import JOURNAL

TOLD_AS = {
    "sealed segment": "segment",
    "sealed segment above the manifest": "segment",
    "open segment": "segment",
    "archived segment": "segment",
    "table": "table",
    "published table": "table",
    "manifest": "manifest",
    "older manifest": "manifest",
    "published manifest": "manifest",
    "vote": "vote",
    "sync mark": "sync mark",
    "identity": "identity",
    "restored": "restored",
    "history": "history",
    "own history": "history",
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each kind."""
    root = tmp_path_factory.mktemp("stopped")
    asyncio.run(make(root))
    return {
        kind: Path(path.replace(ROOT, str(root / "n1")).replace(ARCHIVE, str(root / "archive")))
        for kind, path in kinds(load(root)).items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_each_kind(admin: Admin, paths: dict[str, Path], kind: str) -> None:
    for words in ((), ("--entries",)):
        ended = admin("inspect", paths[kind], *words, "--format", "json")
        assert (ended.code, ended.json["kind"]) == (0, TOLD_AS[kind])
        assert len(admin("inspect", paths[kind], *words).out.splitlines()) > 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0, 3, 9, 20, 40])
def test_a_damaged_file_of_each_kind(
    admin: Admin, paths: dict[str, Path], tmp_path: Path, kind: str, offset: int
) -> None:
    """With damaged first bytes it was no file of neumann any more."""
    copy = tmp_path / paths[kind].name
    data = bytearray(paths[kind].read_bytes())
    data[offset] ^= 16
    copy.write_bytes(data)
    ended = admin("inspect", copy, "--entries")
    if TOLD_AS[kind] == "table" and offset < 8:
        assert ended.code == 0, "the rows are read by the footer; verify-checksums finds it"
        return
    assert ended.code == 5
    assert str(copy) in ended.err


def test_slots_are_told_one_by_one(admin: Admin, paths: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "vote"
    data = bytearray(paths["vote"].read_bytes())
    data[4096 + 100] = 1
    copy.write_bytes(data)
    ended = admin("inspect", copy, "--format", "json")
    assert ended.code == 5
    assert ended.json["term"] >= 1
    good, bad = ended.json["items"]
    assert good["sequence"] > 1
    assert (bad["slot"], bad["offset"]) == (1, 4096)


def test_blocks_of_a_table(admin: Admin, paths: dict[str, Path]) -> None:
    told = admin("inspect", paths["table"], "--format", "json").json
    assert sum(block["rows"] for block in told["items"]) == told["rows"]


def test_a_segment_in_another_s_place(admin: Admin, paths: dict[str, Path], tmp_path: Path) -> None:
    """Each frame is sound, and the header names another point than the first frame continues."""
    first = paths["sealed segment"].read_bytes()
    other = paths["sealed segment above the manifest"].read_bytes()
    (tmp_path / "mixed").write_bytes(first[:64] + other[64:])
    ended = admin("inspect", tmp_path / "mixed")
    assert ended.code == 5
    assert "does not continue" in ended.err


def test_a_swap_s_journal(admin: Admin, tmp_path: Path) -> None:
    (tmp_path / "restore.journal").write_bytes(journal.encode(JOURNAL))
    assert admin("inspect", tmp_path / "restore.journal", "--format", "json").json["purpose"] == "restore"
