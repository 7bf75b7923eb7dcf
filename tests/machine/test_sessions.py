"""Sessions (thesis 6.3): a repeated command is applied once and answered the same, whatever is in between."""

from __future__ import annotations

import random
from typing import Any

import pytest

from neumann.format import command as c
from neumann.format import frame as frame_format
from neumann.format import manifest as manifest_format
from neumann.format.frame import Kind
from neumann.format.ids import Configuration, LogPoint
from neumann.format.limits import SESSION_SERIALS_MAX, SESSIONS_MAX
from neumann.format.manifest import Archiving
from neumann.format.special import Pause
from neumann.format.table import Version
from neumann.machine.apply import Result, apply_data, derive_rows
from neumann.machine.outcome import Outcome
from neumann.machine.sessions import Sessions
from neumann.machine.state import MachineState
from tests.format.examples import MANIFEST


class Machine:
    """State and rows of one replica, and what a flush job would derive beside it."""

    def __init__(self) -> None:
        self.state = MachineState(Configuration(), 0, None, Archiving(), 1, LogPoint(0, 1, 7), 0)
        self.rows: dict[str, Version] = {}
        self.derived: dict[str, Version] = {}

    def apply(self, *entries: bytes) -> Result:
        """One frame of these."""
        applied = self.state.applied
        frame = frame_format.encode(
            Kind.DATA, applied.index + 1, 1, applied.index * 10 + 10, applied.chain, entries
        )
        commands = c.decode_body(frame.body)
        result = apply_data(self.state, frame.header, commands, self.rows, {}.get)
        derive_rows(frame.header, commands, set(result.skipped), self.derived)
        assert self.derived == self.rows
        return result

    def tell(self, *entries: bytes) -> list[tuple[int, int]]:
        """What the clients of one frame hear: (index, outcome)."""
        first = self.state.applied.index + 1
        result = self.apply(*entries)
        outcomes = result.outcomes or [0] * len(entries)
        return [(result.repeats.get(i, i), outcome) for i, outcome in enumerate(outcomes, first)]

    def open(self) -> int:
        """A new session."""
        [(index, outcome)] = self.tell(c.encode_open())
        assert outcome == Outcome.APPLIED
        return index


def put(session: int, serial: int, key: str = "k", value: bytes = b"\x01", condition: Any = None) -> bytes:
    return c.with_session(c.encode_put("t", key, value, condition), session, serial)


def test_a_repeated_command_changes_nothing_and_is_answered_the_same() -> None:
    """Bug 32: a client sent again what had been committed, and it was applied twice."""
    machine = Machine()
    session = machine.open()
    assert machine.tell(put(session, 1, value=b"\x01")) == [(2, 0)]
    assert machine.tell(c.encode_put("t", "k", b"\x05")) == [(3, 0)]
    assert machine.apply(put(session, 1, value=b"\x01")) == Result([0], [4], {4: 2})
    assert machine.rows == {"t\0k": (b"\x05", 3, 30)}


def test_a_repeat_in_the_same_frame() -> None:
    machine = Machine()
    session = machine.open()
    assert machine.tell(put(session, 1), put(session, 1), put(session, 2), put(session, 1)) == [
        (2, 0),
        (2, 0),
        (4, 0),
        (2, 0),
    ]
    assert machine.rows["t\0k"][1] == 4


@pytest.mark.parametrize(
    "raw",
    [
        c.encode_put("t", "k", b"\x01", (c.ABSENT,)),
        c.encode_delete("t", "k"),
        c.encode_batch([(c.PUT, "t", "k", None, b"\x01")]),
        c.encode_batch([(c.CHECK, "t", "k", (c.ABSENT,), None), (c.PUT, "t", "j", None, b"\x01")]),
    ],
)
def test_every_kind_of_command(raw: bytes) -> None:
    machine = Machine()
    session = machine.open()
    inside = c.with_session(raw, session, 1)
    assert machine.tell(inside) == [(2, 0)]
    machine.tell(c.encode_put("t", "k", b"\x07"))
    before = dict(machine.rows)
    assert machine.tell(inside) == [(2, 0)]
    assert machine.rows == before


