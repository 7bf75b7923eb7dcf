"""Moments as text."""

from __future__ import annotations

import pytest

from neumann.format.times import time_text


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        (0, "2024-01-15T10:29:59Z"),
        (3, "2024-01-15T10:29:59.981Z"),
        (6, "2024-01-15T10:29:59.981999Z"),
        (9, "2024-01-15T10:29:59.981999001Z"),
    ],
)
def test_cut_and_not_rounded(digits: int, text: str) -> None:
    assert time_text(1_705_314_599_981_999_001, digits) == text


def test_the_beginning() -> None:
    assert time_text(0) == "1970-01-01T00:00:00.000Z"
