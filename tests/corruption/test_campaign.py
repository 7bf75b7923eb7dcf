"""scripts/corruption: a small run of the campaign, and that it tells when something is missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corruption import __main__ as program


def test_forty_flips_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.campaign(tmp_path, 40, 11, 100.0) == 0
    assert "40 flips; 40 named with exit 5, 0 missed" in capsys.readouterr().out


def test_a_budget_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.campaign(tmp_path, 40, 11, 0.0) == 0
    assert "0 flips, of 40: the budget of 0 s is used up" in capsys.readouterr().out


def test_a_miss_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that changes nothing can't be named."""
    monkeypatch.setattr(program, "change", lambda *_: None)
    assert program.campaign(tmp_path, 3, 11, 100.0) == 1
    assert "3 missed" in capsys.readouterr().out
