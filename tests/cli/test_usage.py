"""What a person can type wrong: one line, the documented exit code, nothing changed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neumann import __version__
from neumann.cli.group import RESERVED, group
from tests.cli.conftest import Admin

NOBODY = "http://127.0.0.1:1"


def test_version(admin: Admin) -> None:
    assert admin("--version") == (0, f"neumann-admin {__version__}\n", "")


@pytest.mark.parametrize("name", sorted(group.commands))
def test_every_verb_has_help_and_the_common_options(admin: Admin, name: str) -> None:
    shown = admin(name, "--help")
    assert shown.code == 0
    for option in ("--admin", "--config", "--format", "--token-file", "--ca-file", "--timeout", "--quiet"):
        assert option in shown.out
    assert (group.commands[name].help or "").strip().split("\n")[0].endswith((".", "or"))


USAGE = [
    (),
    ("nonsense",),
    ("get", "t"),
    ("get", "t", "k", "extra"),
    ("get", "t", "k", "--nonsense"),
    ("get", "t", "k", "--format", "xml"),
    ("get", "t", "k", "--timeout", "0"),
    ("get", "t", "k", "--timeout", "soon"),
    ("get", "t", "k", "--admin", "ftp://n1"),
    ("get", "t", "k", "--admin", "http://n1:port"),
    ("get", "t", "k", "--admin", "http://n1/kv"),
    ("get", "t", "k", "--token-file", "/nowhere/token"),
    ("put", "t", "k", "1", "--if-revision", "-1"),
    ("scan", "t", "--limit", "0"),
    ("config-check", "/nowhere/config.toml"),
    ("stats", "--config", "/nowhere/config.toml"),
    ("verify-checksums",),
    ("wal-list",),
    ("wal-list", "--wal-dir", "ftp://backup/wal"),
    ("wal-list", "--wal-dir", "s3:///wal"),
    ("wal-replay", "--wal-dir", "/tmp"),
    ("wal-replay", "--wal-dir", "/tmp", "--until", "latest", "--until-index", "3"),
    ("wal-replay", "--wal-dir", "/tmp", "--until", "2024-01-15T10:30:00"),
    ("wal-replay", "--wal-dir", "/tmp", "--until", "half past ten"),
    ("wal-replay", "--wal-dir", "/tmp", "--until", "latest"),
    ("init-cluster",),
    ("init-cluster", "--bootstrap"),
    ("rejoin",),
    ("member-add", "n4"),
    ("member-promote",),
    ("leader-transfer",),
]


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_usage(admin: Admin, words: tuple[str, ...]) -> None:
    ended = admin(*words)
    assert ended.code == 2
    if words:
        assert ended.out == ""
        assert ended.err.startswith("neumann-admin: ")
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize("verb", sorted(RESERVED))
def test_a_reserved_verb_is_refused_with_a_plain_line(admin: Admin, verb: str) -> None:
    """Bug: `backup-create` was answered with "Did you mean 'backup-restore'?", which sets a node's state
    aside, and without a terminal asks nobody."""
    ended = admin(verb, "--yes")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"neumann-admin: {verb} belongs to a later release; until then: ")
    assert "backup-restore" not in ended.err and ended.err.count("\n") == 1


def test_what_is_misspelt_never_leads_to_a_restore(admin: Admin) -> None:
    for word in ("backup-restor", "backup-store", "back-restore"):
        ended = admin(word)
        assert ended.code == 2 and "backup-restore" not in ended.err


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("click", "neumann.cli.admin", "cli"),
        ("aiohttp", "neumann.cli.server", "server"),
        ("prometheus_client", "neumann.cli.server", "server"),
    ],
)
def test_a_missing_extra_is_one_line(tmp_path: Path, module: str, words: str, extra: str) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; import {words}; {words}.main()"
    environ = {"NEUMANN_NODE__ID": "n1", "NEUMANN_NODE__DATA_DIR": str(tmp_path / "data")}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ)
    assert ended.returncode == 1
    assert ended.stderr.endswith(f"{module} is not installed; pip install 'neumann[{extra}]'\n")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_errors_as_json(admin: Admin) -> None:
    for words in (("get", "t", "k", "--admin", NOBODY), ("get", "t")):
        ended = admin(*words, "--format=json")
        said = json.loads(ended.err)
        assert set(said) == {"error", "code", "remedy", "detail"}
        assert ended.out == ""


@pytest.mark.parametrize("verb", ["cluster-info", "cluster-status", "stats", "snapshot", "pause-writes"])
def test_nobody_answers(admin: Admin, verb: str) -> None:
    ended = admin(verb, "--admin", NOBODY)
    assert ended.code == 8
    assert ended.err == (
        f"neumann-admin: no node answers at {NOBODY}: Connection refused; "
        "is neumann running there? --admin or NEUMANN_ADMIN names another node\n"
    )


@contextmanager
def answering(data: bytes) -> Iterator[str]:
    """A server that answers one connection with these bytes and closes it; with none it stays silent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        end = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                if data:
                    connection.sendall(data)
                else:
                    end.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        end.set()
        thread.join()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 1),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", 1),
        (b"SSH-2.0-OpenSSH\r\n", 8),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", 8),
    ],
)
def test_somebody_else_answers(admin: Admin, data: bytes, code: int) -> None:
    with answering(data) as url:
        ended = admin("stats", "--admin", url)
    assert ended.code == code
    assert ended.err.count("\n") == 1


def test_no_answer_to_a_write_leaves_its_outcome_unknown(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neumann.cli.http._GRACE_S", 0.0)
    with answering(b"") as url:
        ended = admin("put", "t", "k", "1", "--admin", url, "--timeout", "0.2")
    assert ended.code == 8
    assert "may or may not have been done" in ended.err
    with answering(b"") as url:
        ended = admin("get", "t", "k", "--admin", url, "--timeout", "0.2")
    assert ended.code == 8
    assert "within 0.2 s" in ended.err


def test_config_check(admin: Admin, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[node]\nid = "n1"\n')
    assert admin("config-check", path).code == 0
    path.write_text('[node]\nid = "n1"\n[wal]\narchive_comand = "cp"\n')
    refused = admin("config-check", path)
    assert refused.code == 2
    assert refused.err == (
        f"neumann-admin: {path}, line 4: [wal] archive_comand is an unknown key; "
        "did you mean archive_command?\n"
    )
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in admin("config-check", path).err


def test_the_node_of_the_configuration_is_asked(admin: Admin, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[node]\nid = "n1"\nlisten = "0.0.0.0:7878"\nadvertise = "n1:7878"\n'
        'admin_listen = "0.0.0.0:2"\n[security]\ninsecure = true\n'
    )
    assert "http://127.0.0.1:2" in admin("stats", "--config", path).err
