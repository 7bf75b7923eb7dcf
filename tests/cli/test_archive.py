"""wal-push, wal-list, wal-verify and wal-search as an operator types them, on a real log's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from neumann.env.disk import RealDisk
from neumann.format import command
from neumann.format.frame import Kind
from neumann.format.times import time_text
from tests.archive.pushing import make_node
from tests.cli.conftest import Admin, Server
from tests.recovery.world import Cluster, segment_files

DISK = RealDisk()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Four archived segments, of two puts each; a snapshot directory beside them."""
    made = Cluster.fresh(DISK, str(tmp_path), 1)
    for number in range(4):
        made.put(f"a{number}", number)
        made.put("often", number)
        made.seal("point" if number == 1 else "")
    return made


def bounds_hold(admin: Admin, cluster: Cluster, window: dict[str, object], beyond: int) -> None:
    """R14: what is printed as possible is accepted, to the last index and nanosecond; no more is."""
    words = ("wal-replay", "--wal-dir", cluster.archive, "--dry-run")
    for flag, bound in (
        ("--until-index", window["first_index"]),
        ("--until-index", window["last_index"]),
        ("--until", window["first_time"]),
        ("--until", window["last_time"]),
    ):
        if bound is not None:
            assert admin(*words, flag, bound).code == 0, (flag, bound)
    last = window["last_index"]
    assert isinstance(last, int)
    assert admin(*words, "--until-index", last + 1).code == beyond


def test_what_wal_list_prints_is_what_a_restore_accepts(admin: Admin, cluster: Cluster) -> None:
    (window,) = admin("wal-list", "--wal-dir", cluster.archive, "--format", "json").json["windows"]
    assert (window["first_index"], window["last_index"]) == (0, 12)
    bounds_hold(admin, cluster, window, 3)
    segment_files(cluster.archive)[2].unlink()
    (window,) = admin("wal-list", "--wal-dir", cluster.archive, "--format", "json").json["windows"]
    assert window["last_index"] == 6
    bounds_hold(admin, cluster, window, 4)
    text = admin("wal-list", "--wal-dir", cluster.archive).out
    assert "recoverable  the beginning .. " in text and "WRONG" in text and "point" in text


# --- wal-verify ----------------------------------------------------------------------------------


def test_a_whole_archive_verifies(admin: Admin, cluster: Cluster) -> None:
    ended = admin("wal-verify", "--wal-dir", cluster.archive, "--format", "json")
    assert (ended.code, ended.json["wrong"], ended.json["checked_files"]) == (0, [], 4)
    assert admin("wal-verify", "--wal-dir", cluster.archive).out.endswith(
        "4 of 4 files read to the last byte, 0 things wrong\n"
    )


def test_wal_verify_exits_4_for_a_gap_and_names_it(admin: Admin, cluster: Cluster) -> None:
    segment_files(cluster.archive)[1].unlink()
    ended = admin("wal-verify", "--wal-dir", cluster.archive)
    assert ended.code == 4
    assert "entries 4..6 are missing" in ended.out


@pytest.mark.parametrize("offset", [20, 70, 130, -1])
def test_wal_verify_exits_5_for_one_flipped_bit(admin: Admin, cluster: Cluster, offset: int) -> None:
    path = segment_files(cluster.archive)[1]
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    segment_files(cluster.archive)[2].unlink()
    ended = admin("wal-verify", "--wal-dir", cluster.archive)
    assert ended.code == 5  # damage goes before the gap that it makes
    assert path.name in ended.out


def test_a_damaged_body_is_seen_by_wal_verify_and_shortens_the_window(admin: Admin, cluster: Cluster) -> None:
    """wal-list reads headers only; a window that wal-verify prints has been read."""
    path = segment_files(cluster.archive)[2]
    data = bytearray(path.read_bytes())
    place = data.index(b"a2")
    data[place] ^= 1
    path.write_bytes(data)
    assert admin("wal-list", "--wal-dir", cluster.archive, "--format", "json").json["wrong"] == []
    found = admin("wal-verify", "--wal-dir", cluster.archive, "--format", "json")
    assert found.code == 5
    assert found.json["windows"][0]["last_index"] == 6
    bounds_hold(admin, cluster, found.json["windows"][0], 5)


