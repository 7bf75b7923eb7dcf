"""The table that tells a torn batch from corruption: one test per row."""

from __future__ import annotations

import pytest

from neumann.wal.classify import ROWS, Facts, Verdict, classify

WHOLE = Facts(
    base_index=10,
    end_index=50,
    mark_index=40,
    manifest_index=30,
    mark_found=True,
    mark_segment_lost=False,
    manifest_found=True,
    tail_known=True,
    bytes_behind=False,
    files_behind=False,
)

LOST = WHOLE._replace(mark_found=False, tail_known=False)

CASES = [
    ("whole", WHOLE, Verdict.WHOLE),
    ("whole", WHOLE._replace(mark_index=50), Verdict.WHOLE),
    ("whole", WHOLE._replace(mark_index=9, mark_found=False), Verdict.WHOLE),
    ("whole", WHOLE._replace(mark_index=50, mark_found=False, mark_segment_lost=True), Verdict.WHOLE),
    ("torn batch", WHOLE._replace(bytes_behind=True), Verdict.TORN),
    ("torn batch", WHOLE._replace(files_behind=True), Verdict.TORN),
    ("torn batch", WHOLE._replace(mark_index=50, bytes_behind=True), Verdict.TORN),
    ("damaged below the mark", WHOLE._replace(mark_index=51, bytes_behind=True), Verdict.DAMAGED),
    ("damaged below the mark", WHOLE._replace(mark_index=51, files_behind=True), Verdict.DAMAGED),
    ("damaged below the mark", WHOLE._replace(mark_index=51, mark_found=False), Verdict.DAMAGED),
    ("ends below the mark", LOST._replace(mark_index=51), Verdict.LOST),
    ("ends below the mark", LOST._replace(mark_index=51, bytes_behind=True), Verdict.LOST),
    ("mark's segment missing", LOST._replace(mark_index=50, mark_segment_lost=True), Verdict.LOST),
    ("mark not found", WHOLE._replace(mark_found=False), Verdict.REFUSED),
    ("mark not found", WHOLE._replace(mark_found=False, bytes_behind=True), Verdict.REFUSED),
    ("mark not found", WHOLE._replace(mark_index=10, mark_found=False), Verdict.REFUSED),
    ("manifest not found", WHOLE._replace(manifest_found=False), Verdict.REFUSED),
    ("ends below the manifest", WHOLE._replace(manifest_index=60, manifest_found=False), Verdict.REFUSED),
    ("head missing", WHOLE._replace(manifest_index=9), Verdict.REFUSED),
]


@pytest.mark.parametrize(("name", "facts", "verdict"), CASES)
def test_row(name: str, facts: Facts, verdict: Verdict) -> None:
    row = classify(facts)
    assert (row.name, row.verdict) == (name, verdict)


def test_every_row_has_a_case() -> None:
    assert {row.name for row in ROWS} == {name for name, _, _ in CASES}
