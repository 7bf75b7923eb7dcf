"""Files that are fetched ahead: in order, at most so many, and each failure with the file that it is of."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from neumann.env import ahead as ahead_module
from neumann.env.ahead import Ahead
from neumann.env.disk import RealDisk
from neumann.env.doors import File


class SlowDisk(RealDisk):
    """A disk whose opens take a while; it counts them, and how many were under way at once."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.at_once = self.most_at_once = 0
        self._mutex = threading.Lock()

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        with self._mutex:
            self.opened.append(path)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.02)
        with self._mutex:
            self.at_once -= 1
        return super().open(path, write=write, create=create)


@pytest.fixture
def wanted(tmp_path: Path) -> list[tuple[str, int]]:
    """Ten files, whose bytes tell them apart."""
    paths = [tmp_path / f"{number}" for number in range(10)]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    return [(str(path), 100) for path in paths]


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_each_file_comes_when_it_is_asked_for(wanted: list[tuple[str, int]], jobs: int) -> None:
    disk = SlowDisk()
    fetching = Ahead(disk, jobs)
    fetching.announce(wanted)
    for path, _ in wanted:
        assert fetching.read(path) == Path(path).read_bytes()
    fetching.close()
    assert sorted(disk.opened) == sorted(path for path, _ in wanted)
    assert disk.most_at_once == jobs


def test_no_more_is_fetched_than_may_be_held(wanted: list[tuple[str, int]]) -> None:
    disk = SlowDisk()
    fetching = Ahead(disk, 3)
    fetching.announce(wanted)
    fetching.read(wanted[0][0])
    time.sleep(0.2)
    assert len(disk.opened) == 4
    fetching.close()
    assert len(disk.opened) == 4


def test_large_files_are_held_one_at_a_time(
    wanted: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead_module, "BYTES_MAX", 150)
    disk = SlowDisk()
    fetching = Ahead(disk, 4)
    fetching.announce(wanted)
    time.sleep(0.1)
    assert disk.opened == [wanted[0][0]]
    assert [fetching.read(path)[:1] for path, _ in wanted] == [b"%d" % number for number in range(10)]
    assert disk.most_at_once == 1
    fetching.close()


def test_a_failure_comes_with_its_file(wanted: list[tuple[str, int]]) -> None:
    Path(wanted[1][0]).unlink()
    fetching = Ahead(RealDisk(), 4)
    fetching.announce(wanted)
    assert fetching.read(wanted[0][0])
    with pytest.raises(FileNotFoundError):
        fetching.read(wanted[1][0])
    assert fetching.read(wanted[2][0])
    fetching.close()


def test_what_is_passed_over_or_was_not_announced(wanted: list[tuple[str, int]], tmp_path: Path) -> None:
    fetching = Ahead(RealDisk(), 2)
    (tmp_path / "other").write_bytes(b"other")
    fetching.announce(wanted)
    assert fetching.read(wanted[7][0]) == b"7" * 100
    assert fetching.read(str(tmp_path / "other")) == b"other"
    assert fetching.read(wanted[0][0]) == b"0" * 100
    assert fetching.read(wanted[8][0]) == b"8" * 100
    fetching.announce(wanted[:2])
    assert fetching.read(wanted[1][0]) == b"1" * 100
    fetching.close()
    fetching.announce(wanted)
    assert fetching.read(wanted[0][0]) == b"0" * 100
    fetching.close()


def test_small_work_keeps_its_order_and_its_failures(wanted: list[tuple[str, int]]) -> None:
    disk = SlowDisk()
    fetching = Ahead(disk, 4)
    paths = [path for path, _ in wanted]
    assert list(fetching.each(lambda files, path: files.open(path).size(), paths)) == [100] * 10
    assert disk.most_at_once == 4
    results = fetching.each(lambda files, path: files.open(path).size(), [paths[0], "/nowhere", paths[1]])
    assert next(results) == 100
    with pytest.raises(FileNotFoundError):
        next(results)
    fetching.close()
