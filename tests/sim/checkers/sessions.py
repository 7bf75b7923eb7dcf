"""Sessions apply once: what each (session, serial) was told, and what the replicas made of it.

Every answer for one (session, serial) is the same one, and the log has that command there. However many
copies the log holds, none but the first writes a row, on any replica. At the end each replica's table of
sessions is the model's (thesis 6.3).
"""

from __future__ import annotations

import msgpack

from neumann.format import command as command_format
from neumann.machine.sessions import Sessions as Table
from tests.sim.checkers.committed import Committed
from tests.sim.checkers.violation import require
from tests.sim.model import SERIAL_FORGOTTEN, SESSION_EXPIRED

OPEN = command_format.encode_open()
Answer = tuple[int, int]
"""(index, outcome)."""


class Sessions:
    """Fed by each client as answers come. `repeats` counts those that a command had got before."""

    def __init__(self, committed: Committed) -> None:
        self.repeats = 0
        self._committed = committed
        self._told: dict[tuple[int, int], Answer] = {}

    def opened(self, index: int, outcome: int) -> None:
        """A client was told that its session is open."""
        model = self._committed.model
        require(model.commands.get(index) == OPEN, f"a session was opened at {index}, which is no open")
        require(model.outcomes[index] == outcome, f"the open at {index} was told {outcome}")

    def answered(self, session: int, serial: int, command: bytes, answer: Answer) -> None:
        """One copy of a command was told (index, outcome)."""
        index, outcome = answer
        model, text = self._committed.model, f"serial {serial} of session {session}"
        require(model.commands.get(index) == command, f"{text}: {index} holds another command")
        require(model.outcomes[index] == outcome, f"{text}: told {outcome} of {index}")
        if outcome in (SESSION_EXPIRED, SERIAL_FORGOTTEN):
            return
        known = self._told.get((session, serial))
        self._told[session, serial] = answer
        require(known in (None, answer), f"{text}: told {known}, and then {answer}")
        self.repeats += known is not None

    def finish(self, node_id: str, revisions: dict[str, int], table: Table) -> None:
        """A replica's rows, as row -> revision, and its sessions, when all is applied."""
        model = self._committed.model
        firsts: dict[tuple[int, int], int] = {}
        later: dict[int, int] = {}
        for index, packed in sorted(model.commands.items()):
            session, serial = msgpack.unpackb(packed, use_list=False)[4:6]
            if session and firsts.setdefault((session, serial), index) != index:
                later[index] = firsts[session, serial]
        for row, revision in revisions.items():
            require(
                revision not in later,
                f"{node_id}: {row!r} is of {revision}, a repeat of what {later.get(revision)} had done",
            )
        for told, (index, _) in self._told.items():
            require(
                index not in later, f"serial {told[1]} of session {told[0]} was told of a repeat, {index}"
            )
        own = [(r.id, r.highest, {a[0]: a[1:] for a in r.answers}) for r in table.records()]
        require(own == model.sessions(), f"{node_id}: its table of sessions is not what the log says")
