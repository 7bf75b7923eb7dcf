"""Every command that README.md shows is executed as printed: here, or by the script that ELSEWHERE names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.procedures import readme
from tests.procedures.cluster import BIN, Cluster, must
from tests.procedures.readme import ROOT

SMALL = {
    "scripts/drill": ("--only", "snapshot", "--rows", "300"),
    "scripts/test": ("tests/bench",),
    "scripts/bench": ("--help",),
}
"""What makes a script's run short."""

ELSEWHERE = {
    "As three containers": "scripts/compose-test",
    "Ten lines of curl": "scripts/bare-install-test",
}
"""Section -> the script that executes its sh block."""


def commands() -> list[str]:
    """The lines of README.md's other sh blocks, without their comments."""
    texts = [block.text for block in readme.blocks("sh") if block.section not in ELSEWHERE]
    lines = [line.partition("#")[0].strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if line]


def test_the_two_commands_are_there() -> None:
    assert {"scripts/drill", "scripts/test"} <= set(commands())


@pytest.mark.parametrize("section", ELSEWHERE)
def test_the_script_executes_the_section(section: str) -> None:
    assert readme.block(section, "sh")
    assert f'readme --print "{section}"' in (ROOT / ELSEWHERE[section]).read_text()


def test_the_ten_lines_say_what_is_printed(tmp_path: Path) -> None:
    with Cluster(tmp_path, ids=("n1",)) as cluster:
        cluster.start("--bootstrap")
        own = cluster.members[0].admin_url
        assert readme.check("Ten lines of curl", {"http://127.0.0.1:9090": own}) == 10


def test_the_configuration_is_correct(tmp_path: Path) -> None:
    found = list(readme.blocks("toml"))
    assert found
    for block in found:
        (tmp_path / "config.toml").write_text(block.text)
        must([BIN / "neumann", "--check-config", "--config", tmp_path / "config.toml"])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("command", commands())
def test_command_runs(command: str, tmp_path: Path) -> None:
    program, *given = command.split()
    done = subprocess.run(
        [ROOT / program, *given, *SMALL[program]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
