"""Checks the fields of a decoded array before they become a value: how many, of which type, not negative.

A checksum says that bytes are those that somebody wrote, and not that they make sense; from the network
not even that. So the codecs of small records and of peer messages build values with this alone. No
number of ours is negative.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T", bound=tuple[Any, ...])


@cache
def types_of(cls: type) -> tuple[type, ...]:
    """The types that a NamedTuple's annotations name, in order."""
    return tuple(get_type_hints(cls).values())


def checked(values: Any, types: tuple[type, ...]) -> tuple[Any, ...]:
    """`values`, a tuple of exactly these types; ValueError otherwise. True is no int."""
    if type(values) is not tuple or tuple(map(type, values)) != types:
        raise ValueError("fields of other types, or another number of them")
    for value in values:  # no generator: each field of each message and of each session passes here
        if type(value) is int and value < 0:
            raise ValueError("a negative number")
    return values


def check_rows(rows: tuple[Any, ...], types: tuple[type, ...]) -> None:
    """Each of `rows` is what `checked` lets pass; ValueError otherwise. A column at a time, for very many."""
    if not (set(map(type, rows)) <= {tuple} and set(map(len, rows)) <= {len(types)}):
        raise ValueError("rows of other types, or of another width")
    for place, wanted in enumerate(types):
        column = [row[place] for row in rows]
        if not set(map(type, column)) <= {wanted}:
            raise ValueError("fields of other types")
        if wanted is int and min(column, default=0) < 0:
            raise ValueError("a negative number")


def build(cls: type[T], values: Any) -> T:
    """The NamedTuple `cls` with these fields; ValueError if they are not of its types."""
    return cls(*checked(values, types_of(cls)))
