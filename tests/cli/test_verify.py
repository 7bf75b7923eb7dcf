"""verify-checksums: what it reads and what it does not, what it compares, what it names and how it exits.

Directories that a real server left, damaged one way or another; and real servers that are asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neumann.env.disk import RealDisk
from neumann.format.names import Paths
from neumann.store.manifests import load_newest, write_manifest
from tests.cli.conftest import Admin, Server, files, find, flip


def test_sound_files_verify(admin: Admin, data: Path) -> None:
    ended = admin("verify-checksums", "--data-dir", data, "--format", "json")
    assert ended.code == 0
    report = ended.json
    assert report["damage"] == []
    assert report["scope"]["state"]["files"] == 4  # identity, vote, sync mark, the history that was archived
    assert report["scope"]["log"]["files"] == len(list((data / "raft/wal").glob("*.wal")))
    assert report["scope"]["log"]["entries"] > 10
    assert report["scope"]["snapshots"]["files"] >= 2


@pytest.mark.parametrize(
    ("pattern", "offset"),
    [
        ("raft/identity", 20),
        ("raft/vote", 20),
        ("raft/vote", 4096 + 20),
        ("raft/sync-mark", 4096 + 20),
        ("raft/wal/*.wal", 30),
        ("raft/wal/*.wal", 90),
        ("raft/wal/*.wal", 200),
        ("store/*.manifest", 30),
        ("store/*.table", 30),
        ("raft/snapshots/*-*/manifest", 30),
        ("raft/snapshots/*-*/*.table", 30),
    ],
)
def test_one_flipped_bit_is_found(admin: Admin, data: Path, pattern: str, offset: int) -> None:
    path = find(data, pattern)
    flip(path, offset)
    before = files(data)
    ended = admin("verify-checksums", "--data-dir", data, "--format", "json")
    assert ended.code == 5
    named = {damage["path"] for damage in ended.json["damage"]}
    assert named & {str(path), str(path.parent)}
    assert all(damage["remedy"] for damage in ended.json["damage"])
    assert "DAMAGE" in admin("verify-checksums", "--data-dir", data).out
    assert files(data) == before


@pytest.mark.parametrize(
    "pattern",
    [
        "raft/identity",
        "raft/sync-mark",
        "raft/*.history",
        "raft/wal/*.wal",
        "store/*.manifest",
        "store/*.table",
        "raft/snapshots/*-*/manifest",
    ],
)
def test_a_fifo_in_place_of_a_file_is_not_waited_for(admin: Admin, data: Path, pattern: str) -> None:
    """Who opens a FIFO waits for somebody who feeds it: verify-checksums waited for ever."""
    path = find(data, pattern)
    path.unlink()
    os.mkfifo(path)
    ended = admin("verify-checksums", "--data-dir", data, "--format", "json")
    assert ended.code == 5
    assert any(f"{path}: is a FIFO, and no file" in one["message"] for one in ended.json["damage"])


def test_damage_in_the_log_names_offset_and_entries(admin: Admin, data: Path) -> None:
    path = find(data, "raft/wal/*.wal")
    flip(path, path.stat().st_size - 1)
    damage = admin("verify-checksums", "--data-dir", data, "--format", "json").json["damage"]
    assert damage[0]["path"] == str(path)
    assert damage[0]["offset"] > 64
    assert damage[0]["first_index"] > 1


def test_missing_and_short_files_are_found(admin: Admin, data: Path) -> None:
    segments = sorted((data / "raft/wal").glob("*.wal"))
    segments[1].unlink()
    damage = admin("verify-checksums", "--data-dir", data, "--format", "json").json["damage"]
    assert [one["path"] for one in damage] == [str(segments[2])]
    assert "continues entry" in damage[0]["message"]
    segments[2].write_bytes(segments[2].read_bytes()[:-10])
    assert admin("verify-checksums", "--data-dir", data).code == 5


def test_a_log_that_ends_below_the_sync_mark_is_damage(admin: Admin, data: Path) -> None:
    """The open segment just missing looks like a shorter log, which no checksum tells."""
    sorted((data / "raft/wal").glob("*.wal"))[-1].unlink()
    ended = admin("verify-checksums", "--data-dir", data)
    assert ended.code == 5
    assert "the sync mark says" in ended.out


def test_a_table_that_is_missing(admin: Admin, data: Path) -> None:
    find(data, "store/*.table").unlink()
    ended = admin("verify-checksums", "--data-dir", data)
    assert ended.code == 5
    assert "is missing" in ended.out


def test_a_snapshot_somewhere_else(admin: Admin, data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree((data / "raft/snapshots/latest").resolve(), tmp_path / "copy"))
    assert admin("verify-checksums", "--snapshot", copy).code == 0
    flip(find(copy, "*.table"), 30)
    assert admin("verify-checksums", "--snapshot", copy).code == 5
    assert admin("verify-checksums", "--snapshot", tmp_path / "nowhere").code == 10


def test_a_directory_without_state(admin: Admin, tmp_path: Path) -> None:
    assert admin("verify-checksums", "--data-dir", tmp_path).code == 10
    assert admin("verify-checksums", "--data-dir", tmp_path / "nowhere").code == 10


def test_what_is_not_read_is_said(admin: Admin, data: Path) -> None:
    (data / "aside/2024-01-15T103000Z").mkdir(parents=True)
    (data / "store/notes.txt").write_text("not ours")
    unread = admin("verify-checksums", "--data-dir", data, "--format", "json").json["not_read"]
    assert [line.split(":")[0] for line in unread] == [f"{data}/aside", f"{data}/store/notes.txt"]
    assert "not read  " in admin("verify-checksums", "--data-dir", data).out


# --- --content and --against --------------------------------------------------------------------------


@pytest.fixture
def kept(admin: Admin, data: Path, tmp_path: Path) -> Callable[..., Path]:
    """`kept("latest")`: what verify-checksums --content prints of a published snapshot, in a file."""

    def keep(snapshot: str) -> Path:
        ended = admin(
            "verify-checksums",
            *("--snapshot", data / "raft/snapshots" / snapshot, "--content", "--format", "json"),
        )
        path = tmp_path / f"{snapshot}.json"
        path.write_text(ended.out)
        return path

    return keep


def older(data: Path) -> str:
    """The id of a snapshot that is not the newest."""
    latest = (data / "raft/snapshots/latest").resolve().name
    return next(
        path.name for path in sorted((data / "raft/snapshots").glob("[0-9]*-*")) if path.name != latest
    )


def drop_a_table(data: Path) -> None:
    """Every byte stays as its checksum says, but the newest snapshot has lost its newest table."""
    store = Paths(str(data)).store
    manifest = load_newest(RealDisk(), store)
    assert manifest is not None
    write_manifest(RealDisk(), store, manifest._replace(tables=manifest.tables[1:]))


def test_rows_are_the_same_wherever_they_are_read(
    admin: Admin, data: Path, kept: Callable[..., Path]
) -> None:
    file = kept("latest")
    told = json.loads(file.read_text())["content"]
    ended = admin("verify-checksums", "--data-dir", data, "--content", "--format", "json")
    assert (ended.code, ended.json["content"]) == (0, told)
    assert told["rows"] == 7
    for place in (("--data-dir", data), ("--snapshot", data / "raft/snapshots/latest")):
        same = admin("verify-checksums", *place, "--against", file)
        assert same.code == 0, same.err
        assert f"7 rows as of index {told['index']}" in same.out


def test_other_rows_of_the_same_moment_are_damage_that_no_checksum_tells(
    admin: Admin, data: Path, kept: Callable[..., Path]
) -> None:
    file, manifest = kept("latest"), data / "raft/snapshots/latest/manifest"
    assert admin("verify-checksums", "--data-dir", data, "--against", manifest).code == 0
    drop_a_table(data)
    assert admin("verify-checksums", "--data-dir", data).code == 0
    rows = admin("verify-checksums", "--data-dir", data, "--against", file)
    assert rows.code == 5
    assert "7 rows" in rows.err and rows.err.count("\n") == 1
    layout = admin("verify-checksums", "--data-dir", data, "--against", manifest)
    assert layout.code == 5
    assert "layout digest" in layout.err


def test_another_moment_proves_nothing(admin: Admin, data: Path, kept: Callable[..., Path]) -> None:
    other = admin("verify-checksums", "--data-dir", data, "--against", kept(older(data)))
    assert other.code == 9
    assert "two moments" in other.err
    latest = data / "raft/snapshots/latest"
    manifest = data / "raft/snapshots" / older(data) / "manifest"
    missing = admin("verify-checksums", "--snapshot", latest, "--against", manifest)
    assert missing.code == 10
    assert latest.resolve().name in missing.err


@pytest.mark.parametrize(
    ("content", "code"), [(b"hello", 2), (b"{}", 2), (b"[1]", 2), (b'{"index": 7, "content_digest": "x"}', 2)]
)
def test_a_kept_file_that_names_no_state(
    admin: Admin, data: Path, tmp_path: Path, content: bytes, code: int
) -> None:
    file = tmp_path / "kept"
    file.write_bytes(content)
    assert admin("verify-checksums", "--data-dir", data, "--against", file).code == code
    assert admin("verify-checksums", "--data-dir", data, "--against", tmp_path / "nowhere").code == 10


def test_a_kept_manifest_that_is_damaged(admin: Admin, data: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(data / "raft/snapshots/latest/manifest", tmp_path / "manifest"))
    flip(file, 40)
    ended = admin("verify-checksums", "--data-dir", data, "--against", file)
    assert (ended.code, ended.out) == (5, "")
    assert str(file) in ended.err


def test_a_restore_is_compared_with_its_report_and_its_source(
    admin: Admin, archive: Path, tmp_path: Path, kept: Callable[..., Path]
) -> None:
    file = kept("latest")
    index = json.loads(file.read_text())["content"]["index"]
    target, report = tmp_path / "restored", tmp_path / "report.json"
    done = admin(
        "wal-replay",
        *("--wal-dir", archive, "--until-index", index, "--node-id", "n1", "--data-dir", target),
        *("--format", "json"),
    )
    assert done.code == 0, done.err
    report.write_text(done.out)
    for known in (file, report):
        assert admin("verify-checksums", "--data-dir", target, "--against", known).code == 0
    drop_a_table(target)
    assert admin("verify-checksums", "--data-dir", target).code == 0
    noted = admin("verify-checksums", "--data-dir", target, "--content")
    assert noted.code == 5
    assert "raft/restored says 7" in noted.out and "wal-replay --again" in noted.out


# --- a repository -------------------------------------------------------------------------------------


@pytest.fixture
def repo(data: Path, archive: Path, tmp_path: Path) -> Path:
    """The archive and the published snapshots, as a backup has them."""
    (tmp_path / "repo").mkdir()
    archive.rename(tmp_path / "repo/wal")
    shutil.copytree(data / "raft/snapshots", tmp_path / "repo/snapshots", symlinks=True)
    return tmp_path / "repo"


def test_a_whole_repository(admin: Admin, repo: Path) -> None:
    ended = admin("verify-checksums", "--repo", repo, "--content", "--format", "json")
    assert ended.code == 0, ended.out
    assert ended.json["scope"]["log"]["files"] == len(list((repo / "wal").glob("*.wal")))
    assert [one["content"]["rows"] for one in ended.json["snapshots"]] == [7, 3, 0]
    assert admin("verify-checksums", "--repo", repo).out.splitlines()[-1] == "no damage"


@pytest.mark.parametrize("pattern", ["wal/*.wal", "snapshots/*-*/*.table", "snapshots/*-*/manifest"])
def test_damage_in_a_repository(admin: Admin, repo: Path, pattern: str) -> None:
    flip(find(repo, pattern), 40)
    ended = admin("verify-checksums", "--repo", repo, "--format", "json")
    assert ended.code == 5
    assert all(one["remedy"] for one in ended.json["damage"])
    assert "DAMAGE" in admin("verify-checksums", "--repo", repo).out


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("wal/*.wal", "is a FIFO, and no file"),
        ("wal/*.history", "is a FIFO, and no file"),
        ("snapshots/*-*/manifest", "is a FIFO, and no file"),
        ("snapshots/[1-9]*-*/*.table", "is a FIFO, and no file"),
        ("snapshots/[1-9]*-*", "is no directory"),
    ],
)
def test_a_fifo_in_a_repository(admin: Admin, repo: Path, pattern: str, what: str) -> None:
    path = find(repo, pattern)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.mkfifo(path)
    ended = admin("verify-checksums", "--repo", repo, "--format", "json")
    assert ended.code == 5
    assert any(what in one["message"] for one in ended.json["damage"]), ended.out


def test_a_snapshot_without_its_manifest_in_a_repository(admin: Admin, repo: Path) -> None:
    """One such directory ended the whole report: no word on the log, nor on any other snapshot."""
    manifest = find(repo, "snapshots/[1-9]*-*/manifest")
    manifest.unlink()
    ended = admin("verify-checksums", "--repo", repo, "--format", "json")
    assert ended.code == 5
    [damage] = ended.json["damage"]
    assert damage["path"] == str(manifest.parent) and "its manifest is missing" in damage["message"]
    assert ended.json["scope"]["log"]["files"] and len(ended.json["snapshots"]) == 2


def test_a_repository_that_holds_nothing(admin: Admin, tmp_path: Path) -> None:
    """A mount that was missing verified well: 0 files, no damage."""
    for below in ("wal", "snapshots"):
        repo = tmp_path / below
        (repo / below).mkdir(parents=True)
        ended = admin("verify-checksums", "--repo", repo)
        assert (ended.code, ended.out) == (10, "")
        assert str(repo / below) in ended.err


def test_a_repository_that_has_lost_the_log_of_its_snapshots(admin: Admin, repo: Path) -> None:
    """`no damage` was said of it, where a restore to the end is refused."""
    for path in (repo / "wal").iterdir():
        path.unlink()
    ended = admin("verify-checksums", "--repo", repo)
    assert ended.code == 10 and "holds no log" in ended.out and "is it mounted" in ended.out
    assert admin("wal-verify", "--repo", repo).code == 10


def test_what_can_not_be_restored_to_its_end_is_wrong(admin: Admin, repo: Path) -> None:
    """The log behind the only snapshot was gone, and both verbs ended with 0."""
    segments = sorted((repo / "wal").glob("*.wal"))
    newest = int(segments[-1].stem.split("-")[2]) - 1
    for path in segments[:-1]:
        path.unlink()
    for path in (repo / "snapshots").glob("*-*"):
        if int(path.name.split("-")[0]) >= newest or path.name.startswith("0-"):
            shutil.rmtree(path)
    (kept,) = (int(path.name.split("-")[0]) for path in (repo / "snapshots").glob("*-*"))
    wanted = admin("wal-replay", "--repo", repo, "--until", "latest", "--dry-run")
    assert wanted.code == 4
    for verb in ("verify-checksums", "wal-verify"):
        ended = admin(verb, "--repo", repo)
        assert ended.code == 4 and f"entries {kept + 1}..{newest} are missing" in ended.out, ended.out


def test_a_gap_in_a_repository(admin: Admin, repo: Path) -> None:
    sorted((repo / "wal").glob("*.wal"))[1].unlink()
    assert admin("verify-checksums", "--repo", repo).code == 4


def test_one_thing_at_a_time(admin: Admin, repo: Path, data: Path, kept: Callable[..., Path]) -> None:
    assert admin("verify-checksums", "--repo", repo, "--data-dir", data).code == 2
    assert admin("verify-checksums", "--repo", repo, "--against", kept("latest")).code == 2


# --- running nodes ------------------------------------------------------------------------------------


def test_a_directory_that_a_server_holds(ask: Admin, admin: Admin, server: Server, data: Path) -> None:
    ask("put", "t", "held", "1")
    held = ask("verify-checksums", "--data-dir", server.data_dir, "--format", "json")
    assert (held.code, held.json["in_use_by"]) == (0, server.pid)
    assert f"in use by process {server.pid}" in ask("verify-checksums", "--data-dir", server.data_dir).out
    assert admin("verify-checksums", "--data-dir", data, "--format", "json").json["in_use_by"] is None


def asked(admin: Admin, server: Server, *words: Any) -> Any:
    """verify-checksums at a node, which reads its own files."""
    return admin("verify-checksums", "--admin", server.url, *words)


def test_a_running_node_reads_its_own_files(ask: Admin, admin: Admin, server: Server, tmp_path: Path) -> None:
    ask("put", "t", "online", "1")
    ask("snapshot")
    (tmp_path / "stats").write_text(ask("stats", "--format", "json").out)
    ended = asked(admin, server, "--content", "--format", "json")
    assert (ended.code, ended.json["damage"]) == (0, [])
    assert ended.json["scope"]["log"]["files"] and ended.json["scope"]["tables"]["bytes"]
    assert len(ended.json["not_read"]) == 1  # the open segment
    stats = json.loads((tmp_path / "stats").read_text())
    assert ended.json["content"]["content_digest"] == stats["content_digest"]
    assert asked(admin, server, "--against", tmp_path / "stats").code == 0
    latest = server.data_dir / "raft/snapshots/latest/manifest"
    assert asked(admin, server, "--against", latest).code == 0
    ask("put", "t", "online", "2")
    assert asked(admin, server, "--against", tmp_path / "stats").code == 9
    assert ask("verify-checksums", "--data-dir", server.data_dir).code == 0
    assert ask("verify-checksums").out.splitlines()[0] == server.url


def test_damage_below_a_running_node(admin: Admin, tmp_path: Path) -> None:
    """A sole voter has no peer that could mend it."""
    server = Server(tmp_path)
    server.start("--bootstrap")
    try:
        for number in range(100):
            assert admin("put", "t", f"k{number}", number, "--admin", server.url).code == 0
        assert admin("snapshot", "--admin", server.url).code == 0
        table = find(server.data_dir, "store/*.table")
        flip(table, 30)
        ended = asked(admin, server, "--format", "json")
        assert ended.code == 5
        found = {one["path"]: one for one in ended.json["damage"]}[str(table)]
        assert (found["outcome"], found["offset"]) == ("unrepaired", 8)
        assert found["remedy"]
        told = asked(admin, server).out
        assert "DAMAGE" in told
        assert re.search(r"^since     20\d\d-\S+Z$", told, re.MULTILINE)
    finally:
        server.stop()
    assert asked(admin, server).code == 8


def test_what_a_running_node_can_t_read_is_no_good_news(admin: Admin, tmp_path: Path) -> None:
    """`no damage` and exit 0, though a read had failed and what was behind it had not been read."""
    server = Server(tmp_path)
    server.start("--bootstrap")
    try:
        assert admin("put", "t", "k", 1, "--admin", server.url).code == 0
        assert admin("snapshot", "--admin", server.url).code == 0
        table = find(server.data_dir, "store/*.table")
        table.rename(tmp_path / "kept")
        table.symlink_to("/proc/self/mem")  # its first bytes are EIO: no broken disk is needed
        ended = asked(admin, server)
        assert ended.code == 5
        assert f"{table}: can't be read" in ended.out and "no damage" not in ended.out
        table.unlink()
        (tmp_path / "kept").rename(table)
        assert asked(admin, server).code == 0
    finally:
        server.stop()