def test_a_failed_condition_is_remembered() -> None:
    """Else a retry behind the row's deletion would do what its client may have been told was not done."""
    machine = Machine()
    session = machine.open()
    wanted = put(session, 1, condition=(c.ABSENT,))
    machine.tell(c.encode_put("t", "k", b"\x07"))
    assert machine.tell(wanted) == [(3, Outcome.CONDITION_FAILED)]
    machine.tell(c.encode_delete("t", "k"))
    assert machine.tell(wanted) == [(3, Outcome.CONDITION_FAILED)]


def test_the_session_is_asked_before_the_pause_and_the_pause_before_conditions() -> None:
    machine = Machine()
    session = machine.open()
    assert machine.tell(put(session, 1)) == [(2, 0)]
    machine.state.pause = Pause("op", 0, "")
    failing = put(session, 2, condition=(c.ABSENT,))
    assert machine.tell(put(session, 1), failing, put(9, 1), c.encode_put("t", "k", b"\x02")) == [
        (2, 0),
        (4, Outcome.PAUSED),
        (5, Outcome.SESSION_EXPIRED),
        (6, Outcome.PAUSED),
    ]
    assert machine.tell(c.encode_open()) == [(7, Outcome.PAUSED)]
    machine.state.pause = None
    assert machine.tell(failing, put(7, 1)) == [(4, Outcome.PAUSED), (9, Outcome.SESSION_EXPIRED)]
    assert machine.rows["t\0k"][1] == 2


def test_what_is_no_command_leaves_its_session_alone() -> None:
    machine = Machine()
    session = machine.open()
    bad = c.encode((c.PUT, "t", "k", None, session, 1, None))
    assert machine.tell(bad) == [(2, Outcome.UNDECODABLE)]
    machine.state.pause = Pause("op", 0, "")
    assert machine.tell(bad) == [(3, Outcome.PAUSED)]
    machine.state.pause = None
    assert machine.tell(put(session, 1)) == [(4, 0)]


def test_serials_may_come_in_any_order_within_the_window() -> None:
    machine = Machine()
    session = machine.open()
    top = SESSION_SERIALS_MAX
    assert machine.tell(put(session, top), put(session, 1), put(session, 2)) == [(2, 0), (3, 0), (4, 0)]
    assert machine.tell(put(session, top + 1)) == [(5, 0)]
    assert machine.tell(put(session, 1)) == [(6, Outcome.SERIAL_FORGOTTEN)]
    assert machine.tell(put(session, 2), put(session, 3)) == [(4, 0), (8, 0)]
    assert machine.tell(put(session, 10 * top)) == [(9, 0)]
    assert machine.tell(put(session, top)) == [(10, Outcome.SERIAL_FORGOTTEN)]
    [record] = machine.state.sessions.records()
    assert record == (session, 10 * top, ((10 * top, 9, 0),))


def test_a_session_remembers_no_more_than_its_window() -> None:
    machine = Machine()
    session = machine.open()
    order = list(range(1, 1000))
    random.Random(3).shuffle(order)
    for serial in order:
        machine.apply(put(session, serial))
        assert len(machine.state.sessions.records()[0].answers) <= SESSION_SERIALS_MAX


def test_the_least_recently_used_session_is_evicted_and_its_commands_are_not_taken_for_new_ones() -> None:
    machine = Machine()
    first, second = machine.open(), machine.open()
    machine.tell(put(first, 1), put(second, 1))
    for _ in range(SESSIONS_MAX - 2):
        machine.open()
    assert len(machine.state.sessions) == SESSIONS_MAX
    assert machine.tell(put(first, 1))[0][1] == 0  # a repeat is a use, too
    machine.open()
    assert len(machine.state.sessions) == SESSIONS_MAX
    before = dict(machine.rows)
    for serial in (1, 2):
        assert machine.tell(put(second, serial))[0][1] == Outcome.SESSION_EXPIRED
    assert machine.rows == before
    assert machine.tell(put(first, 2))[0][1] == 0


