"""Targets and durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neumann.errors import BadInput
from neumann.format.times import time_text
from neumann.recovery.targets import Kind, Target, parse_duration, parse_target, parse_time

HALF_PAST_TEN = 1_705_314_600_000_000_000


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("2024-01-15T10:30:00Z", HALF_PAST_TEN),
        ("2024-01-15 10:30:00z", HALF_PAST_TEN),
        ("2024-01-15T11:30:00+01:00", HALF_PAST_TEN),
        ("2024-01-15T05:00:00-05:30", HALF_PAST_TEN),
        ("2024-01-15T10:30:00.5Z", HALF_PAST_TEN + 500_000_000),
        ("2024-01-15T10:30:00.000000001Z", HALF_PAST_TEN + 1),
    ],
)
def test_times(text: str, time_ns: int) -> None:
    assert parse_time(text) == time_ns


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_a_printed_time_names_its_moment(time_ns: int) -> None:
    assert parse_time(time_text(time_ns, 9)) == time_ns


@pytest.mark.parametrize("text", ["2024-01-15T10:30:00", "2024-01-15 10:30:00"])
def test_without_a_zone_the_right_form_is_shown(text: str) -> None:
    with pytest.raises(BadInput, match="no time zone") as refused:
        parse_time(text)
    assert "2024-01-15T10:30:00Z" in refused.value.remedy and refused.value.exit_code == 2


@pytest.mark.parametrize(
    "text", ["", "10:30", "yesterday", "2024-02-30T10:00:00Z", "2024-01-15T25:00:00Z", "1900-01-01T00:00:00Z"]
)
def test_no_times(text: str) -> None:
    with pytest.raises(BadInput):
        parse_time(text)


def test_exactly_one_target() -> None:
    assert parse_target(until="latest") == Target(Kind.LATEST, "latest")
    assert parse_target(until_index=7, exclusive=True).index == 7
    assert parse_target(until_name="x").name == "x"
    for wrong in ({}, {"until": "latest", "until_index": 1}, {"until": "latest", "exclusive": True}):
        with pytest.raises(BadInput):
            parse_target(**wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput):
        parse_target(until_index=-1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("250ms", 0.25), ("7d", 604800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1", "-1m", "1w", "inf", "nan", "1e99"])
def test_no_durations(text: str) -> None:
    with pytest.raises(BadInput):
        parse_duration(text)
