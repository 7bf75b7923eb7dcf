"""A line of history as recovery walks it: stretches of one timeline each, from fork to fork. PURE.

Entries of a timeline are counted from behind its base up to where its child left it; the child goes on
behind its own base, at a higher index. A position is (number of the stretch, index): positions order all
states that the line went through, indexes alone do too, and times never go back along it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from neumann.errors import BadInput, WrongHistory
from neumann.format.history import History
from neumann.format.ids import LogPoint, Timeline

NO_FORK = 1 << 64

Position = tuple[int, int]
"""(number of the stretch, index)."""


class Stretch(NamedTuple):
    """One timeline's part of the line: entries base.index+1 .. fork_index (NO_FORK for the last)."""

    history: History
    base: LogPoint
    fork_index: int

    @property
    def timeline(self) -> Timeline:
        """Whose entries these are."""
        return self.history.timeline


def stretches(history: History) -> list[Stretch]:
    """The line that ends with this history, oldest first."""
    line = []
    for number in range(len(history.records)):
        part = History(history.cluster_id, history.records[: number + 1])
        is_last = number + 1 == len(history.records)
        line.append(Stretch(part, part.base, NO_FORK if is_last else history.records[number + 1].fork_index))
    return line


def position_of_index(line: list[Stretch], index: int) -> Position:
    """Which stretch an index lies in. BadInput for one between a fork and the next base: no entry has it."""
    for number, stretch in enumerate(line):
        if index == stretch.base.index or stretch.base.index < index <= stretch.fork_index:
            return number, index
    before = [stretch for stretch in line if stretch.base.index < index]
    if not before:
        return 0, index
    after = line[len(before)]
    raise BadInput(
        f"no entry has index {index}: timeline {before[-1].timeline} was left at {before[-1].fork_index}, "
        f"and {after.timeline} begins behind {after.base.index}",
        remedy=f"{before[-1].fork_index} and {after.base.index} name the same rows",
    )


def leaves(histories: Iterable[History]) -> list[History]:
    """Those that none of the others descends from."""
    every = list(histories)
    return [one for one in every if not any(other != one and other.descends_from(one) for other in every)]


def choose(histories: Mapping[Timeline, History], text: str) -> History:
    """The history of the timeline that a person named, in full or by a prefix such as `3-51d0`."""
    found = [h for timeline, h in histories.items() if str(timeline).startswith(text)]
    if text and len(found) == 1:
        return found[0]
    known = ", ".join(map(str, sorted(histories)))
    raise WrongHistory(
        f"{text!r} names {'no' if not found else 'more than one'} timeline", remedy=f"there are: {known}"
    )
