"""`neumann` as a process: its line when ready, its end, and what it refuses to start on."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from neumann import __version__
from tests.cli.conftest import NEUMANN, Ended, Server
from tests.ports import free_ports

TIMEOUT_S = 30


def neumann(*words: object, environ: dict[str, str] | None = None) -> Ended:
    """Run it to its end."""
    done = subprocess.run(
        [str(NEUMANN), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environ or {},
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def place(tmp_path: Path) -> list[object]:
    """Flags of a node that nobody else is."""
    rpc, http = free_ports(2)
    return [
        "--node-id",
        "n1",
        "--data-dir",
        tmp_path / "data",
        "--listen",
        f"127.0.0.1:{rpc}",
        "--admin-listen",
        f"127.0.0.1:{http}",
    ]


def test_it_says_when_it_is_ready_and_ends_cleanly(tmp_path: Path, place: list[object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(
            [str(NEUMANN), "--bootstrap", *map(str, place)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == (
            f"neumann {__version__} node n1 ready: rpc {place[5]}, admin {place[7]}, data {tmp_path}/data\n"
        )
        process.send_signal(number)
        rest, _ = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, rest) == (0, "")


def test_version_and_help() -> None:
    assert neumann("--version") == (0, f"neumann {__version__}\n", "")
    shown = neumann("--help")
    assert shown.code == 0
    for flag in ("--config", "--peer", "--bootstrap", "--explain-start", "--check-config"):
        assert flag in shown.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nonsense",), "unrecognized arguments: --nonsense"),
        (("--boot",), "unrecognized arguments: --boot"),
        ((), "[node] id is needed"),
        (("--node-id", "n 1"), "no node id"),
        (("--node-id", "n1", "--listen", "7878"), "'7878' is not host:port"),
        (("--node-id", "n1", "--listen", "0.0.0.0:7878", "--advertise", "h:1"), "nothing protects it"),
        (("--node-id", "n1", "--peer", "n2"), "n1=host:7878"),
        (("--node-id", "n1", "--peer", "n2=h:1", "--peer", "n2=h:2"), "n2 is there twice"),
        (("--config", "/nowhere/config.toml"), "/nowhere/config.toml can't be read"),
        (("--config", "/"), "can't be read"),
    ],
)
def test_bad_flags(words: tuple[str, ...], message: str) -> None:
    ended = neumann(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("neumann: ")
    assert ended.err.count("\n") == 1
    assert message in ended.err


def test_check_config(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[node]\nid = "n1"\n[wal]\narchive_command = "cp %p a/%f"\narchive_command = "true"\n')
    refused = neumann("--check-config", "--config", path)
    assert (refused.code, refused.out) == (2, "")
    assert "lines 4 and 5: [wal] archive_command is given 2 times; keep one" in refused.err
    path.write_text('[node]\nid = "n1"\n')
    assert neumann("--check-config", environ={"NEUMANN_CONFIG": str(path)}).code == 0
    assert neumann("--check-config", environ={"NEUMANN_NODE__ID": "n7"}).out.count("n7") == 1


@pytest.mark.parametrize("flag", [5, 7])
def test_a_port_that_is_taken(tmp_path: Path, place: list[object], flag: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = neumann("--bootstrap", *place[:flag], address, *place[flag + 1 :])
    assert ended.code == 7
    assert ended.err.startswith("neumann: ")
    assert address in ended.err
    assert not (tmp_path / "data").exists()


def test_an_address_of_another_machine(tmp_path: Path, place: list[object]) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    environ = {"NEUMANN_SECURITY__TOKEN_FILE": str(token)}
    ended = neumann("--bootstrap", *place, "--listen", "192.0.2.1:7878", environ=environ)
    assert ended.code == 2
    assert "192.0.2.1:7878" in ended.err


def test_a_second_server_on_the_same_directory(tmp_path: Path, place: list[object]) -> None:
    server = Server(tmp_path / "first")
    server.start("--bootstrap")
    try:
        ended = neumann(*place, "--data-dir", server.data_dir)
        assert ended.code == 7
        assert "in use by process" in ended.err
    finally:
        assert server.stop() == 0


def test_a_directory_that_is_not_ours(tmp_path: Path, place: list[object]) -> None:
    (tmp_path / "data/photos").mkdir(parents=True)
    ended = neumann("--bootstrap", *place)
    assert ended.code == 9
    assert "photos" in ended.err
    assert [path.name for path in (tmp_path / "data").iterdir() if path.name != "lock"] == ["photos"]


def test_a_directory_that_can_not_be_made(tmp_path: Path, place: list[object]) -> None:
    (tmp_path / "data").write_text("a file")
    ended = neumann("--bootstrap", *place)
    assert 0 < ended.code < 126
    assert str(tmp_path / "data") in ended.err
    assert ended.err.splitlines()[-1].startswith("neumann: ")
    assert "Traceback" not in ended.err


def test_a_directory_of_another_node(tmp_path: Path, place: list[object]) -> None:
    server = Server(tmp_path / "first")
    server.start("--bootstrap")
    server.stop()
    said = neumann("--explain-start", *place, "--data-dir", server.data_dir)
    assert said.code == 0
    assert "a vote" in said.out


def test_explain_start_changes_nothing(tmp_path: Path, place: list[object]) -> None:
    waits = neumann("--explain-start", *place)
    assert (waits.code, waits.out.splitlines()[0]) == (0, "here: nothing")
    assert "init-cluster" in waits.out
    forms = neumann("--explain-start", "--bootstrap", *place)
    assert "start: create a new, empty cluster" in forms.out
    asks = neumann("--explain-start", "--bootstrap", *place, "--peer", "n2=127.0.0.1:1")
    assert "n2: does not answer" in asks.out
    assert not (tmp_path / "data").exists()


def test_messages_as_json(tmp_path: Path, place: list[object]) -> None:
    (tmp_path / "data/photos").mkdir(parents=True)
    ended = neumann("--bootstrap", *place, environ={"NEUMANN_LOG__FORMAT": "json"})
    for line in ended.err.splitlines()[:-1]:
        assert set(json.loads(line)) >= {"time", "level", "logger", "message"}
    assert ended.err.count("neumann.runtime") >= 1
