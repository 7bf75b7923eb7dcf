"""PURE: what follows from how a log was found at start. One table; a test per row.

The sync mark says what fdatasync has surely covered. What is bad or missing at or below it is
corruption, also where a file just ends early; what is bad above it is a torn batch, also when valid
frames follow (design section 4, R8). Nothing else is looked at, and corruption is never cut.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """WHOLE: go on. TORN: keep a copy of what is behind the end, and cut. CORRUPT: refuse."""

    WHOLE = "whole"
    TORN = "torn"
    CORRUPT = "corrupt"


class Facts(NamedTuple):
    """How the log was found. `end_index` is that of the last good frame, `base_index` comes before the first.

    manifest_found, mark_found: the log has that very frame end (for the mark: at that very place).
    bytes_behind: something that is not zero lies behind the last good frame in its file. files_behind:
    segments follow that do not continue it.
    """

    base_index: int
    end_index: int
    mark_index: int
    manifest_index: int
    mark_found: bool
    manifest_found: bool
    bytes_behind: bool
    files_behind: bool


class Row(NamedTuple):
    """A rule: the first row that holds decides. `why` completes "the log of this node ..."."""

    name: str
    holds: Callable[[Facts], bool]
    verdict: Verdict
    why: str


ROWS = (
    Row(
        "head missing",
        lambda facts: facts.base_index > facts.manifest_index,
        Verdict.CORRUPT,
        "begins behind the store's newest manifest: entries between them are missing",
    ),
    Row(
        "damaged below the mark",
        lambda facts: facts.end_index < facts.mark_index and (facts.bytes_behind or facts.files_behind),
        Verdict.CORRUPT,
        "is damaged where it was once durable",
    ),
    Row(
        "ends below the mark",
        lambda facts: facts.end_index < facts.mark_index,
        Verdict.CORRUPT,
        "ends before what was once durable",
    ),
    Row(
        "mark not found",
        lambda facts: facts.base_index <= facts.mark_index and not facts.mark_found,
        Verdict.CORRUPT,
        "has another frame, or none, where the sync mark names one: they are not of one disk",
    ),
    Row(
        "manifest not found",
        lambda facts: facts.manifest_index <= facts.end_index and not facts.manifest_found,
        Verdict.CORRUPT,
        "has another frame, or none, where the store's manifest names one: they are not of one node",
    ),
    Row(
        "torn batch",
        lambda facts: facts.bytes_behind or facts.files_behind,
        Verdict.TORN,
        "has a torn batch above the sync mark",
    ),
    Row("whole", lambda _: True, Verdict.WHOLE, "is whole"),
)


def classify(facts: Facts) -> Row:
    """The row that decides."""
    return next(row for row in ROWS if row.holds(facts))
