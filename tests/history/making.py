"""Makes histories for the tests of the judges: by hand, or by clients of a correct store with delays."""

from __future__ import annotations

import itertools
from random import Random

from tests.history.record import DELETE, GET, INSERT, NEVER_NS, PUT, REPLACE, Operation, Outcome

_KINDS = (PUT, PUT, INSERT, REPLACE, DELETE, GET, GET, GET)


class Making:
    """Operations by hand: times are small numbers, values unique as the caller makes them."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def add(
        self,
        kind: str,
        value: str,
        revision: int,
        invoked: int,
        ended: int,
        outcome: Outcome = Outcome.OK,
        if_revision: int = 0,
        key: str = "k",
    ) -> Operation:
        number = len(self.operations) + 1
        one = Operation(
            number, f"c{number}", "n1", kind, key, invoked, value, if_revision, ended, outcome, revision
        )
        self.operations.append(one)
        return one

    def put(self, value: str, revision: int, invoked: int, ended: int) -> Operation:
        return self.add(PUT, value, revision, invoked, ended)

    def get(self, value: str, revision: int, invoked: int, ended: int) -> Operation:
        return self.add(GET, value, revision, invoked, ended)

    def unknown(self, kind: str, value: str, invoked: int, if_revision: int = 0) -> Operation:
        return self.add(kind, value, 0, invoked, NEVER_NS, Outcome.UNKNOWN, if_revision)


def correct_history(random: Random, clients: int, operations: int) -> list[Operation]:
    """One key of a linearizable store: each operation takes effect somewhere in its time, or, where its
    answer was lost, later or never. A last get looks at what is there."""
    begun: list[tuple[int, int, Operation]] = []
    free_ns = dict.fromkeys(range(clients), 0)
    numbers = itertools.count(1)
    for _ in range(operations):
        client = random.randrange(clients)
        invoked = free_ns[client] + random.randrange(1, 20)
        ended = free_ns[client] = invoked + random.randrange(1, 60)
        number = next(numbers)
        one = Operation(number, f"c{client}", "n1", random.choice(_KINDS), "k", invoked, ended_ns=ended)
        is_lost = random.random() < 0.15
        effect = random.randrange(invoked, ended + 1)
        if is_lost:
            one.ended_ns = NEVER_NS
            effect = random.choice((effect, ended + random.randrange(300), NEVER_NS))
            free_ns[client] = ended
        if one.kind in (PUT, INSERT, REPLACE):
            one.value = f"v{number}"
        begun.append((effect, number, one))
    last_ns = max(free_ns.values()) + 1000
    final = Operation(next(numbers), "c", "n1", GET, "k", last_ns, ended_ns=last_ns + 1)
    begun.append((last_ns, final.id, final))
    _take_effect(random, sorted(begun, key=lambda one: one[:2]))
    return sorted((one for _, _, one in begun), key=lambda one: one.invoked_ns)


def _take_effect(random: Random, begun: list[tuple[int, int, Operation]]) -> None:
    row: tuple[str, int] = ("", 0)
    told = [1]  # revisions that a client can know
    index = 0
    for effect, _, one in begun:
        is_answered = one.ended_ns != NEVER_NS
        if one.kind == GET:
            if is_answered:
                one.value, one.revision, one.outcome = *row, Outcome.OK
                told.append(row[1] or 1)
            continue
        if one.kind == REPLACE:
            one.if_revision = random.choice((told[-1], random.choice(told)))
        if effect == NEVER_NS:
            continue
        index += random.randrange(1, 4)
        holds = row[1] == one.if_revision if one.kind == REPLACE else one.kind != INSERT or not row[1]
        if holds:
            row = ("", 0) if one.kind == DELETE else (one.value, index)
        if is_answered:
            one.revision = index
            one.outcome = Outcome.OK if holds else Outcome.CONDITION
            told.append(index)


def search_naively(operations: list[Operation]) -> bool:
    """Whether there is any legal order: all are tried and nothing is remembered. For tiny histories."""
    told = {one.id: one for one in operations if one.outcome is not Outcome.REFUSED}
    read_at = {one.value: one.revision for one in operations if one.kind == GET and one.value}

    def explore(left: frozenset[int], row: tuple[str, int], index: int) -> bool:
        limit = min((told[number].ended_ns for number in left), default=NEVER_NS)
        if limit == NEVER_NS:
            return True
        for number in left:
            one, rest = told[number], left - {number}
            if one.invoked_ns > limit:
                continue
            if one.outcome is Outcome.UNKNOWN and explore(rest, row, index):
                return True
            then = _step(one, row, index, read_at)
            if then is not None and explore(rest, *then):
                return True
        return False

    return explore(frozenset(told), ("", 0), 0)


def _step(
    one: Operation, row: tuple[str, int], index: int, read_at: dict[str, int]
) -> tuple[tuple[str, int], int] | None:
    """(row, highest known index) after it, or None where it can't come now."""
    if one.kind == GET:
        fits = one.outcome is Outcome.UNKNOWN or (one.value, one.revision) == row
        return (row, index) if fits else None
    at = one.revision or read_at.get(one.value, 0)
    holds = row[1] == one.if_revision if one.kind == REPLACE else one.kind != INSERT or not row[1]
    if (at and at <= index) or holds == (one.outcome is Outcome.CONDITION):
        return None
    if one.outcome is Outcome.CONDITION:
        return row, at
    return ("", 0) if one.kind == DELETE else (one.value, at or -1), max(index, at)
