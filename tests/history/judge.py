"""Judges a whole history: each key's linearizability, the order of the log across keys, and what was lost.

A revision is an index of the one log, so across all keys: what began after another operation had ended
has a higher index, and an entry is one operation's. A write is lost if it was acknowledged and the last
look at its key shows that the row never got to it; a history's last gets are that look.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.history.linear import Illegal, check_key
from tests.history.record import DELETE, GET, Operation, Outcome


@dataclass(slots=True)
class Verdict:
    """What was found. `non_linearizable` is key -> why; `disorder` names what contradicts the one log."""

    acknowledged: int = 0
    condition_failed: int = 0
    refused: int = 0
    unknown: int = 0
    gets: int = 0
    non_linearizable: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    disorder: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Nothing was found."""
        return not (self.non_linearizable or self.lost or self.disorder)


def judge(operations: Sequence[Operation]) -> Verdict:
    """All of it."""
    verdict = Verdict(disorder=disorder(operations))
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for one in operations:
        by_key[one.key].append(one)
        _count(verdict, one)
    for key, ours in by_key.items():
        verdict.lost += lost(ours)
        try:
            check_key(ours)
        except Illegal as error:
            verdict.non_linearizable[key] = str(error)
    return verdict


def _count(verdict: Verdict, one: Operation) -> None:
    match one.outcome:
        case Outcome.OK if one.kind == GET:
            verdict.gets += 1
        case Outcome.OK:
            verdict.acknowledged += 1
        case Outcome.CONDITION:
            verdict.condition_failed += 1
        case Outcome.REFUSED:
            verdict.refused += 1
        case Outcome.UNKNOWN if one.kind != GET:
            verdict.unknown += 1


def disorder(operations: Sequence[Operation]) -> list[str]:
    """Entries that contradict real time, or that are two operations'.

    A floor rises with each end: an ended operation proves that the log has reached its revision.
    """
    found: list[str] = []
    entries: dict[int, Operation] = {}
    ends: list[tuple[int, int]] = []
    floor = 0
    for one in sorted(operations, key=lambda one: one.invoked_ns):
        while ends and ends[0][0] < one.invoked_ns:
            floor = max(floor, heapq.heappop(ends)[1])
        if not one.revision:
            continue
        heapq.heappush(ends, (one.ended_ns, one.revision))
        if one.kind == GET:
            continue
        if one.revision <= floor:
            found.append(f"at {one.revision}, and {floor} was seen before it began: {one}")
        other = entries.setdefault(one.revision, one)
        if other is not one:
            found.append(f"two operations in entry {one.revision}: {other}; {one}")
    return found


def lost(operations: Sequence[Operation]) -> list[str]:
    """Acknowledged writes of one key that its last get contradicts."""
    gets = [one for one in operations if one.kind == GET and one.outcome is Outcome.OK]
    if not gets:
        return [f"nobody looked for it: {one}" for one in operations if _is_acknowledged(one)]
    last = max(gets, key=lambda one: one.invoked_ns)
    if last.revision:
        return [
            f"the row is at {last.revision} in the end: {one}"
            for one in operations
            if _is_acknowledged(one) and one.revision > last.revision
        ]
    deleted = max((one.revision for one in operations if one.kind == DELETE), default=0)
    if any(one.kind == DELETE and one.outcome is Outcome.UNKNOWN for one in operations):
        return []  # it may have been any of them
    return [
        f"there is no row in the end: {one}"
        for one in operations
        if _is_acknowledged(one) and one.kind != DELETE and one.revision > deleted
    ]


def _is_acknowledged(one: Operation) -> bool:
    return one.kind != GET and one.outcome is Outcome.OK
