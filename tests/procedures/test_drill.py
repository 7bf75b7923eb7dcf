"""The drill itself: it passes on a good archive, and does not pass on one that loses files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROCEDURES = ["snapshot", "cold", "archive", "pitr", "full-restore", "disaster"]

LOSING_CP = """#!/bin/sh
# Drops every second segment and says that all is well.
case "$*" in *.wal*)
    echo >>"$COUNT"
    [ $(($(wc -l <"$COUNT") % 2)) = 1 ] || exit 0
esac
exec /bin/cp "$@"
"""


def drill(where: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it from another directory than the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "tests.procedures.drill", *words],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(where), **environ},
        capture_output=True,
        text=True,
    )


@pytest.mark.timeout(300)
def test_every_procedure_brings_everything_back(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    done = drill(tmp_path, "--rows", "2000", "--json", str(table))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(table.read_text())
    assert [row["procedure"] for row in rows] == PROCEDURES
    assert all(row["digest_match"] and row["rows_found"] == row["rows_expected"] >= 2000 for row in rows)
    assert all(row["rto_seconds"] > 0 and row["rpo_seconds"] >= 0 for row in rows)
    assert not list(tmp_path.glob("neumann-drill-*")), "it cleans up"


@pytest.mark.timeout(180)
def test_an_archive_command_that_drops_files_is_found_out(tmp_path: Path) -> None:
    """consul#4738: every backup reported success, and none could be restored. A drill restores."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "cp").write_text(LOSING_CP)
    (tools / "cp").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    done = drill(tmp_path, "--only", "archive", "--rows", "500", PATH=path, COUNT=str(tmp_path / "count"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"WRONG: the archive has a gap.*entries \d+\.\.\d+ are missing", done.stdout), (
        done.stdout
    )