def test_wal_verify_since_reads_bodies_of_newer_files_only(admin: Admin, cluster: Cluster) -> None:
    """pgbackrest#2668, #1032: each verification read everything anew."""
    files = segment_files(cluster.archive)
    for path in (files[0], files[3]):
        data = bytearray(path.read_bytes())
        data[data.index(b"often")] ^= 1
        path.write_bytes(data)
    since = time_text(cluster.frames[6].time_ns, 9)
    ended = admin("wal-verify", "--wal-dir", cluster.archive, "--since", since, "--format", "json")
    assert (ended.code, ended.json["checked_files"], len(ended.json["wrong"])) == (5, 2, 1)
    assert files[3].name in ended.json["wrong"][0]
    assert admin("wal-verify", "--wal-dir", cluster.archive, "--since", "yesterday").code == 2


def test_an_empty_place_is_no_archive_that_verifies(admin: Admin, tmp_path: Path, cluster: Cluster) -> None:
    """A mount that was not there verified well each night: `0 of 0 files read, 0 things wrong`, exit 0."""
    (tmp_path / "unmounted").mkdir()
    for verb in ("wal-verify", "wal-search"):
        ended = admin(verb, "--wal-dir", tmp_path / "unmounted")
        assert ended.code == 10 and "is it mounted?" in ended.err
    for path in segment_files(cluster.archive):
        path.unlink()
    assert admin("wal-verify", "--wal-dir", cluster.archive).code == 0, "nothing is archived yet"


def test_two_clusters_and_a_missing_history(admin: Admin, cluster: Cluster, tmp_path: Path) -> None:
    history = next(Path(cluster.archive).glob("*.history"))
    kept = history.read_bytes()
    history.unlink()
    ended = admin("wal-verify", "--wal-dir", cluster.archive)
    assert ended.code == 4 and "its history file is missing" in ended.out
    history.write_bytes(kept)
    other = Cluster.fresh(DISK, str(tmp_path / "other"), 2, archive=cluster.archive)
    other.put("x", 1)
    other.seal()
    ended = admin("wal-verify", "--wal-dir", cluster.archive)
    assert ended.code == 6 and "files of 2 clusters" in ended.out


# --- wal-search ----------------------------------------------------------------------------------


def search(admin: Admin, cluster: Cluster, *words: object) -> list[tuple[int, str, str]]:
    ended = admin("wal-search", "--wal-dir", cluster.archive, *words, "--format", "json")
    assert ended.code == 0, ended.err
    return [(e["index"], e["op"], e["key"]) for e in ended.json["entries"]]


def harm(cluster: Cluster) -> int:
    """A batch that deletes, among others, the row `often`, and a conditional delete; the batch's index."""
    rows = [(command.DELETE, "t", key, None, None) for key in ("a0", "often", "a1")]
    batch = command.encode_batch([*rows, (command.PUT, "u", "often", None, command.pack_value(1))])
    frame = cluster.write(Kind.DATA, [command.encode_put("t", "x", command.pack_value(0)), batch])
    cluster.write(Kind.DATA, [command.encode_delete("t", "often", (command.REVISION, 3))])
    cluster.seal()
    return frame.last


def test_which_entry_deleted_it(admin: Admin, cluster: Cluster) -> None:
    index = harm(cluster)
    assert search(admin, cluster, "--table", "t", "--key", "often", "--op", "delete") == [
        (index, "delete", "often"),
        (index + 1, "delete", "often"),
    ]
    assert search(admin, cluster, "--table", "u") == [(index, "put", "often")]
    assert [found[0] for found in search(admin, cluster, "--key", "often")] == [2, 5, 8, 11, index, index + 1]
    text = admin("wal-search", "--wal-dir", cluster.archive, "--table", "t", "--op", "delete").out
    assert "3 of 4 rows of a batch" in text and "conditional" in text
    back = ("wal-replay", "--wal-dir", cluster.archive, "--until-index", index, "--exclusive", "--dry-run")
    assert "batch of 4 rows" in admin(*back).out


