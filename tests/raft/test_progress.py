"""Progress and Memberships, the two small tables that a core keeps."""

from __future__ import annotations

from neumann.format import frame as frame_format
from neumann.format import special
from neumann.format.ids import Incarnation
from neumann.raft.membership import Memberships
from neumann.raft.progress import Mode, Progress
from neumann.raft.reads import Reads
from tests.raft.disk import candidate, members

S = b"s" * 16


def test_what_is_in_flight_is_freed_by_an_answer_at_or_behind_it() -> None:
    progress = Progress(1, S)
    progress.matched(0)
    for last in (3, 5, 9):
        progress.sent(last, 1, 100)
    assert (progress.next_index, progress.frames_in_flight, progress.bytes_in_flight) == (10, 3, 300)
    assert progress.matched(5)
    assert (progress.match_index, progress.frames_in_flight, progress.bytes_in_flight) == (5, 1, 100)


def test_match_never_falls_when_answers_are_reordered() -> None:
    """Bug 16: an old answer that came late lowered what was known to match. Figure 2, leaders 3."""
    progress = Progress(1, S)
    progress.matched(9)
    assert not progress.matched(4)
    assert (progress.match_index, progress.next_index) == (9, 10)


def test_probing_forgets_what_was_on_the_way() -> None:
    progress = Progress(1, S)
    progress.matched(0)
    progress.sent(9, 3, 500)
    progress.probe(4)
    assert (progress.mode, progress.next_index, progress.bytes_in_flight) == (Mode.PROBE, 4, 0)
    progress.matched(3)
    assert (progress.mode, progress.next_index) == (Mode.REPLICATE, 4)


def test_another_incarnation_starts_from_nothing_and_the_old_one_is_not_believed_again() -> None:
    progress = Progress(10, S)
    assert progress.meet(Incarnation(S, 1), 10) and progress.matched(9)
    assert progress.meet(Incarnation(S, 2), 12)
    assert (progress.match_index, progress.next_index, progress.mode) == (0, 12, Mode.PROBE)
    assert not progress.meet(Incarnation(S, 1), 12)
    assert progress.meet(Incarnation(S, 2), 12)


def test_a_late_answer_of_an_earlier_start_does_not_shut_the_later_one_out() -> None:
    """An answer from before a restart, the first that the leader heard of that start, came behind one from
    after it: it was taken for the newer one, and for the rest of the term nothing that the member said
    counted."""
    other = b"o" * 16
    progress = Progress(10, S)
    assert progress.meet(Incarnation(S, 2), 12) and progress.matched(9)
    assert not progress.meet(Incarnation(S, 1), 12)
    assert progress.meet(Incarnation(S, 2), 12) and progress.match_index == 9
    assert progress.meet(Incarnation(other, 1), 12)
    assert not progress.meet(Incarnation(S, 2), 12)
    assert progress.meet(Incarnation(S, 3), 12) and progress.match_index == 0


def _configuration_frame(index: int, voters: str) -> frame_format.Frame:
    kind, body = special.encode(members(voters))
    return frame_format.encode(kind, index, 1, index, 0, [body])


def test_a_configuration_is_in_force_from_its_append_until_it_is_cut() -> None:
    table = Memberships(candidate("a"), 0, members("a"))
    table.append_frame(_configuration_frame(4, "ab"))
    table.append_frame(_configuration_frame(8, "abc"))
    assert (table.index, table.voters, table.others) == (8, ("a", "b", "c"), ("b", "c"))
    assert table.at(7) == members("ab") and table.at(3) == members("a")
    table.truncate_after(7)
    assert (table.index, table.voters) == (4, ("a", "b"))
    table.drop_before(5)
    assert table.at(5) == members("ab")


def test_a_configuration_that_cannot_be_read_changes_nothing() -> None:
    table = Memberships(candidate("a"), 0, members("a"))
    frame = frame_format.encode(frame_format.Kind.CONFIGURATION, 1, 1, 1, 0, [b"\xc1"])
    table.append_frame(frame)
    assert (table.index, table.voters) == (0, ("a",))


def test_reads_share_the_next_round_and_wait_while_two_are_out() -> None:
    reads = Reads()
    for token in (1, 2):
        reads.ask(token)
    assert reads.want_round()
    reads.begin(5, 100)
    reads.ask(3)
    reads.begin(6, 101)
    reads.ask(4)
    assert not reads.want_round()
    assert reads.confirm(4) == []
    assert reads.confirm(5) == [(1, 100), (2, 100)]
    assert reads.want_round()
    assert reads.abandon() == [3, 4] and reads.abandon() == []
