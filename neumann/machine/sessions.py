"""Client sessions: a command that is sent again is applied once, and answered as the first time. PURE.

Raft thesis, section 6.3. A client opens a session with a command of its own (`OPEN`); the index of that
entry is the session's id. It then numbers its commands with serials, and sends one whose answer it did
not hear again under the same serial, through whichever node. The first copy in the log decides; every
later one changes nothing and is told the first one's index and outcome.

Rules (R3: the log alone decides, and every replica holds the same table).
* A session is opened and never made by its first use: else the late copy of a command whose session was
  evicted would look like a new session's first, and be applied twice.
* At most SESSIONS_MAX sessions. One more evicts the one whose newest command lies furthest back in the
  log. Whoever comes with a session that is not there hears SESSION_EXPIRED, and nothing is done.
* A session remembers its serials above `highest - SESSION_SERIALS_MAX`; a client has no more of them open
  at a time. Within them they may come in any order. An older one is not applied: SERIAL_FORGOTTEN.
* What is remembered is what the first copy was told, PAUSED and a failed condition too. So the order of
  checks is: the session, then a pause, then the conditions (apply.py).

The table stands in every manifest. It belongs to a timeline: a restore begins with none, because what its
clients were told may lie behind the cut (recovery/rebase.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from neumann.format.limits import SESSION_SERIALS_MAX, SESSIONS_MAX
from neumann.format.manifest import SessionRecord
from neumann.machine.outcome import Outcome


class _Session:
    """Its answers, serial -> (serial, index, outcome), in the order of the log."""

    __slots__ = ("answers", "highest")

    def __init__(self, highest: int, answers: dict[int, tuple[int, int, int]]) -> None:
        self.highest = highest
        self.answers = answers


class Sessions:
    """The table. The least recently used session comes first."""

    __slots__ = ("_table",)

    def __init__(self, records: Iterable[SessionRecord] = ()) -> None:
        self._table = {
            record.id: _Session(record.highest, {answer[0]: answer for answer in record.answers})
            for record in records
        }

    def open(self, index: int) -> None:
        """The entry `index` opens the session of that id."""
        if len(self._table) >= SESSIONS_MAX:
            del self._table[next(iter(self._table))]
        self._table[index] = _Session(0, {})

    def recall(self, session_id: int, serial: int, index: int) -> tuple[int, int] | None:
        """What the entry `index` with this serial is told, (index, Outcome), in place of being applied.

        None: it is the first of its serial. Then it is applied, and its outcome comes to `note`.
        """
        table = self._table
        session = table.pop(session_id, None)
        if session is None:
            return index, Outcome.SESSION_EXPIRED
        table[session_id] = session
        answer = session.answers.get(serial)
        if answer is not None:
            return answer[1], answer[2]
        if serial <= session.highest - SESSION_SERIALS_MAX:
            return index, Outcome.SERIAL_FORGOTTEN
        return None

    def answer(self, session_id: int, serial: int) -> tuple[int, int] | None:
        """What the first copy of this serial was told, (index, Outcome); None where that is not known here.
        Changes nothing: it may be asked between entries."""
        session = self._table.get(session_id)
        answer = session.answers.get(serial) if session is not None else None
        return answer[1:] if answer is not None else None

    def apply(self, session_id: int, serial: int, index: int) -> tuple[int, int] | None:
        """`recall`, and `note` of APPLIED in one, for a command that can't fail. None: it is applied."""
        session = self._table.get(session_id)
        if session is None or serial != session.highest + 1:
            answer = self.recall(session_id, serial, index)
            if answer is None:
                self.note(session_id, serial, index, Outcome.APPLIED)
            return answer
        del self._table[session_id]
        self._table[session_id] = session
        session.highest = serial
        answers = session.answers
        answers.pop(serial - SESSION_SERIALS_MAX, None)
        answers[serial] = (serial, index, 0)
        return None

    def note(self, session_id: int, serial: int, index: int, outcome: int) -> None:
        """The entry `index`, which `recall` let pass, ended so."""
        session = self._table[session_id]
        answers = session.answers
        if serial == session.highest + 1:
            answers.pop(serial - SESSION_SERIALS_MAX, None)
            session.highest = serial
        elif serial > session.highest:
            for old in [one for one in answers if one <= serial - SESSION_SERIALS_MAX]:
                del answers[old]
            session.highest = serial
        answers[serial] = (serial, index, outcome)

    def clear(self) -> None:
        """Another timeline begins."""
        self._table.clear()

    def records(self) -> tuple[SessionRecord, ...]:
        """As the manifest has it."""
        return tuple(
            SessionRecord(session_id, session.highest, tuple(session.answers.values()))
            for session_id, session in self._table.items()
        )

    def copy(self) -> Sessions:
        """The same, apart from what comes to this one later."""
        other = Sessions()
        other._table = {i: _Session(one.highest, one.answers.copy()) for i, one in self._table.items()}
        return other

    def __len__(self) -> int:
        return len(self._table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sessions) and self.records() == other.records()

    __hash__ = None  # type: ignore[assignment]  # it changes
