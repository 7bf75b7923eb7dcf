"""The runbook's archive commands as they are typed, to where they are meant to go, and the way back.

A real server archives with cp, aws, rsync, scp and wal-push: to a directory, to a host that is reached by
an alias of the user's ssh configuration, and to an S3 server. What is there is listed, read whole and
replayed from there, snapshot included, after the node's disk is gone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import distant
from tests.procedures.cluster import BIN, Cluster, Member

ROWS = 30


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[distant.SshHost]:
    with distant.ssh_host(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture(scope="module")
def bucket() -> Iterator[distant.Store]:
    with distant.store() as found:
        yield found


# How it is archived, how published snapshots are copied, and to which kind of place.
COMMANDS = {
    "cp": ("cp %p {there}/wal/%f", "cp -a {snapshots} {there}/", "directory"),
    "rsync": ("rsync -e '{ssh}' %p {place}/wal/%f", "rsync -aH -e '{ssh}' {snapshots} {place}/", "host"),
    "scp": (
        "scp -q -F {config} %p {place}/wal/%f",
        "scp -qr -F {config} {snapshots}/[0-9]* {place}/snapshots/",
        "host",
    ),
    "aws": (
        "{aws} s3 cp --quiet %p {place}/wal/%f",
        "{aws} s3 cp --quiet --recursive {snapshots} {place}/snapshots",
        "store",
    ),
    "wal-push host": (
        "{bin}/neumann-admin wal-push %p {place}/wal",
        "rsync -aH -e '{ssh}' {snapshots} {place}/",
        "host",
    ),
    "wal-push store": (
        "{bin}/neumann-admin wal-push %p {place}/wal",
        "{aws} s3 cp --quiet --recursive {snapshots} {place}/snapshots",
        "store",
    ),
}


QUICK = ("aws", "wal-push host")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in COMMANDS]
)
def test_archived_and_brought_back(
    name: str,
    tmp_path: Path,
    host: distant.SshHost,
    bucket: distant.Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command, copy, kind = COMMANDS[name]
    for variable, value in {**host.environ, **bucket.environ}.items():
        monkeypatch.setenv(variable, value)
    there = tmp_path / "there"
    (there / "wal").mkdir(parents=True)
    if name == "scp":  # it copies no link
        (there / "snapshots").mkdir()
    places = {
        "directory": str(there),
        "host": f"{distant.ALIAS}:{there}",
        "store": f"s3://{distant.BUCKET}/{uuid.uuid4()}",
    }
    place = places[kind]
    words = {
        "there": there,
        "place": place,
        "config": host.config,
        "ssh": host.environ["NEUMANN_SSH"],
        "aws": shutil.which("aws") or "aws",
        "bin": BIN,
    }
    wal = {"archive_command": command.format(**words), "archive_timeout": 600}
    with Cluster(tmp_path, ids=("n1",), sections={"wal": wal, "backup": {"repo": place}}) as cluster:
        node = cluster["n1"]
        cluster.start("--bootstrap")
        for number in range(ROWS):
            assert node.request("PUT", f"/kv/t/{number}", number).status == 200
        assert node.request("POST", "/admin/snapshot").status == 200
        snapshots = node.data / "raft/snapshots"
        subprocess.run(["sh", "-c", copy.format(**words, snapshots=snapshots)], check=True)
        assert node.request("PUT", "/kv/t/last", "last").status == 200
        checked = json.loads(
            node.must_admin("archive-check", "--wal-dir", f"{place}/wal", "--format", "json")
        )
        assert checked["read_back"]["path"] == f"{place}/wal/{checked['file']}"
        look(node, place)
        node.kill()
        shutil.rmtree(node.data)
        node.data.mkdir()
        plan = json.loads(replay(node, "--dry-run"))
        done = json.loads(replay(node, "--yes"))
        assert done["restored"]["rows"] == ROWS + 1 and done["plan"]["cut"] == plan["plan"]["cut"]
        assert plan["plan"]["snapshot"]["kind"] == "snapshot"
        node.start()
        cluster.wait_serving()
        assert node.request("GET", "/kv/t/last").body == "last"
        # The restored cluster goes on in the same place.
        assert node.request("PUT", "/kv/t/new", 1).status == 200
        node.must_admin("archive-flush")
        listed = json.loads(node.must_admin("wal-list", "--format", "json"))
        assert listed["wrong"] == [] and listed["windows"][0]["last_index"] > 10**9


def replay(node: Member, flag: str) -> str:
    return node.must_admin("wal-replay", "--until", "latest", flag, "--format", "json", "--quiet")


def look(node: Member, place: str) -> None:
    """The verbs that read, by [backup] repo of the configuration and by name."""
    listed = json.loads(node.must_admin("wal-list", "--format", "json"))
    assert listed["wrong"] == [] and listed["restore_points"] and listed["windows"][0]["last_index"] > ROWS
    verified = json.loads(node.must_admin("wal-verify", "--repo", place, "--format", "json"))
    assert verified["checked_files"] >= 1 and verified["log"] == listed["log"]
    found = json.loads(node.must_admin("wal-search", "--key", "last", "--format", "json"))
    assert [entry["key"] for entry in found["entries"]] == ["last"]
    at = json.loads(node.must_admin("snapshot-list", "--dir", f"{place}/snapshots", "--format", "json"))
    assert at["snapshots"] and all(one["complete"] for one in at["snapshots"])
