"""The verbs that ask a running server, against a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import distant
from tests.cli.conftest import Admin, Ended, Server, run_admin


def test_put_get_delete(ask: Admin) -> None:
    put = ask("put", "cities", "berlin", '{"population": 3426354}')
    assert put.code == 0
    revision = int(put.out.split()[1])
    assert ask("get", "cities", "berlin").out == '{"population": 3426354}\n'
    row = ask("get", "cities", "berlin", "--format", "json").json
    assert (row["table"], row["key"], row["revision"]) == ("cities", "berlin", revision)
    assert row["value"] == {"population": 3426354}
    assert ask("delete", "cities", "berlin", "--if-revision", revision).code == 0
    absent = ask("get", "cities", "berlin")
    assert (absent.code, absent.out) == (10, "")
    assert absent.err == "neumann-admin: there is no row cities/berlin\n"


def test_conditions(ask: Admin) -> None:
    assert ask("put", "conditions", "k", "1", "--if-absent").code == 0
    refused = ask("put", "conditions", "k", "2", "--if-absent")
    assert refused.code == 9
    assert "nothing was written" in refused.err
    assert ask("put", "conditions", "k", "2", "--if-revision", "1").code == 9
    assert ask("put", "conditions", "k", "2", "--if-revision", "1", "--if-absent").code == 2
    assert ask("get", "conditions", "k").out == "1\n"


def test_values_that_are_no_json(ask: Admin) -> None:
    refused = ask("put", "t", "k", "Berlin")
    assert refused.code == 2
    assert "quotes" in refused.err
    assert ask("put", "t", "k", "NaN").code == 2
    assert ask("get", "t", "k").code == 10


def test_keys_with_slashes_and_other_scripts(ask: Admin) -> None:
    for key in ("a/b", "a b", "京", "?x=1#y", "%2F"):
        assert ask("put", "odd keys", key, json.dumps(key)).code == 0
        assert ask("get", "odd keys", key).out == json.dumps(key, ensure_ascii=False) + "\n"


def test_scan(ask: Admin) -> None:
    for number in range(5):
        ask("put", "scanned", f"k{number}", str(number))
    assert [line.split("\t")[0] for line in ask("scan", "scanned").out.splitlines()] == [
        f"k{number}" for number in range(5)
    ]
    lines = ask("scan", "scanned", "--reverse", "--limit", "2", "--format", "json").out.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [4, 3]
    found = ask("scan", "scanned", "--start", "k1", "--stop", "k3").out
    assert [line.split("\t")[2] for line in found.splitlines()] == ["1", "2"]
    assert ask("scan", "scanned", "--prefix", "x").out.strip() == ""


def test_cluster_info_is_always_json(ask: Admin, tmp_path: Path) -> None:
    info = ask("cluster-info").json
    assert info["members"][0]["node_id"] == "n1"
    written = ask("cluster-info", "--output", tmp_path / "metadata.json")
    assert (written.code, written.out) == (0, "")
    assert json.loads((tmp_path / "metadata.json").read_text())["cluster_id"] == info["cluster_id"]
    assert ask("cluster-info", "--output", "s3://backups/metadata.json").code == 2
    assert ask("cluster-info", "--output", tmp_path / "missing" / "x").code == 1


def test_cluster_info_on_another_host(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an operator writes it: a shell takes `> backup:/...` for a path of this machine."""
    with distant.ssh_host(tmp_path) as host:
        environ = {"NEUMANN_ADMIN": server.url, **host.environ}

        def ask(*words: object) -> Ended:
            return run_admin(("cluster-info", *words), environ, monkeypatch)

        for _ in range(2):
            assert ask("--output", f"{distant.ALIAS}:{tmp_path}/metadata.json")[:2] == (0, "")
        written = json.loads((tmp_path / "metadata.json").read_text())
        assert written["cluster_id"] == ask().json["cluster_id"]
        assert not (tmp_path / "metadata.json.tmp").exists()
        refused = ask("--output", f"{distant.ALIAS}:{tmp_path}/missing/x")
        assert refused.code == 1 and "missing/x can't be written" in refused.err


