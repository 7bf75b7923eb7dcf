"""A cluster under load goes over, node by node, to a release with a higher feature level; nobody goes back.

Both releases are wheels, built from this tree; the later one differs in its version and in FEATURE_LEVEL.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from neumann.format.limits import FEATURE_LEVEL
from tests.procedures.cluster import Cluster, Member
from tests.procedures.disks import compare_disks
from tests.procedures.test_cluster import Writer, scan

ROOT = Path(__file__).resolve().parent.parent.parent
NEXT = FEATURE_LEVEL + 1
WRITERS = 3
_SERVER = "import sys; from neumann.cli.server import main; sys.exit(main())"


class Release(NamedTuple):
    """An installed wheel, and how its server is started."""

    version: str
    launcher: tuple[str, ...]


def build(root: Path, version: str, level: int) -> Release:
    """Build a wheel of this tree with that version and feature level, and install it below `root`."""
    source, installed = root / "source", root / "installed"
    shutil.copytree(ROOT / "neumann", source / "neumann", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    change(source / "neumann/__init__.py", r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"')
    change(source / "neumann/format/limits.py", r"(?m)^FEATURE_LEVEL = \d+$", f"FEATURE_LEVEL = {level}")
    run(["-m", "build", "--wheel", "--outdir", root, source])
    (wheel,) = root.glob("*.whl")
    assert version in wheel.name
    run(["-m", "pip", "install", "--quiet", "--no-deps", "--target", installed, wheel])
    return Release(version, ("env", f"PYTHONPATH={installed}", sys.executable, "-P", "-c", _SERVER))


def change(path: Path, pattern: str, text: str) -> None:
    changed, count = re.subn(pattern, text, path.read_text())
    assert count == 1, f"{path}: {pattern}"
    path.write_text(changed)


def run(words: list[str | Path]) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Release]:
    """This one and the next one."""
    root = tmp_path_factory.mktemp("releases")
    return build(root / "old", "90.1", FEATURE_LEVEL), build(root / "new", "90.2", NEXT)


@pytest.fixture
def cluster(tmp_path: Path, releases: tuple[Release, Release]) -> Iterator[Cluster]:
    with Cluster(tmp_path, sections={"snapshot": {"interval_entries": 60}}) as running:
        running.start("--bootstrap", launcher=releases[0].launcher)
        running.wait_voters(3)
        yield running


def metric(member: Member, pattern: str) -> str:
    """What the one group of the pattern holds, in the one line of /metrics that it matches."""
    (found,) = re.findall(f"^{pattern}", member.request("GET", "/metrics").body, re.MULTILINE)
    return str(found)


def level_of(member: Member) -> int:
    """What its newest marker says."""
    return int(metric(member, r"neumann_feature_level (\d+)\.0"))


def version_of(member: Member) -> str:
    return metric(member, r'neumann_build_info{version="(.*)"}')


def snapshot_index(cluster: Cluster) -> int:
    """Of the newest one that a member made."""
    return max(int(metric(member, r"neumann_snapshot_last_index (\d+)\.0")) for member in cluster.members)


@pytest.mark.slow
def test_upgrade_node_by_node_under_load(cluster: Cluster, releases: tuple[Release, Release]) -> None:
    old, new = releases
    writers = [Writer(f"w{number}", cluster.members) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for number, member in enumerate(cluster.members, 1):
        assert version_of(member) == old.version
        member.stop()
        member.start("--bootstrap", launcher=new.launcher)
        cluster.wait_serving()
        assert version_of(member) == new.version
        markers = snapshot_index(cluster)
        cluster.wait_for(lambda _, seen=markers: snapshot_index(cluster) > seen, "a marker")  # type: ignore[misc]
        if number < len(cluster.members):
            assert [level_of(one) for one in cluster.members] == [FEATURE_LEVEL] * 3, "not all know it yet"
    cluster.wait_for(lambda _: [level_of(one) for one in cluster.members] == [NEXT] * 3, f"level {NEXT}")
    for writer in writers:
        writer.ending.set()
        writer.join()
    acknowledged = {key: index for writer in writers for key, index in writer.acknowledged.items()}
    assert len(acknowledged) > 100
    for member in cluster.members:
        found = {row["key"]: row["revision"] for row in scan(member, "load")}
        assert acknowledged.items() <= found.items()
    compare_disks(cluster)
    refuses_to_go_back(cluster, old, new)


def refuses_to_go_back(cluster: Cluster, old: Release, new: Release) -> None:
    """The earlier release reads nothing of the later level, says so, and leaves the disk as it is."""
    member = next(one for one in cluster.members if one is not cluster.leader())
    member.stop()
    before = sorted(path.name for path in (member.data / "store").iterdir())
    member.start("--bootstrap", launcher=old.launcher)
    refusal = f"feature level {NEXT}; this release knows levels up to {FEATURE_LEVEL}"
    deadline = time.monotonic() + 30
    while refusal not in member.log.read_text():
        assert time.monotonic() < deadline, member.log.read_text()
        time.sleep(0.1)
    said = member.log.read_text()
    assert f"use the release that the cluster went over to level {NEXT} with" in said
    assert not member.serves()
    member.stop()
    assert sorted(path.name for path in (member.data / "store").iterdir()) == before
    member.start("--bootstrap", launcher=new.launcher)
    cluster.wait_serving()
    compare_disks(cluster)
