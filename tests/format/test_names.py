"""File names: what is made is parsed again, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neumann.errors import BadInput
from neumann.format import names
from neumann.format.ids import Timeline
from tests.format import strategies

timelines = st.builds(Timeline, st.integers(1, 99_999_999), strategies.u64)


@given(timeline=timelines, first_index=strategies.u64)
def test_there_and_back(timeline: Timeline, first_index: int) -> None:
    assert names.parse_segment(names.segment_name(timeline, first_index)) == (timeline, first_index)
    assert names.parse_history(names.history_name(timeline)) == timeline
    assert names.parse_manifest(names.manifest_name(first_index, timeline.counter)) == (
        first_index,
        timeline.counter,
    )
    snapshot = names.snapshot_name(first_index, timeline.counter)
    assert names.parse_snapshot(snapshot) == (first_index, timeline.counter)
    assert Timeline.parse(str(timeline)) == timeline


@given(digest=strategies.digests)
def test_tables(digest: bytes) -> None:
    assert names.parse_table(names.table_name(digest)) == digest


@given(first=st.tuples(timelines, strategies.u64), second=st.tuples(timelines, strategies.u64))
def test_segments_sort_by_counter_and_then_by_index(
    first: tuple[Timeline, int], second: tuple[Timeline, int]
) -> None:
    assert (first < second) == (names.segment_name(*first) < names.segment_name(*second))


@given(name=st.text(max_size=60))
def test_other_names_are_none(name: str) -> None:
    for parse in (names.parse_segment, names.parse_history, names.parse_manifest, names.parse_table):
        assert parse(name) is None


@pytest.mark.parametrize(
    "name", ["x.wal", "0000001-0-1.wal", f"{'A' * 64}.table", "1-1.manifest.tmp", "1-1.wal\n"]
)
def test_nearly_right_names_are_none(name: str) -> None:
    for parse in (names.parse_segment, names.parse_manifest, names.parse_table, names.parse_snapshot):
        assert parse(name) is None


@given(text=st.text(max_size=20))
def test_no_timeline(text: str) -> None:
    with pytest.raises(BadInput, match="not a timeline"):
        Timeline.parse(text)