def test_cluster_info_in_the_home_of_another_host(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`HOST:FILE` was written, and then the verb died of an assertion: of "HOST:FILE" the directory's name,
    which was to be synced, is "", and so on no host."""
    with distant.ssh_host(tmp_path) as host:
        keys = tmp_path / "authorized_keys"
        keys.write_text(f'command="cd {tmp_path} && eval \\"$SSH_ORIGINAL_COMMAND\\"" {keys.read_text()}')
        environ = {"NEUMANN_ADMIN": server.url, **host.environ}
        words = ("cluster-info", "--output", f"{distant.ALIAS}:metadata.json")
        assert run_admin(words, environ, monkeypatch)[:2] == (0, "")
    assert json.loads((tmp_path / "metadata.json").read_text())["node_id"] == "n1"


def test_cluster_status(ask: Admin) -> None:
    status = ask("cluster-status", "--wait", "10", "--for", "voters=1")
    assert status.code == 0
    first, second, *_ = status.out.splitlines()
    assert first.startswith("SAFE     a write now survives the loss of 0 of 1 nodes; if all are lost: ")
    assert second.split()[:2] == ["n1", "leader"]
    assert ask("cluster-status", "--format", "json").json["verdict"] == "SAFE"
    assert ask("cluster-status", "--wait", "0.1", "--for", "voters=3").code == 8
    assert ask("cluster-status", "--for", "peace").code == 2


def test_snapshot(ask: Admin) -> None:
    ask("put", "t", "k", "1")
    made = ask("snapshot", "--format", "json").json
    assert made["durable_on"] == ["n1"]
    listed = ask("snapshot-list", "--format", "json").json["snapshots"]
    assert listed[0]["id"] == made["id"]
    assert made["id"] in ask("snapshot-list").out
    assert ask("snapshot", "--no-wait").code == 0


def test_snapshot_list_of_a_directory(ask: Admin, server: Server, admin: Admin, tmp_path: Path) -> None:
    made = ask("snapshot", "--format", "json").json
    listed = admin("snapshot-list", "--dir", server.data_dir / "raft/snapshots", "--format", "json").json
    assert made["id"] in [line["id"] for line in listed["snapshots"]]
    assert admin("snapshot-list", "--dir", tmp_path).out == "no snapshots\n"
    assert admin("snapshot-list", "--dir", tmp_path / "missing").code == 10


def test_pause_and_resume(ask: Admin) -> None:
    paused = ask("pause-writes", "--max", "5m", "--reason", "tar")
    assert paused.code == 0
    assert "applied by n1" in paused.out
    refused = ask("put", "t", "paused", "1")
    assert refused.code == 9
    assert "paused" in refused.err
    assert ask("cluster-status").code == 1
    assert ask("resume-writes").code == 0
    again = ask("resume-writes")
    assert (again.code, again.out) == (9, "")
    assert ask("put", "t", "paused", "1").code == 0
    assert ask("pause-writes", "--max", "soon").code == 2


def test_restore_point_and_flush(ask: Admin, server: Server) -> None:
    ask("cluster-status", "--wait", "10", "--for", "healthy")
    named = ask("restore-point", "here", "--format", "json")
    assert named.code == 0 and named.json["archived"] is True
    assert ask("restore-point", "there", "--no-wait").code == 0
    assert ask("restore-point", "here").code == 9
    flushed = ask("archive-flush", "--timeout", "20", "--format", "json")
    assert flushed.code == 0, flushed.err
    listed = ask("wal-list", "--wal-dir", server.archive, "--format", "json").json
    assert [point["name"] for point in listed["restore_points"]] == ["here", "there"]
    assert listed["windows"][0]["last_index"] >= flushed.json["archived_through"]
    assert listed["wrong"] == []


def test_stats_begin_with_the_rows(ask: Admin) -> None:
    first = ask("stats").out.splitlines()[0].split()
    assert first[0] == "total_entries"
    assert int(first[1]) == ask("stats", "--format", "json").json["total_entries"]


def test_verify_checksums_beside_the_server(ask: Admin, server: Server) -> None:
    for number in range(20):
        ask("put", "t", f"v{number}", "1")
    report = ask("verify-checksums", "--data-dir", server.data_dir)
    assert report.code == 0, report.out
    assert report.out.splitlines()[-1] == "no damage"


def test_a_restore_over_a_running_server_is_refused(ask: Admin, server: Server) -> None:
    ask("archive-flush", "--timeout", "20")
    words = ("wal-replay", "--wal-dir", server.archive, "--until", "latest", "--config", server.config)
    assert ask(*words, "--dry-run").code == 0
    refused = ask(*words)
    assert refused.code == 7
    last_copy = ask("rejoin", "--config", server.config, "--yes")
    assert last_copy.code == 9 and "only voter" in last_copy.err
    assert ask("put", "t", "still", "1").code == 0


def test_members_are_added_listed_and_removed(ask: Admin) -> None:
    assert ask("member-promote", "n9").code == 10
    only = ask("member-remove", "n1")
    assert only.code == 9 and "only voter" in only.err
    added = ask("member-add", "n9=127.0.0.1:9")
    assert added.code == 0 and "has not joined yet" in added.out and "start n9" in added.out
    assert ask("member-add", "n9=127.0.0.1:9").code == 9
    assert ask("member-promote", "n9").code == 9
    listed = ask("member-list", "--format", "json").json
    assert [(line["node_id"], line["joined"]) for line in listed["members"]] == [("n1", True), ("n9", False)]
    removed = ask("member-remove", "n9")
    assert removed.code == 0 and removed.out.splitlines()[-1] == "removed  n9"
    assert ask("leader-transfer", "--to", "n1").out.startswith("n1 leads")
