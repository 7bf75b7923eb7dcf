"""The journal of a swap: renames in a data directory that take effect together (design section 8).

The file `restore.journal` is one record (format/record.py). Paths in it are relative to the data
directory, which may be mounted elsewhere when the swap is finished.
"""

from __future__ import annotations

from typing import NamedTuple

from neumann.errors import Corrupt
from neumann.format import record
from neumann.format.fields import checked

_MAGIC = b"NEUJRN01"

Move = tuple[str, str]
"""(source, target), relative to the data directory."""


class Journal(NamedTuple):
    """A swap that has begun.

    purpose: one word for people. aside: old state out of the way; a move is done once its target is
    there. place: new state to its place; done once its source is gone. remove: trees that go at the end.
    """

    purpose: str
    aside: tuple[Move, ...]
    place: tuple[Move, ...]
    remove: tuple[str, ...] = ()


def encode(journal: Journal) -> bytes:
    """The journal file's bytes."""
    return record.encode(_MAGIC, journal)


def decode(data: bytes, where: str) -> Journal:
    """The journal in those bytes; Corrupt names `where`."""
    try:
        fields = checked(record.decode(_MAGIC, data, where), (str, tuple, tuple, tuple))
        purpose, aside, place, remove = fields
        moves = [tuple(checked(move, (str, str)) for move in part) for part in (aside, place)]
        return Journal(purpose, moves[0], moves[1], checked(remove, (str,) * len(remove)))
    except ValueError as error:
        raise Corrupt(f"{where}: not a swap's journal: {error}") from error
