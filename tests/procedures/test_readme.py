"""Every command that README.md shows is executed here, from another directory, in a small form."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.procedures.cluster import BIN, must

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "scripts/drill": ("--only", "snapshot", "--rows", "300"),
    "scripts/test": ("tests/bench",),
    "scripts/bench": ("--help",),
}


def commands() -> list[str]:
    """The lines of README.md's sh blocks without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_two_commands_are_there() -> None:
    assert {"scripts/drill", "scripts/test"} <= set(commands())


def test_the_configuration_is_correct(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "config.toml").write_text(block)
        must([BIN / "neumann", "--check-config", "--config", tmp_path / "config.toml"])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("command", commands())
def test_command_runs(command: str, tmp_path: Path) -> None:
    program, *given = command.split()
    done = subprocess.run(
        [ROOT / program, *given, *SMALL[program]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
