"""What special entries do to the state that is no row."""

from __future__ import annotations

import pytest

from neumann.format import frame as frame_format
from neumann.format import special as special_format
from neumann.format.frame import Kind
from neumann.format.ids import Configuration, LogPoint, Member
from neumann.format.manifest import Archiving
from neumann.format.special import Archived, Break, Marker, Noop, Pause, Resume, Special
from neumann.machine.state import MachineState, apply_special

MEMBERS = Configuration((Member("n1", b"s" * 16, "127.0.0.1:7878", "voter"),))
PAUSE = Pause("op", 5, "tar")


def after(*entries: Special) -> MachineState:
    state = MachineState(Configuration(), 0, None, Archiving(), 1, LogPoint(0, 1, 7), 0)
    for entry in entries:
        kind, body = special_format.encode(entry)
        index, _, chain = state.applied
        frame = frame_format.encode(kind, index + 1, 1, state.time_ns + 1, chain, [body])
        apply_special(state, frame.header, special_format.decode(frame))
        assert state.applied == frame.header.end and state.time_ns == frame.header.time_ns
    return state


def test_a_configuration_is_kept_with_its_index() -> None:
    state = after(Noop(), MEMBERS, Noop())
    assert (state.configuration, state.configuration_index) == (MEMBERS, 2)


@pytest.mark.parametrize(
    ("entries", "pause"),
    [([PAUSE], PAUSE), ([PAUSE, Resume("asked")], None), ([Resume("asked")], None), ([PAUSE, Noop()], PAUSE)],
)
def test_a_pause_lasts_until_its_resume(entries: list[Special], pause: Pause | None) -> None:
    assert after(*entries).pause == pause


@pytest.mark.parametrize(
    ("entries", "archiving"),
    [
        ([Archived(0)], Archiving(True, 0)),
        ([Archived(9), Archived(4)], Archiving(True, 9)),
        ([Archived(9), Break(10, 20, "lost")], Archiving(True, 20)),
        ([Archived(9), Break(0, 0, "stop")], Archiving(False, 9)),
        ([Archived(9), Break(0, 0, "stop"), Archived(30)], Archiving(True, 30)),
    ],
)
def test_archived_through_only_grows(entries: list[Special], archiving: Archiving) -> None:
    assert after(*entries).archiving == archiving


def test_the_feature_level_only_grows() -> None:
    assert after(Marker(feature_level=2), Marker(feature_level=1)).feature_level == 2


def test_what_cannot_be_decoded_changes_nothing_but_the_point() -> None:
    state = after(PAUSE)
    before = state.copy()
    frame = frame_format.encode(Kind.CONFIGURATION, 2, 1, 9, state.applied.chain, [b"\x91\xc0"])
    apply_special(state, frame.header, special_format.decode(frame))
    before.applied, before.time_ns = frame.header.end, 9
    assert state == before
