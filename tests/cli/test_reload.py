"""reload and SIGHUP at a real server: what changes, what waits for a restart, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli import conftest
from tests.cli.conftest import Admin, Server

WAIT_S = 20.0


@pytest.fixture
def ask(ask: Admin, server: Server) -> Iterator[Admin]:
    """At the server of this file, which has its first configuration again in the end."""
    before = server.config.read_text()
    yield ask
    server.config.write_text(before)
    os.kill(server.pid, signal.SIGHUP)
    until(lambda: ask("reload").out == "nothing has changed\n")


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def edit(server: Server, old: str, new: str) -> None:
    text = server.config.read_text()
    assert old in text
    server.config.write_text(text.replace(old, new))


def test_nothing_has_changed(ask: Admin) -> None:
    ended = ask("reload")
    assert (ended.code, ended.out) == (0, "nothing has changed\n")


def test_the_archive_goes_on_at_another_place(ask: Admin, server: Server, tmp_path: Path) -> None:
    edit(server, f"cp %p {server.archive}/%f", f"cp %p {tmp_path}/%f")
    edit(server, "archive_timeout = 600", "archive_timeout = 0.2")
    reply = ask("reload", "--format", "json").json
    assert [change["key"] for change in reply["changed"]] == [
        "[wal] archive_command",
        "[wal] archive_timeout",
    ]
    assert (reply["changed"][1]["running"], reply["changed"][1]["given"]) == (600.0, 0.2)
    assert reply["needs_restart"] == []
    assert ask("put", "t", "k", "1").code == 0
    until(lambda: bool(list(tmp_path.glob("*.wal"))))
    status = ask("cluster-status", "--format", "json").json
    assert status["archive"]["command"] == f"cp %p {tmp_path}/%f"


def test_a_failing_command_that_is_mended_goes_on_at_once(ask: Admin, server: Server) -> None:
    edit(server, "cp %p", "false %p")
    assert ask("reload").code == 0
    assert ask("put", "t", "k", "2").code == 0
    assert ask("archive-flush", "--timeout", "3").code == 8
    edit(server, "false %p", "cp %p")
    assert ask("reload").code == 0
    assert ask("archive-flush", "--timeout", "10").code == 0


def test_keys_that_need_a_restart_are_named_each_time(ask: Admin, server: Server) -> None:
    edit(server, "heartbeat_ms = 20", "heartbeat_ms = 25")
    edit(server, "[raft]", "[store]\nscrub_bytes_per_s = 1000000\ncache_bytes_max = 1\n[raft]")
    first = ask("reload", "--format", "json").json
    waiting = ["[raft] heartbeat_ms", "[store] cache_bytes_max"]
    assert [change["key"] for change in first["changed"]] == ["[store] scrub_bytes_per_s"]
    assert [change["key"] for change in first["needs_restart"]] == waiting
    again = ask("reload")
    assert again.out.splitlines()[0] == "needs a restart  [raft] heartbeat_ms  20 -> 25"
    assert "changed" not in again.out
    rate = ask("verify-checksums", "--format", "json").json["bytes_per_s"]
    assert rate == 1_000_000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("archive_timeout = 600", "archive_timeout = 5\narchive_timeuot = 1", "archive_timeuot"),
        ("archive_timeout = 600", "archive_timeout = -1", "archive_timeout"),
        ("archive_timeout = 600", "archive_timeout = 5\narchive_lag_max_s = 2", "archive_lag_max_s"),
        ("archive_timeout = 600", "archive_timeout = 5\n[security]\ntoken_file = '/nowhere'", "token_file"),
        ("[wal]", "[wal", "not TOML"),
    ],
)
def test_what_a_start_would_refuse_changes_nothing(
    ask: Admin, server: Server, old: str, new: str, said: str
) -> None:
    before = server.config.read_text()
    edit(server, old, new)
    refused = ask("reload")
    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err and refused.err.count("\n") == 1
    refusals = server.log.read_text().count("stays as it was")
    os.kill(server.pid, signal.SIGHUP)
    until(lambda: server.log.read_text().count("stays as it was") > refusals)
    server.config.write_text(before)
    assert ask("reload").out == "nothing has changed\n"
    server.config.rename(server.config.with_suffix(".away"))
    missing = ask("reload")
    server.config.with_suffix(".away").rename(server.config)
    assert missing.code == 2 and "can't be read" in missing.err


def test_a_token_that_is_asked_for_from_now_on(ask: Admin, server: Server, tmp_path: Path) -> None:
    """Another word in the same file was taken, and the answer was that nothing has changed."""
    token = tmp_path / "token"
    token.write_text("first\n")
    with server.config.open("a") as file:
        file.write(f"\n[security]\ntoken_file = '{token}'\n")
    assert ask("reload").code == 0
    assert ask("stats").code == 2
    assert ask("stats", "--token-file", token).code == 0
    old = tmp_path / "old"
    old.write_text("first\n")
    token.write_text("second\n")
    changed = ask("reload", "--token-file", old)
    assert (changed.code, changed.out) == (
        0,
        f'changed          [security] token_file  what "{token}" holds\n',
    )
    assert "second" not in server.log.read_text()
    assert ask("reload", "--token-file", token).out == "nothing has changed\n"
    assert ask("stats", "--token-file", old).code == 2
    assert ask("stats", "--token-file", token).code == 0


def test_a_signal_does_the_same(ask: Admin, server: Server) -> None:
    with server.config.open("a") as file:
        file.write("\n[log]\nformat = 'json'\n[snapshot]\nkeep_newest = 5\n")
    os.kill(server.pid, signal.SIGHUP)
    until(lambda: "keep_newest" in server.log.read_text())
    line = next(line for line in server.log.read_text().splitlines() if "keep_newest" in line)
    assert json.loads(line)["message"] == "[snapshot] keep_newest is 5 now, and was 3"
    assert ask("put", "t", "k", "3").code == 0


def test_a_signal_while_it_starts_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP ended a server that was still starting: its default action is to end the process."""
    program = tmp_path / "neumann"
    program.write_text(
        f"""#!{sys.executable}
import os, signal
from neumann.cli import server

start = server.Node.start

async def signalled(*words, **named):
    with open(os.environ["CHANGES"], "a") as config:
        config.write("\\n[snapshot]\\nkeep_newest = 5\\n")
    os.kill(os.getpid(), signal.SIGHUP)
    return await start(*words, **named)

server.Node.start = signalled
server.main()
"""
    )
    program.chmod(0o755)
    monkeypatch.setattr(conftest, "NEUMANN", program)
    starting = Server(tmp_path / "server")
    monkeypatch.setenv("CHANGES", str(starting.config))
    starting.start("--bootstrap")
    try:
        until(lambda: "keep_newest is 5 now" in starting.log.read_text())
    finally:
        assert starting.stop() == 0
