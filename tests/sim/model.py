"""What the committed log means, written a second time and as plainly as possible.

The model applies whole frames in order to a dictionary and keeps every version that a row ever had, so
it can say what a read at any point of the log must have seen. It shares no code with neumann/machine.
Of commands with a session it remembers everything, and when each session was last used.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, NamedTuple

import msgpack

from neumann.format import special
from neumann.format.frame import Frame, Kind
from neumann.format.limits import SESSION_SERIALS_MAX, SESSIONS_MAX
from neumann.format.special import Pause, Resume

APPLIED, CONDITION_FAILED, PAUSED, SESSION_EXPIRED, SERIAL_FORGOTTEN = 0, 1, 3, 4, 5

Row = tuple[str, str]
"""(table, key)."""


class Version(NamedTuple):
    """A row from `revision` on. `value` None: it was deleted there."""

    revision: int
    value: bytes | None
    time_ns: int


class Model:
    """The state after every frame given to `apply`."""

    def __init__(self) -> None:
        self.applied_index = 0
        self.versions: dict[Row, list[Version]] = {}
        self.outcomes: dict[int, int] = {}
        self.commands: dict[int, bytes] = {}
        self._is_paused = False
        self._told: dict[int, dict[int, tuple[int, int]]] = {}
        self._used: dict[int, int] = {}

    def restored(self, cut_index: int, base_index: int) -> Model:
        """What a restore to `cut_index` begins with: no later command, no pause, no session."""
        other = Model()
        other.applied_index = base_index
        for row, versions in self.versions.items():
            if kept := [version for version in versions if version.revision <= cut_index]:
                other.versions[row] = kept
        other.outcomes = {index: told for index, told in self.outcomes.items() if index <= cut_index}
        other.commands = {index: sent for index, sent in self.commands.items() if index <= cut_index}
        return other

    def apply(self, frame: Frame) -> None:
        """The next frame of the log."""
        header = frame.header
        assert header.first_index > self.applied_index
        if header.kind is Kind.DATA:
            commands = msgpack.unpackb(frame.body, use_list=False)
            for index, command in enumerate(commands, header.first_index):
                self.commands[index] = msgpack.packb(command)
                self.outcomes[index] = self._apply_command(command, index, header.time_ns)
        else:
            entry = special.decode(frame)
            self._is_paused = isinstance(entry, Pause) or (self._is_paused and not isinstance(entry, Resume))
        self.applied_index = header.last_index

    def rows(self) -> dict[Row, Version]:
        """All rows that are there now."""
        newest = {row: versions[-1] for row, versions in self.versions.items()}
        return {row: version for row, version in newest.items() if version.value is not None}

    def sessions(self) -> list[tuple[int, int, dict[int, tuple[int, int]]]]:
        """(id, highest serial, serial -> (index, outcome) that is remembered), least recently used first."""
        found = []
        for session in self._used:
            told = self._told[session]
            highest = max(told, default=0)
            kept = {n: answer for n, answer in told.items() if n > highest - SESSION_SERIALS_MAX}
            found.append((session, highest, kept))
        return found

    def span(self, row: Row, revision: int | None, upto: int) -> list[tuple[int, float]]:
        """Where in the log, up to index `upto`, a read of this row finds that revision (None: no row).

        As half-open ranges [from, to) of applied indexes, in order.
        """
        versions = [v for v in self.versions.get(row, []) if v.revision <= upto]
        starts = [0, *(v.revision for v in versions)]
        shown = [None, *(v.revision if v.value is not None else None for v in versions)]
        ends = [*starts[1:], float("inf")]
        return [(a, b) for a, b, r in zip(starts, ends, shown, strict=True) if r == revision]

    def revisions_at(self, table: str, index: int) -> dict[str, int]:
        """Key -> revision of the rows that this table had behind entry `index`."""
        found = {}
        for (row_table, key), versions in self.versions.items():
            place = bisect_right(versions, index, key=lambda v: v.revision) - 1
            if row_table == table and place >= 0 and versions[place].value is not None:
                found[key] = versions[place].revision
        return found

    def changes(self, table: str, after: int, upto: int) -> list[int]:
        """The entries behind `after`, up to `upto`, that wrote to this table, in order."""
        return sorted(
            {
                version.revision
                for (row_table, _), versions in self.versions.items()
                if row_table == table
                for version in versions
                if after < version.revision <= upto
            }
        )

    def value_at(self, row: Row, revision: int) -> bytes | None:
        """What the entry `revision` wrote to this row."""
        versions = self.versions.get(row, [])
        place = bisect_right(versions, revision, key=lambda v: v.revision) - 1
        found = versions[place] if place >= 0 else None
        return found.value if found is not None and found.revision == revision else None

    def _apply_command(self, command: Any, index: int, time_ns: int) -> int:
        session, serial = command[4:6]
        if not session:
            return self._apply_once(command, index, time_ns)
        if session not in self._used:
            return SESSION_EXPIRED
        del self._used[session]
        self._used[session] = index
        told = self._told[session]
        if serial <= max(told, default=0) - SESSION_SERIALS_MAX:
            return SERIAL_FORGOTTEN
        if serial not in told:
            told[serial] = index, self._apply_once(command, index, time_ns)
        return told[serial][1]

    def _open_session(self, index: int) -> None:
        if len(self._used) == SESSIONS_MAX:
            del self._used[next(iter(self._used))]
        self._used[index] = index
        self._told[index] = {}

    def _apply_once(self, command: Any, index: int, time_ns: int) -> int:
        op, table, key, condition, _session, _serial, value = command
        steps = value if op == 3 else ((op, table, key, condition, value),)
        if self._is_paused:
            return PAUSED
        if op == 5:
            self._open_session(index)
            return APPLIED
        if not all(self._holds((step[1], step[2]), step[3]) for step in steps):
            return CONDITION_FAILED
        for step_op, step_table, step_key, _, step_value in steps:
            if step_op != 4:
                versions = self.versions.setdefault((step_table, step_key), [])
                if versions and versions[-1].revision == index:
                    versions.pop()  # the same row twice in one batch: the later one counts
                versions.append(Version(index, step_value, time_ns))
        return APPLIED

    def _holds(self, row: Row, condition: Any) -> bool:
        if condition is None:
            return True
        versions = self.versions.get(row)
        newest = versions[-1] if versions and versions[-1].value is not None else None
        if condition[0] == 1:
            return newest is None
        if newest is None:
            return False
        return bool(newest.revision == condition[1] if condition[0] == 2 else newest.value == condition[1])
