"""The verbs that work on files: what they read, what they refuse, and what they change."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.format.ids import VOTER
from neumann.format.ids import Member as IdsMember
from neumann.format.names import Paths
from neumann.store.manifests import load_newest, write_manifest
from tests.cli.conftest import Admin, files, find, flip

# --- inspect ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        ("raft/identity", "identity"),
        ("raft/vote", "vote"),
        ("raft/sync-mark", "sync mark"),
        ("raft/wal/*.wal", "segment"),
        ("store/*.manifest", "manifest"),
        ("store/*.table", "table"),
        ("raft/snapshots/latest/manifest", "manifest"),
    ],
)
def test_every_kind_of_file_can_be_looked_into(admin: Admin, data: Path, pattern: str, kind: str) -> None:
    path = find(data, pattern)
    told = admin("inspect", path, "--entries", "--format", "json")
    assert told.code == 0
    assert told.json["kind"] == kind
    assert admin("inspect", path).out.startswith(kind + "\n")


def test_history_files_can_be_looked_into(admin: Admin, archive: Path) -> None:
    assert admin("inspect", find(archive, "*.history"), "--format", "json").json["kind"] == "history"


def test_entries_of_a_segment(admin: Admin, data: Path) -> None:
    path = find(data, "raft/wal/*.wal")
    items = admin("inspect", path, "--entries", "--format", "json").json["items"]
    put = next(item for item in items if item["op"] == "put")
    assert (put["table"], put["key"], put["value_bytes"]) == ("t", "k0", 1)
    assert [item["index"] for item in items] == list(range(1, len(items) + 1))
    assert len(admin("inspect", path, "--limit", "2", "--format", "json").json["items"]) == 2


def test_rows_of_a_table(admin: Admin, data: Path) -> None:
    items = admin("inspect", find(data, "store/*.table"), "--entries", "--format", "json").json["items"]
    assert {(item["table"], item["value_bytes"]) for item in items} == {("t", 1)}


def test_damage_ends_an_inspection(admin: Admin, data: Path) -> None:
    path = find(data, "raft/wal/*.wal")
    flip(path, 200)
    assert admin("inspect", path).code == 5


def test_what_is_no_file_of_ours(admin: Admin, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    assert admin("inspect", tmp_path / "x").code == 2
    assert admin("inspect", tmp_path / "y").code == 10
    (tmp_path / "empty").write_bytes(b"")
    assert admin("inspect", tmp_path / "empty").code == 2


# --- wal-list -----------------------------------------------------------------------------------------


def test_wal_list_names_a_gap(admin: Admin, archive: Path) -> None:
    whole = admin("wal-list", "--wal-dir", archive, "--format", "json").json
    assert (len(whole["windows"]), whole["wrong"]) == (1, [])
    sorted(archive.glob("*.wal"))[1].unlink()
    holed = admin("wal-list", "--wal-dir", archive, "--format", "json").json
    assert len(holed["log"]) == 2 and len(holed["windows"]) == 1
    assert "missing from the archive" in holed["wrong"][0]
    assert "WRONG" in admin("wal-list", "--wal-dir", archive).out


def test_wal_list_of_a_repository(admin: Admin, archive: Path, tmp_path: Path) -> None:
    archive.rename(tmp_path / "wal")
    assert admin("wal-list", "--repo", tmp_path).code == 0
    assert admin("wal-list", "--repo", tmp_path / "nowhere").code == 10


# --- wal-replay, init-cluster, rejoin -----------------------------------------------------------------


def replay(admin: Admin, archive: Path, target: Path, *words: object) -> object:
    """A restore into a directory; what it says as JSON."""
    ended = admin(
        "wal-replay",
        "--wal-dir",
        archive,
        "--data-dir",
        target,
        "--node-id",
        "n1",
        *words,
        "--format",
        "json",
    )
    assert ended.code == 0, ended.err
    return ended.json


def test_a_restore_to_a_point_and_again(admin: Admin, archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "restored"
    words = ("wal-replay", "--wal-dir", archive, "--until-name", "half")
    place = ("--data-dir", target, "--node-id", "n1")
    plan = admin(*words, "--dry-run")
    assert plan.code == 0
    assert plan.out.splitlines()[0].startswith("snapshot ")
    assert not target.exists()
    done = admin(*words, *place, "--format", "json").json["restored"]
    assert (done["rows"], done["already"], done["aside"]) == (5, False, "")
    assert admin("verify-checksums", "--data-dir", target).code == 0
    again = admin(*words, *place)
    assert again.out.startswith("already restored")
    assert admin("aside-list", "--data-dir", target).out == "nothing is set aside\n"


def test_a_restore_sets_aside_what_was_there(admin: Admin, archive: Path, data: Path) -> None:
    before = files(data / "raft")
    done = admin(
        "wal-replay",
        "--wal-dir",
        archive,
        "--data-dir",
        data,
        "--until",
        "latest",
        "--yes",
        "--format",
        "json",
    ).json["restored"]
    assert done["rows"] == 10
    listed = admin("aside-list", "--data-dir", data, "--format", "json").json["aside"]
    assert [one["id"] for one in listed] == [done["aside"]]
    assert files(Path(listed[0]["path"]) / "raft") == before
    assert admin("aside-return", done["aside"], "--data-dir", data).code == 2  # nobody says yes
    returned = admin("aside-return", done["aside"], "--data-dir", data, "--yes", "--format", "json").json
    assert files(data / "raft") == before
    assert admin("aside-delete", "another", "--data-dir", data, "--yes").code == 10
    assert admin("aside-delete", returned["aside"], "--data-dir", data, "--yes").code == 0
    assert admin("aside-list", "--data-dir", data).out == "nothing is set aside\n"


def test_a_new_cluster_is_announced_as_one(admin: Admin, archive: Path, tmp_path: Path) -> None:
    """The plan said `becomes timeline 2`, the report that others join it: neither, that it is another one."""
    target = tmp_path / "drill"
    words = ("wal-replay", "--wal-dir", archive, "--until", "latest", "--as-new-cluster")
    place = ("--data-dir", target, "--node-id", "drill")
    plan = admin(*words, *place, "--dry-run")
    assert "becomes    a new cluster, timeline 1, sole voter drill" in plan.out.splitlines()
    old = admin(*words, *place, "--dry-run", "--format", "json").json["plan"]["cluster_id"]
    told = {line[:10].rstrip(): line[11:] for line in admin(*words, *place).out.splitlines()}
    assert re.match("cluster [0-9a-f]{32}, timeline 1-", told["is now"]) and old not in told["is now"]
    assert "archive-check --begin" in told["next"] and "join" not in told["next"]


@pytest.mark.parametrize(
    ("until", "code"), [("2124-01-15T10:30:00Z", 3), ("2024-01-15T10:30:00Z", 3), ("2024-01-15T10:30:00", 2)]
)
def test_targets_that_are_not_in_the_archive(
    admin: Admin, archive: Path, tmp_path: Path, until: str, code: int
) -> None:
    target = tmp_path / "restored"
    words = ("wal-replay", "--wal-dir", archive, "--until", until, "--data-dir", target, "--node-id", "n1")
    for flags in ((), ("--dry-run",)):
        ended = admin(*words, *flags)
        assert ended.code == code, ended.out
        assert ended.err.count("\n") == 1
        assert not target.exists()


def test_a_gap_and_damage_are_told_apart(admin: Admin, archive: Path, tmp_path: Path) -> None:
    words = ("wal-replay", "--wal-dir", archive, "--until", "latest", "--dry-run")
    second = sorted(archive.glob("*.wal"))[1]
    content = second.read_bytes()
    second.unlink()
    assert admin(*words).code == 4
    second.write_bytes(content)
    flip(second, 100)
    assert admin(*words).code == 5


def test_init_cluster_adopts_what_a_backup_left(admin: Admin, data: Path) -> None:
    shutil.rmtree(data / "raft/wal")
    for name in ("vote", "identity", "sync-mark"):
        (data / "raft" / name).unlink()
    words = ("init-cluster", "--bootstrap", "--data-dir", data, "--node-id", "n1")
    adopted = admin(*words)
    assert adopted.code == 0, adopted.err
    assert adopted.out.startswith("adopted snapshot ")
    assert "neumann-admin cluster-status" in adopted.out
    assert admin("verify-checksums", "--data-dir", data).code == 0
    assert admin(*words).out.startswith("already initialised")


def test_init_cluster_on_nothing_says_so_loudly(admin: Admin, tmp_path: Path) -> None:
    words = ("init-cluster", "--bootstrap", "--data-dir", tmp_path / "new", "--node-id", "n1")
    assert "NEW, EMPTY" in admin(*words).out


def test_init_cluster_needs_a_person_s_word(admin: Admin, tmp_path: Path) -> None:
    words = ("init-cluster", "--data-dir", tmp_path / "new", "--node-id", "n1")
    assert admin(*words).code == 2
    assert not (tmp_path / "new").exists()


def test_init_cluster_refuses_what_is_not_ours(admin: Admin, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert admin("init-cluster", "--bootstrap", "--data-dir", tmp_path, "--node-id", "n1").code == 9
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def make_one_of_two(data: Path) -> None:
    """Its newest manifest names another voter too; that one answers nobody."""
    manifest = load_newest(RealDisk(), Paths(str(data)).store)
    assert manifest is not None
    other = IdsMember("n2", b"2" * 16, "127.0.0.1:1", VOTER)
    configuration = manifest.configuration.with_member(other)
    write_manifest(RealDisk(), Paths(str(data)).store, manifest._replace(configuration=configuration))


def test_rejoin_sets_the_state_aside(admin: Admin, data: Path) -> None:
    unsure = admin("rejoin", "--data-dir", data)
    assert unsure.code == 2
    assert "--yes" in unsure.err
    assert (data / "raft/vote").exists()
    alone = admin("rejoin", "--data-dir", data, "--yes")
    assert alone.code == 9 and "only voter" in alone.err
    assert (data / "raft/vote").exists()
    make_one_of_two(data)
    ended = admin("rejoin", "--data-dir", data, "--yes", "--format", "json")
    assert ended.code == 0 and ended.json["bytes"] > 0
    assert not (data / "raft").exists()
    assert (Path(ended.json["path"]) / "raft/vote").exists()
    assert admin("rejoin", "--data-dir", data, "--yes").code == 10


def test_json_of_a_plan(admin: Admin, archive: Path) -> None:
    ended = admin("wal-replay", "--wal-dir", archive, "--until-index", "3", "--dry-run", "--format", "json")
    plan = json.loads(ended.out)["plan"]
    assert plan["cut"]["index"] == 3
    assert plan["taken"]["index"] == 3
    assert plan["not_taken"]["index"] == 4