def test_wal_search_by_time_and_limit(admin: Admin, cluster: Cluster) -> None:
    times = [time_text(frame.time_ns, 9) for frame in cluster.frames]
    window = ("--from", times[3], "--to", times[7])
    assert [found[0] for found in search(admin, cluster, *window)] == [4, 5, 7, 8]
    limited = admin("wal-search", "--wal-dir", cluster.archive, "--limit", 3, "--format", "json").json
    assert len(limited["entries"]) == 3 and limited["more"] is True
    assert "there are more" in admin("wal-search", "--wal-dir", cluster.archive, "--limit", 3).out
    assert "nothing found" in admin("wal-search", "--wal-dir", cluster.archive, "--key", "none").out
    assert admin("wal-search", "--wal-dir", cluster.archive, "--op", "drop").code == 2


def test_a_search_that_did_not_see_everything_says_so(admin: Admin, cluster: Cluster) -> None:
    files = segment_files(cluster.archive)
    files[1].unlink()
    ended = admin("wal-search", "--wal-dir", cluster.archive, "--key", "often", "--format", "json")
    assert ended.code == 4 and len(ended.json["entries"]) == 3 and "4..6" in ended.json["wrong"][0]
    files[2].write_bytes(files[2].read_bytes()[:-1])
    assert admin("wal-search", "--wal-dir", cluster.archive, "--key", "often").code == 5


# --- wal-push ------------------------------------------------------------------------------------


def test_wal_push_and_its_refusals(admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node(DISK, str(tmp_path / "node"))
    other = make_node(DISK, str(tmp_path / "other"), seed=2)
    archive = tmp_path / "archive"
    archive.mkdir()
    refused = admin("wal-push", node.segments[0], archive)
    assert refused.code == 9 and "is it mounted?" in refused.err and refused.err.count("\n") == 1
    monkeypatch.chdir(tmp_path)
    assert admin("wal-push", node.history_path, "archive").code == 0
    first = admin("wal-push", node.segments[0], archive, "--format", "json")
    assert (first.code, first.json["did"]) == (0, "copied")
    assert admin("wal-push", node.segments[0], archive).out.endswith("there\n")
    assert admin("wal-push", other.history_path, archive).code == 6
    (archive / Path(node.segments[1]).name).write_bytes(b"other bytes")
    assert admin("wal-push", node.segments[1], archive).code == 9
    assert admin("wal-push", node.segments[0], tmp_path / "nowhere").code == 10
    assert admin("wal-push", node.segments[0], "ftp://backup/archive").code == 2
    assert admin("wal-push", tmp_path / "x.wal", archive).code == 2


# --- asking the leader ---------------------------------------------------------------------------


def test_archive_check_reads_back_what_was_archived(ask: Admin, server: Server, tmp_path: Path) -> None:
    assert ask("cluster-status", "--wait", "10", "--for", "healthy").code == 0
    assert ask("put", "t", "k", "1").code == 0
    believed = ask("archive-check", "--timeout", "20")
    assert believed.code == 0 and "not read back" in believed.out
    done = ask("archive-check", "--wal-dir", server.archive, "--format", "json")
    assert done.code == 0, done.err
    assert Path(done.json["read_back"]["path"]).parent == server.archive
    assert "read back" in ask("archive-check", "--wal-dir", server.archive).out
    elsewhere = ask("archive-check", "--wal-dir", tmp_path)
    assert elsewhere.code == 4 and "is not there" in elsewhere.err
    assert ask("archive-check", "--wal-dir", tmp_path / "nowhere").code == 10


def test_archiving_does_not_begin_in_another_clusters_archive(
    ask: Admin, server: Server, tmp_path: Path
) -> None:
    """A copy of production is asked to archive while its settings still name production's archive."""
    assert ask("cluster-status", "--wait", "10", "--for", "healthy").code == 0
    other = Cluster.fresh(DISK, str(tmp_path / "other"), 2)
    listed = ("wal-list", "--wal-dir", server.archive, "--format", "json")
    points = ask(*listed).json["restore_points"]
    refused = ask("archive-check", "--begin", "--wal-dir", other.archive)
    assert refused.code == 6 and other.manifest.history.cluster_id.hex() in refused.err
    assert ask(*listed).json["restore_points"] == points, "nothing was asked of the node"
    assert ask("archive-check", "--begin", "--wal-dir", server.archive).code == 0


def test_archive_stop_is_refused_while_a_command_is_set(ask: Admin) -> None:
    assert ask("archive-stop").code == 2
    refused = ask("archive-stop", "--reason", "why not", "--yes")
    assert refused.code == 9 and "would begin again" in refused.err