def test_a_session_that_nobody_opened_is_expired() -> None:
    machine = Machine()
    assert machine.tell(put(77, 1)) == [(1, Outcome.SESSION_EXPIRED)]
    assert machine.rows == {} and len(machine.state.sessions) == 0


def test_a_copy_of_the_state_stays_as_it_is() -> None:
    machine = Machine()
    session = machine.open()
    machine.tell(put(session, 1))
    copied = machine.state.copy()
    before = copied.sessions.records()
    machine.tell(put(session, 2))
    machine.open()
    assert copied.sessions.records() == before != machine.state.sessions.records()


def test_a_manifest_carries_the_table_and_its_digest_covers_it() -> None:
    """The digest is what replicas compare: a node that forgot a session must differ."""
    machine = Machine()
    for _ in range(3):
        session = machine.open()
        machine.tell(put(session, 1), put(session, 2, condition=(c.ABSENT,)))
    machine.tell(put(1, 3))
    records = machine.state.sessions.records()
    assert records[-1].id == 1, "the most recently used comes last"
    manifest = MANIFEST._replace(sessions=records)
    found = manifest_format.decode(manifest_format.encode(manifest), "here")
    assert found == manifest and Sessions(found.sessions) == machine.state.sessions
    digests = {
        manifest_format.layout_digest(MANIFEST._replace(sessions=some))
        for some in (records, records[1:], (*records[1:], records[0]), ())
    }
    assert len(digests) == 4


def test_a_replica_that_begins_from_a_manifest_goes_on_alike() -> None:
    """Random traffic; at each turn one replica restarts from the table in a manifest."""
    rng = random.Random(11)
    steady, restarting = Machine(), Machine()
    sessions: list[int] = [999]
    for _ in range(600):
        frame = [
            c.encode_open()
            if rng.random() < 0.05
            else put(
                rng.choice(sessions),
                rng.randrange(1, 300),
                rng.choice("abc"),
                condition=rng.choice([None, (1,)]),
            )
            for _ in range(rng.randrange(1, 5))
        ]
        sessions += [
            index for index, raw in enumerate(frame, steady.state.applied.index + 1) if raw == c.encode_open()
        ]
        told = steady.tell(*frame)
        manifest = MANIFEST._replace(sessions=restarting.state.sessions.records())
        again = manifest_format.decode(manifest_format.encode(manifest), "here")
        restarting.state.sessions = Sessions(again.sessions)
        assert restarting.tell(*frame) == told
        assert restarting.rows == steady.rows
        assert restarting.state.sessions == steady.state.sessions


def test_random_repeats_against_a_plain_memory_of_all_commands() -> None:
    """Each (session, serial) is applied at most once, and never answered in two ways."""
    rng = random.Random(23)
    machine = Machine()
    ids = [machine.open() for _ in range(4)]
    told: dict[tuple[int, int], tuple[int, int]] = {}
    highest = dict.fromkeys(ids, 0)
    for _ in range(4000):
        session = rng.choice(ids)
        serial = rng.randrange(max(1, highest[session] - 200), highest[session] + 3)
        index = machine.state.applied.index + 1
        [answer] = machine.tell(put(session, serial))
        if serial <= highest[session] - SESSION_SERIALS_MAX:
            assert answer == (index, Outcome.SERIAL_FORGOTTEN)
        else:
            assert answer == told.setdefault((session, serial), (index, 0))
        assert (machine.rows["t\0k"][1] == index) == (answer == (index, 0))
        highest[session] = max(highest[session], serial)
