"""The verb query: at a running server, on its directory, and on a snapshot after it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Admin, Server, run_admin

CITIES = {
    "berlin": {"name": "Berlin", "population": 3_426_354},
    "ulm": {"name": "Ulm\nan der Donau", "population": 120_451},
}


@pytest.fixture(scope="module")
def cities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a snapshot of two cities, and one city more in its log."""
    server = Server(tmp_path_factory.mktemp("cities"))
    server.start("--bootstrap")
    with pytest.MonkeyPatch.context() as patch:
        environ = {"NEUMANN_ADMIN": server.url}
        for key, value in CITIES.items():
            assert run_admin(("put", "cities", key, json.dumps(value)), environ, patch).code == 0
        assert run_admin(("snapshot",), environ, patch).code == 0
        assert run_admin(("put", "cities", "paris", "{}"), environ, patch).code == 0
    yield server
    assert server.stop() == 0


@pytest.fixture
def ask(cities: Server, monkeypatch: pytest.MonkeyPatch) -> Admin:
    return lambda *words: run_admin(words, {"NEUMANN_ADMIN": cities.url}, monkeypatch)


def test_a_count(ask: Admin) -> None:
    ended = ask("query", "SELECT COUNT(*) FROM cities")
    assert (ended.code, ended.out) == (0, "COUNT(*)\n       3\n")
    assert ended.err.startswith("1 rows at index ")
    assert ask("query", "SELECT COUNT(*) FROM cities", "--quiet", "--stale").err == ""


def test_a_table_for_people(ask: Admin) -> None:
    ended = ask("query", "SELECT population, name, x'ff' AS b FROM cities ORDER BY key")
    assert ended.out.splitlines() == [
        "population  name               b",
        "   3426354  Berlin             base64:/w==",
        "      NULL  NULL               base64:/w==",
        "    120451  Ulm\\nan der Donau  base64:/w==",
    ]


def test_json(ask: Admin) -> None:
    ended = ask("query", "SELECT key, population FROM cities WHERE key = 'ulm'", "--format", "json").json
    assert (ended["columns"], ended["rows"]) == (["key", "population"], [["ulm", 120_451]])
    assert ended["index"] > 2


def test_refusals(ask: Admin) -> None:
    ended = ask("query", "SELECT COUNT(*) FROM ...")
    assert (ended.code, ended.out) == (2, "")
    assert "write a table's name in place of ...; tables here: cities\n" in ended.err
    assert ended.err.count("\n") == 1
    assert ask("query", "SELECT key FROM cities", "--rows-max", "2").code == 2
    assert ask("query", "SELECT 1", "--data-dir", "/x", "--snapshot", "/y").code == 2
    assert ask("query", "SELECT 1", "--stale", "--snapshot", "/y").code == 2
    assert ask("query", "SELECT 1", "--snapshot", "/nowhere").code == 10
    assert ask("query", "SELECT 1", "--data-dir", "/nowhere").code == 10


def test_files_beside_a_running_server_hold_its_newest_snapshot(admin: Admin, cities: Server) -> None:
    ended = admin("query", "SELECT COUNT(*) FROM cities", "--data-dir", cities.data_dir)
    assert (ended.code, ended.out) == (0, "COUNT(*)\n       2\n")
    assert "what was written since is not in it" in ended.err


def test_a_snapshot_wherever_it_lies(admin: Admin, cities: Server, tmp_path: Path) -> None:
    newest = max((cities.data_dir / "raft/snapshots").glob("[0-9]*"), key=lambda path: path.stat().st_mtime)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in newest.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    ended = admin(
        "query", "SELECT name FROM cities WHERE key = 'berlin'", "--snapshot", copy, "--format=json"
    )
    assert ended.json == {"columns": ["name"], "rows": [["Berlin"]], "index": int(newest.name.split("-")[0])}
    only_copies = tmp_path / "restored"
    (only_copies / "raft").mkdir(parents=True)
    copy.rename(only_copies / "raft/snapshots")
    assert admin("query", "SELECT COUNT(*) FROM cities", "--data-dir", only_copies).out.split() == [
        "COUNT(*)",
        "2",
    ]


def test_time_is_bounded_on_files_too(admin: Admin, cities: Server) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n"
    ended = admin("query", endless, "--data-dir", cities.data_dir, "--timeout", "0.1")
    assert ended.code == 2
    assert "longer than 0.1 s" in ended.err
