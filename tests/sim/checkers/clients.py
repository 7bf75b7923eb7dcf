"""What clients were told, against the one committed log: R1 and R2.

The log is the witness: it orders all writes, so linearizability needs no search. Each operation gets a
*floor* when it begins: the highest log position that an operation which had ended by then proves. An
acknowledged write lies above its floor; a read must fit somewhere between its floor and the end of what
was committed when it was answered. Also: the log holds no command twice that has no session, none that
nobody sent, and none that its client was told was not done.

After a restore a stale read may still show the timeline that was left: a node of it that reaches nobody
can't know. No other read may.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.sim.checkers.committed import Committed
from tests.sim.checkers.sessions import OPEN
from tests.sim.checkers.violation import require
from tests.sim.model import Row


@dataclass(slots=True, eq=False)
class Operation:
    """One request of a client, from its beginning. `text` names it in messages."""

    text: str
    floor: int
    command: bytes = b""
    is_stale: bool = False
    may_repeat: bool = False


class Clients:
    """Fed by each client as its operations begin and end."""

    def __init__(self, committed: Committed) -> None:
        self.operations = 0
        self.acknowledged = 0
        self.unknown = 0
        self.refused = 0
        self.reads = 0
        self._committed = committed
        self._floor = 0
        self._left: Clients | None = None
        self._sent: dict[bytes, Operation] = {}
        self._not_done: dict[bytes, str] = {}
        self._indexes: dict[int, Operation] = {}

    def restored(self, committed: Committed, cut_index: int) -> Clients:
        """For the timeline that a restore to `cut_index` began: what was acknowledged up to there stays."""
        other = Clients(committed)
        other.operations, other.acknowledged = self.operations, self.acknowledged
        other.unknown, other.refused, other.reads = self.unknown, self.refused, self.reads
        other._floor = cut_index
        other._left = self
        other._sent, other._not_done = self._sent, self._not_done
        other._indexes = {index: one for index, one in self._indexes.items() if index <= cut_index}
        return other

    def begin_write(self, text: str, command: bytes, *, may_repeat: bool = False) -> Operation:
        """A write is about to be sent; its bytes are like no other's. `may_repeat`: it has a session, and
        the log may have it more than once (checkers/sessions.py)."""
        assert command not in self._sent, "every command is unique, so that the log can be searched for it"
        self.operations += 1
        operation = self._sent[command] = Operation(text, self._floor, command, may_repeat=may_repeat)
        return operation

    def begin_read(self, text: str, is_stale: bool) -> Operation:
        """A read is about to be sent. A stale one may see any moment, but only one that there was."""
        self.operations += 1
        return Operation(text, 0 if is_stale else self._floor, is_stale=is_stale)

    def end_write(self, operation: Operation, index: int, outcome: int) -> None:
        """It was acknowledged at `index` with an Outcome."""
        model, text = self._committed.model, operation.text
        require(index <= self._committed.last.index, f"{text}: acknowledged at {index}, not committed")
        require(model.commands[index] == operation.command, f"{text}: {index} holds another command")
        told, is_ = outcome, model.outcomes[index]
        require(told == is_, f"{text}: told outcome {told} of entry {index}, the log says {is_}")
        require(index > operation.floor, f"{text}: at {index}, below {operation.floor}, seen before it began")
        require(index not in self._indexes, f"{text}: {index} was acknowledged before, to another write")
        self._indexes[index] = operation
        self._floor = max(self._floor, index)
        self.acknowledged += 1

    def end_unknown(self, operation: Operation) -> None:
        """It may or may not take effect, now or later."""
        assert operation.command
        self.unknown += 1

    def end_refused(self, operation: Operation, why: str) -> None:
        """The client was told: not done."""
        self._not_done[operation.command] = f"{operation.text}: {why}"
        self.refused += 1

    def end_read(self, operation: Operation, row: Row, found: tuple[bytes, int] | None) -> None:
        """It was answered with (value, revision), or None for no row."""
        place, misfit = self._place(operation.floor, row, found)
        if misfit and operation.is_stale and self._left is not None:
            _, misfit = self._left._place(0, row, found)
        require(not misfit, f"{operation.text}: {misfit}")
        self._saw(operation, place)

    def _place(self, floor: int, row: Row, found: tuple[bytes, int] | None) -> tuple[int, str]:
        """(the first position in the log, from `floor` on, where a read finds that; or why there is none)."""
        committed = self._committed
        revision = found[1] if found is not None else None
        if found is not None and committed.model.value_at(row, found[1]) != found[0]:
            return 0, f"read a value that entry {revision} did not write"
        end = committed.last.index
        fits = [
            max(start, floor)
            for start, stop in committed.model.span(row, revision, end)
            if max(start, floor) < stop
        ]
        if fits:
            return fits[0], ""
        return 0, (
            f"read revision {revision}, which the row does not have anywhere "
            f"between {floor} (seen before it began) and {end} (committed)"
        )

    def end_scan(self, operation: Operation, table: str, found: dict[str, int]) -> None:
        """It was answered with these keys and revisions: the whole table at one moment."""
        committed = self._committed
        end = committed.last.index
        first = max([operation.floor, *found.values()])
        for index in (first, *committed.model.changes(table, first, end)):
            if committed.model.revisions_at(table, index) == found:
                self._saw(operation, index)
                return
        require(False, f"{operation.text}: the table was never so between {first} and {end}: {found}")

    def _saw(self, operation: Operation, index: int) -> None:
        """A read proves that the log has reached `index`."""
        if not operation.is_stale:
            self._floor = max(self._floor, index)
        self.reads += 1

    def finish(self) -> None:
        """At the end: the log has nothing that it should not have, and all that was acknowledged."""
        places: dict[bytes, int] = {}
        for index, command in self._committed.model.commands.items():
            if command == OPEN:
                continue
            require(command in self._sent, f"entry {index} was sent by nobody")
            other = places.setdefault(command, index)
            is_once = other == index or self._sent[command].may_repeat
            require(is_once, f"{self._sent[command].text} is in the log twice: {other} and {index}")
            why = self._not_done.get(command)
            require(why is None, f"entry {index} was done, and its client was told it was not: {why}")
        for index, operation in self._indexes.items():
            kept = self._committed.model.commands.get(index)
            require(kept == operation.command, f"{operation.text}: {index} was lost")
