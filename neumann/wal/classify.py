"""PURE: what follows from how a log was found at start. One table; a test per row.

The sync mark says what fdatasync has surely covered. What is bad or missing at or below it is
corruption, also where a file just ends early; what is bad above it is a torn batch, also when valid
frames follow (design section 4, R8). Damage at or below the newest manifest was passed over before (find.py):
it touches no vote. Damage above it costs the node its voice until the log is again what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """What is done. Nothing is cut without a copy.

    WHOLE: go on. TORN: cut what is behind the end, which nobody was told of. DAMAGED: cut it too, and
    keep a floor at the last frame that may have been acknowledged. LOST: the same, but where that frame
    was is not known. REFUSED: change nothing.
    """

    WHOLE = "whole"
    TORN = "torn"
    DAMAGED = "damaged"
    LOST = "lost"
    REFUSED = "refused"


class Facts(NamedTuple):
    """How the log was found. `end_index` is that of the last good frame, `base_index` comes before the first.

    manifest_found, mark_found: the log has that very frame end (for the mark: at that very place, or as its
    base: the segment that the mark names was dropped).
    mark_segment_lost: it ends with a seal at the mark's point, and the segment behind, which the mark
    names, is missing or empty. tail_known: the frames that go on from the mark's place can be read, or
    an orderly stop left none there. bytes_behind: something that is not zero lies behind the last good
    frame in its file. files_behind: segments follow that do not continue it.
    """

    base_index: int
    end_index: int
    mark_index: int
    manifest_index: int
    mark_found: bool
    mark_segment_lost: bool
    manifest_found: bool
    tail_known: bool
    bytes_behind: bool
    files_behind: bool


class Row(NamedTuple):
    """A rule: the first row that holds decides. `why` completes "the log of this node ..."."""

    name: str
    holds: Callable[[Facts], bool]
    verdict: Verdict
    why: str


ENDS_BELOW_MANIFEST = "ends below the manifest"
"""The row of a log that an older manifest may still go together with (runtime/opening.py)."""

ROWS = (
    Row(
        "head missing",
        lambda facts: facts.base_index > facts.manifest_index,
        Verdict.REFUSED,
        "begins behind the store's newest manifest: entries between them are missing",
    ),
    Row(
        ENDS_BELOW_MANIFEST,
        lambda facts: facts.end_index < facts.manifest_index,
        Verdict.REFUSED,
        "is damaged or ends where the store's newest manifest stands, and can't be taken up behind it",
    ),
    Row(
        "manifest not found",
        lambda facts: not facts.manifest_found,
        Verdict.REFUSED,
        "has another frame, or none, where the store's manifest names one: they are not of one node",
    ),
    Row(
        "damaged below the mark",
        lambda facts: facts.end_index < facts.mark_index and facts.tail_known,
        Verdict.DAMAGED,
        "is damaged where it was once durable",
    ),
    Row(
        "ends below the mark",
        lambda facts: facts.end_index < facts.mark_index,
        Verdict.LOST,
        "ends before what was once durable, and what followed it is not known",
    ),
    Row(
        "mark's segment missing",
        lambda facts: facts.mark_segment_lost and not facts.tail_known,
        Verdict.LOST,
        "has lost the segment that the sync mark names, and what was in it is not known",
    ),
    Row(
        "mark not found",
        lambda facts: (
            facts.base_index <= facts.mark_index and not facts.mark_found and not facts.mark_segment_lost
        ),
        Verdict.REFUSED,
        "has another frame, or none, where the sync mark names one: they are not of one disk",
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
