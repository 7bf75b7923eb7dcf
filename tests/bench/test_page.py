"""docs/performance.md: its command works as printed, and it tells of every question."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.__main__ import questions
from tests.procedures.pages import DOCS, blocks

PAGE = DOCS / "performance.md"


def test_every_question_has_its_command_and_its_figures() -> None:
    rows = re.findall(r"^\| `?(?:scripts/bench )?(\w+)`? \|", PAGE.read_text(), re.MULTILINE)
    named = [row for row in rows if row not in ("command", "question")]
    assert sorted(named) == sorted([*questions(), *questions()])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="needs the system package golang-go")
def test_the_command(tmp_path: Path) -> None:
    [block] = [block for block in blocks(PAGE) if block.language == "sh"]
    command = block.text.replace("scripts/bench", str(DOCS.parent / "scripts/bench"))
    done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [found] = json.loads((tmp_path / "figures.json").read_text())
    assert found.keys() == {"name", "ours", "peer", "theirs", "ratio", "rounds"}
    if found["ratio"] is not None:  # etcd is installed
        assert done.stdout.startswith(found["name"])
