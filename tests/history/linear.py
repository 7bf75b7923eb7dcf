"""Linearizability of one key's operations, by the search of Wing and Gong with the memo of Lowe.

Rows are judged key by key, which is enough: a history is linearizable if each object's is (Herlihy and
Wing, theorem 1). The order that is looked for must also be that of the log: what has a revision comes in
the order of its revision. So next to nothing is left to search:

* Writes and failed conditions with a known revision have a fixed order. An unknown write whose value was
  read has a known revision too.
* A get that fits the row as it is, and may come next, is taken at once: it changes nothing, so coming
  earlier can't spoil an order in which it comes later.
* Only an unknown write that nobody saw may come anywhere from its invocation on, or never. Of several that
  would do the same, the one invoked first is tried: it may come wherever the others may.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.history.record import DELETE, GET, INSERT, NEVER_NS, PUT, REPLACE, Operation, Outcome

_Row = tuple[str, int]
"""(value, revision) of the row."""
_ABSENT: _Row = ("", 0)
_UNSEEN: _Row = ("?", -1)  # of a write that nobody read: no get and no `if_revision` can name it
_STEPS_MAX = 2_000_000


class Illegal(Exception):
    """There is no order; the text tells what does not fit."""


def check_key(operations: Iterable[Operation]) -> None:
    """Illegal unless these operations, all of one key, are linearizable."""
    told = [one for one in operations if one.outcome is not Outcome.REFUSED]
    gets = [one for one in told if one.kind == GET and one.outcome is Outcome.OK]
    seen = _revisions_seen(operations, gets)
    entries: list[Operation] = []
    unseen: list[Operation] = []
    for one in told:
        if one.kind == GET:
            continue
        if one.outcome is Outcome.UNKNOWN and (one.kind == DELETE or one.value not in seen):
            unseen.append(one)
        else:
            entries.append(one)
    ordered = sorted((_revision(one, seen), one.id, one) for one in entries)
    for (revision, _, before), (other, _, after) in pairwise(ordered):
        if revision == other:
            raise Illegal(f"two operations at revision {revision}: {before}; {after}")
    _Search([(revision, one) for revision, _, one in ordered], gets, unseen).run()


def _revisions_seen(operations: Iterable[Operation], gets: Sequence[Operation]) -> dict[str, int]:
    """Value -> the revision that it was read at; each must be a write's, and have one revision only."""
    writers = {one.value: one for one in operations if one.kind in (PUT, INSERT, REPLACE)}
    seen: dict[str, int] = {}
    for get in gets:
        if not get.value:
            if get.revision:
                raise Illegal(f"a revision without a value: {get}")
            continue
        writer = writers.get(get.value)
        if writer is None or writer.outcome in (Outcome.REFUSED, Outcome.CONDITION):
            raise Illegal(f"phantom: nobody's write, or one that was not done, was read: {get}; {writer}")
        known = seen.setdefault(get.value, writer.revision or get.revision)
        if known != get.revision:
            raise Illegal(f"one write at the revisions {known} and {get.revision}: {get}; {writer}")
    return seen


def _revision(one: Operation, seen: dict[str, int]) -> int:
    return one.revision or seen[one.value]


class _Search:
    """Depth first. `done` has a bit for each operation that has its place in the order already."""

    def __init__(
        self, entries: list[tuple[int, Operation]], gets: list[Operation], unseen: list[Operation]
    ) -> None:
        self._entries = entries
        everything = [one for _, one in entries] + gets + unseen
        self._bit = {one.id: 1 << place for place, one in enumerate(everything)}
        self._by_end = sorted((one for one in everything if one.ended_ns < NEVER_NS), key=_ended)
        self._gets: dict[_Row, list[Operation]] = defaultdict(list)
        for get in sorted(gets, key=_invoked):
            self._gets[get.value, get.revision].append(get)
        self._unseen = sorted(unseen, key=_invoked)

    def run(self) -> None:
        """Illegal unless every operation that ended finds its place."""
        stack = [(0, 0, 0, _ABSENT)]
        met = set(stack)
        best = -1, _ABSENT, 0
        for _ in range(_STEPS_MAX):
            if not stack:
                raise self._stuck(*best)
            done, ended, entry, row = stack.pop()
            done, ended = self._take_gets(done, ended, row)
            if ended == len(self._by_end):
                return
            best = max(best, (ended, row, done))
            for found in self._next(done, ended, entry, row):
                if found not in met:
                    met.add(found)
                    stack.append(found)
        raise Illegal(f"not decided within {_STEPS_MAX} steps: {self._stuck(*best)}")

    def _take_gets(self, done: int, ended: int, row: _Row) -> tuple[int, int]:
        """All gets that fit; and how many of `_by_end`, from the front, are done."""
        ended = self._advance(done, ended)
        for get in self._gets.get(row, ()):
            if ended < len(self._by_end) and get.invoked_ns > self._by_end[ended].ended_ns:
                break
            done |= self._bit[get.id]
            ended = self._advance(done, ended)
        return done, ended

    def _advance(self, done: int, ended: int) -> int:
        while ended < len(self._by_end) and done & self._bit[self._by_end[ended].id]:
            ended += 1
        return ended

    def _next(self, done: int, ended: int, entry: int, row: _Row) -> list[tuple[int, int, int, _Row]]:
        """What may follow, the likeliest last. Nothing follows what was invoked after another's end."""
        limit_ns = self._by_end[ended].ended_ns
        found: dict[tuple[str, int], tuple[int, int, int, _Row]] = {}
        for one in self._unseen:
            if one.invoked_ns > limit_ns:
                break
            same = (one.kind, one.if_revision)
            if same not in found and not done & self._bit[one.id] and _holds(one, row):
                then = _ABSENT if one.kind == DELETE else _UNSEEN
                found[same] = (done | self._bit[one.id], ended, entry, then)
        options = list(found.values())
        if entry < len(self._entries):
            revision, one = self._entries[entry]
            if one.invoked_ns <= limit_ns and _holds(one, row) != (one.outcome is Outcome.CONDITION):
                options.append((done | self._bit[one.id], ended, entry + 1, _after(one, revision, row)))
        return options

    def _stuck(self, ended: int, row: _Row, done: int) -> Illegal:
        one = self._by_end[ended]
        is_ = f"{row[0]!r} at {row[1]}" if row[1] else "absent"
        left = sum(not done & self._bit[other.id] for other in self._by_end)
        return Illegal(f"no place for {one}: at best the row is {is_} then ({left} operations are left)")


def _invoked(one: Operation) -> int:
    return one.invoked_ns


def _ended(one: Operation) -> int:
    return one.ended_ns


def _holds(one: Operation, row: _Row) -> bool:
    """Whether the operation's condition holds for that row."""
    if one.kind == INSERT:
        return row == _ABSENT
    if one.kind == REPLACE:
        return row[1] == one.if_revision
    return True


def _after(one: Operation, revision: int, row: _Row) -> _Row:
    if one.outcome is Outcome.CONDITION:
        return row
    return _ABSENT if one.kind == DELETE else (one.value, revision)
