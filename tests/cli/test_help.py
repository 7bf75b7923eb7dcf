"""What `neumann-admin` tells about itself: headings, examples, JSON, completion, progress bars."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neumann.cli import progress
from neumann.cli.checksums import verify_directory
from neumann.cli.completion import VARIABLE
from neumann.cli.group import group
from neumann.cli.headings import HEADINGS
from neumann.env.disk import RealDisk
from neumann.errors import RefusedByState
from tests.cli.conftest import Admin, Server
from tests.procedures.cluster import BIN

EXAMPLES = {name: example for verbs in HEADINGS.values() for name, example in verbs.items()}


def test_every_verb_stands_under_one_heading() -> None:
    listed = [name for verbs in HEADINGS.values() for name in verbs]
    assert sorted(listed) == sorted(group.commands)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_call_of_its_verb(name: str) -> None:
    typed = EXAMPLES[name].partition("|")[0].removeprefix("source <(").removesuffix(")")
    program, verb, *words = shlex.split(typed)
    assert (program, verb) == ("neumann-admin", name)
    group.commands[name].make_context(name, words)


def test_help(admin: Admin) -> None:
    text = admin("--help").out
    assert [line for line in text.splitlines() if line.rstrip(":") in HEADINGS] == [f"{h}:" for h in HEADINGS]
    assert "The same as wal-replay." in text
    assert EXAMPLES["scan"] in admin("scan", "--help").out


# --- JSON ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archived(server: Server) -> Iterator[Path]:
    """A segment of the server's archive, once it has rows."""
    environ = {**os.environ, "NEUMANN_ADMIN": server.url}
    for words in (["put", "t", "k", "1"], ["archive-flush"], ["snapshot"]):
        subprocess.run([BIN / "neumann-admin", *words], check=True, env=environ, capture_output=True)
    yield next(server.archive.glob("*.wal"))


def words_of(name: str, server: Server, segment: Path, scratch: Path) -> list[object]:
    """A harmless call of that verb. What lies in aside/ is returned, then something else is deleted."""
    kept = scratch / "i/aside/kept"
    if name == "aside-return":
        kept.mkdir(parents=True)
        for part in ("raft", "store"):
            (scratch / "i" / part).rename(kept / part)
    if name == "aside-delete":
        (kept / "raft").mkdir(parents=True)
    restore = ["--wal-dir", server.archive, "--until", "latest", "--as-new-cluster", "--node-id", "x"]
    given: dict[str, list[object]] = {
        "archive-stop": ["--reason", "here archive_command is set, so it is refused"],
        "aside-delete": ["kept", "--data-dir", scratch / "i", "--yes"],
        "aside-list": ["--data-dir", server.data_dir],
        "aside-return": ["kept", "--data-dir", scratch / "i", "--yes"],
        "backup-restore": [*restore, "--data-dir", scratch / "b"],
        "completion": ["fish"],
        "config-check": [server.config],
        "delete": ["t", "absent"],
        "get": ["t", "k"],
        "init-cluster": ["--bootstrap", "--yes", "--data-dir", scratch / "i", "--node-id", "x"],
        "inspect": [segment],
        "leader-transfer": ["--to", "n1"],
        "member-add": ["n9=127.0.0.1:9"],
        "member-promote": ["n9"],
        "member-remove": ["n9"],
        "put": ["t", "k", "2"],
        "query": ["SELECT COUNT(*) FROM t"],
        "rejoin": ["--yes", "--data-dir", scratch / "i"],
        "restore-point": ["here"],
        "scan": ["t"],
        "verify-checksums": ["--data-dir", server.data_dir],
        "wal-list": ["--wal-dir", server.archive],
        "wal-push": [next(server.archive.glob("*.history")), scratch, "--create"],
        "wal-receive": [scratch, "--once"],
        "wal-replay": [*restore, "--data-dir", scratch / "r"],
        "wal-search": ["--wal-dir", server.archive, "--table", "t"],
        "wal-verify": ["--wal-dir", server.archive],
    }
    return given.get(name, [])


def test_every_verb_speaks_json(server: Server, archived: Path, ask: Admin, tmp_path: Path) -> None:
    for name in EXAMPLES:
        ended = ask(name, *words_of(name, server, archived, tmp_path), "--format", "json", "--quiet")
        # Archiving is set up, n9 has not joined, and the state is the only one.
        refused = name in ("archive-stop", "member-promote", "rejoin")
        assert ended.code == (RefusedByState.exit_code if refused else 0), (name, ended)
        json.loads(ended.out or ended.err)


# --- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_asks_this_program(admin: Admin, shell: str) -> None:
    printed = admin("completion", shell)
    assert printed.code == 0
    assert VARIABLE in printed.out and "neumann-admin" in printed.out


def test_bash_completes_verbs_and_flags() -> None:
    script = (
        f"source <({BIN}/neumann-admin completion bash)\n"
        + """
        complete_it() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _neumann_admin_completion neumann-admin
            echo "${COMPREPLY[@]}"
        }
        complete_it neumann-admin cluster-
        complete_it neumann-admin wal-replay --until-
    """
    )
    environ = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environ)
    verbs, flags = ended.stdout.splitlines()
    assert set(verbs.split()) == {"cluster-status", "cluster-info"}
    assert set(flags.split()) == {"--until-index", "--until-name"}


# --- progress ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """Standard error that a person looks at."""

    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_a_terminal_and_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_INTERVAL_S", 0.0)
    with progress.bar("reading", quiet=False) as advance:
        assert advance is not None
        advance(1, 4)
    drawn = terminal.getvalue()
    assert "reading  [#####...............]   25%   1 of 4" in drawn
    assert drawn.endswith("\r\x1b[K")
    with progress.bar("reading", quiet=True) as advance:
        assert advance is None


def test_nobody_watches_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    with progress.bar("reading", quiet=False) as advance:
        assert advance is None
    assert written.getvalue() == ""


@pytest.mark.parametrize(("done", "of", "cells"), [(0, 10, 0), (10, 10, 20), (11, 10, 20), (0, 0, 20)])
def test_a_bar_stays_within_its_ends(done: int, of: int, cells: int) -> None:
    drawn = progress.line("x", done, of, 1.0, str)
    assert drawn.count("#") == cells and drawn.count(".") >= 20 - cells


def test_verify_checksums_tells_how_far_it_is(server: Server, archived: Path) -> None:
    told: list[tuple[int, int]] = []
    verify_directory(RealDisk(), str(server.data_dir), lambda done, of: told.append((done, of)))
    assert told == sorted(told) and told[-1][0] > 0
    assert {of for _, of in told} == {told[0][1]} != {0}
