"""Plays every scenario of scenarios/*.txt and compares the story, line by line.

`scripts/test tests/raft/test_scenarios.py --rewrite` writes down what happens now; read the difference
before it is committed. The commands are in transcript.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.raft.transcript import Stanza, parse, play, write

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path, pytestconfig: pytest.Config) -> None:
    """Figure 7."""
    played = play(path)
    if pytestconfig.getoption("rewrite"):
        path.write_text(write(played))
    for stanza, now in zip(parse(path.read_text()), played, strict=True):
        assert stanza.told == now.told, f"{path.name}: {stanza.command}"
    assert path.read_text() == write(played), "only the layout differs: rewrite it"


def test_the_scenarios_are_there() -> None:
    assert len(SCENARIOS) >= 15
    assert all(path.read_text().startswith("# ") for path in SCENARIOS), "each begins with what it is about"


def test_a_story_that_differs_is_found(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    path = tmp_path / "one.txt"
    path.write_text(write([Stanza(["cluster a"], []), Stanza(["tick a"], ["  a is asleep"])]))
    if not pytestconfig.getoption("rewrite"):
        with pytest.raises(AssertionError):
            test_scenario(path, pytestconfig)
