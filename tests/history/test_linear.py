"""The judges accept what a correct store does, and refuse each way of being wrong."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.history.judge import disorder, judge, lost
from tests.history.linear import Illegal, check_key
from tests.history.making import Making, correct_history, search_naively
from tests.history.record import DELETE, GET, INSERT, NEVER_NS, PUT, REPLACE, Operation, Outcome


def is_legal(operations: list[Operation]) -> bool:
    try:
        check_key(operations)
    except Illegal:
        return False
    return True


def test_what_a_correct_store_did_is_legal() -> None:
    kinds = set()
    for seed in range(300):
        made = correct_history(Random(seed), clients=6, operations=60)
        check_key(made)
        assert judge(made).is_clean
        kinds |= {(one.kind, one.outcome) for one in made}
    assert kinds >= {
        (REPLACE, Outcome.OK),
        (REPLACE, Outcome.CONDITION),
        (INSERT, Outcome.OK),
        (INSERT, Outcome.CONDITION),
        (DELETE, Outcome.UNKNOWN),
        (PUT, Outcome.UNKNOWN),
    }


def test_a_stale_read() -> None:
    h = Making()
    h.put("a", 1, 0, 10)
    h.put("b", 2, 20, 30)
    h.get("a", 1, 40, 50)
    with pytest.raises(Illegal, match="no place for 3"):
        check_key(h.operations)


def test_a_read_beside_a_write_sees_either() -> None:
    for value, revision in (("a", 1), ("b", 2)):
        h = Making()
        h.put("a", 1, 0, 10)
        h.put("b", 2, 20, 60)
        h.get(value, revision, 40, 50)
        check_key(h.operations)


def test_two_reads_do_not_go_back() -> None:
    h = Making()
    h.put("a", 1, 0, 10)
    h.unknown(PUT, "b", 20)
    h.get("b", 2, 30, 40)
    h.get("a", 1, 50, 60)
    assert not is_legal(h.operations)


def test_a_lost_write() -> None:
    h = Making()
    h.put("a", 1, 0, 10)
    h.put("b", 2, 20, 30)
    h.get("a", 1, 40, 50)
    [line] = lost(h.operations)
    assert "'b'" in line
    assert not judge(h.operations).is_clean


def test_a_lost_first_write() -> None:
    h = Making()
    h.put("a", 1, 0, 10)
    h.get("", 0, 40, 50)
    assert len(lost(h.operations)) == 1
    assert not is_legal(h.operations)


def test_a_lost_delete() -> None:
    h = Making()
    h.put("a", 1, 0, 10)
    h.add(DELETE, "", 2, 20, 30)
    h.get("a", 1, 40, 50)
    assert len(lost(h.operations)) == 1


def test_what_nobody_looked_for_is_not_called_safe() -> None:
    h = Making()
    h.put("a", 1, 0, 10)
    assert len(lost(h.operations)) == 1


def test_a_phantom() -> None:
    h = Making()
    h.put("a", 1, 0, 10)
    h.get("z", 2, 40, 50)
    with pytest.raises(Illegal, match="phantom"):
        check_key(h.operations)


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.CONDITION])
def test_a_refused_write_is_not_read(outcome: Outcome) -> None:
    h = Making()
    h.add(INSERT, "a", 1 if outcome is Outcome.CONDITION else 0, 0, 10, outcome)
    h.get("a", 1, 40, 50)
    with pytest.raises(Illegal, match="phantom"):
        check_key(h.operations)


def test_a_write_applied_twice() -> None:
    """At a second index it is a second write; or it hides a later one behind its first."""
    h = Making()
    h.unknown(PUT, "a", 0)
    h.get("a", 1, 10, 20)
    h.put("b", 2, 30, 40)
    h.get("a", 3, 50, 60)
    with pytest.raises(Illegal, match="one write at the revisions 1 and 3"):
        check_key(h.operations)
    h.operations[3].revision = 1
    assert not is_legal(h.operations)


def test_an_unknown_write_takes_effect_late_or_never() -> None:
    h = Making()
    h.unknown(PUT, "a", 0)
    h.get("", 0, 10, 20)
    h.put("b", 5, 30, 40)
    h.get("b", 5, 50, 60)
    check_key(h.operations)
    h.get("a", 9, 70, 80)
    check_key(h.operations)


def test_an_unknown_write_does_not_take_effect_before_it_was_sent() -> None:
    h = Making()
    h.get("a", 1, 0, 5)
    h.unknown(PUT, "a", 10)
    assert not is_legal(h.operations)


def test_an_unseen_write_explains_a_failed_condition() -> None:
    h = Making()
    h.unknown(PUT, "a", 0)
    h.add(INSERT, "b", 2, 10, 20, Outcome.CONDITION)
    check_key(h.operations)
    h.operations[0].invoked_ns = 21
    assert not is_legal(h.operations)


def test_an_unseen_delete_explains_a_missing_row() -> None:
    h = Making()
    h.put("a", 1, 0, 10)
    h.unknown(DELETE, "", 20)
    h.get("", 0, 30, 40)
    check_key(h.operations)
    assert not lost(h.operations)


def test_a_condition_that_held_for_nobody() -> None:
    h = Making()
    h.put("a", 1, 0, 10)
    h.put("b", 2, 20, 30)
    h.add(REPLACE, "c", 3, 40, 50, if_revision=1)
    assert not is_legal(h.operations)
    h.operations[2].outcome = Outcome.CONDITION
    check_key(h.operations)


def test_a_condition_that_failed_though_it_held() -> None:
    h = Making()
    h.put("a", 1, 0, 10)
    h.add(REPLACE, "c", 3, 40, 50, Outcome.CONDITION, if_revision=1)
    assert not is_legal(h.operations)


def test_revisions_are_the_order() -> None:
    """Both writes were answered with an index; the other order would fit the read, and not the log."""
    h = Making()
    h.put("a", 2, 0, 100)
    h.put("b", 1, 0, 100)
    h.get("b", 1, 110, 120)
    assert not is_legal(h.operations)


def test_indexes_rise_with_time_across_keys() -> None:
    h = Making()
    h.put("a", 7, 0, 10)
    h.add(PUT, "b", 5, 20, 30, key="other")
    [line] = disorder(h.operations)
    assert "at 5, and 7 was seen" in line


def test_a_read_proves_how_far_the_log_is() -> None:
    h = Making()
    h.unknown(PUT, "a", 0)
    h.get("a", 7, 0, 10)
    h.add(PUT, "b", 5, 20, 30, key="other")
    assert len(disorder(h.operations)) == 1


def test_an_entry_is_one_operations() -> None:
    h = Making()
    h.put("a", 7, 0, 10)
    h.add(PUT, "b", 7, 5, 30, key="other")
    assert len(disorder(h.operations)) == 1


def _stale_read(random: Random, made: list[Operation]) -> None:
    """The last get answers with the row before."""
    writes = sorted((one.revision, one.value) for one in made if one.kind != GET and one.outcome == "ok")
    final = made[-1]
    is_known = (final.revision, final.value) in writes  # who saw it was not this get alone
    revision, value = random.choice(
        [one for one in writes if is_known and one[0] < final.revision and one[1]]
    )
    final.revision, final.value = revision, value


def _lost_write(random: Random, made: list[Operation]) -> None:
    """A write was acknowledged at an index that the row never had."""
    final = made[-1]
    number = max(one.id for one in made) + 1
    index = max(one.revision for one in made) + 1
    late = final.invoked_ns
    made.insert(-1, Operation(number, "c9", "n1", PUT, "k", late - 9, "x", 0, late - 1, Outcome.OK, index))


def _phantom(random: Random, made: list[Operation]) -> None:
    made[-1].value, made[-1].revision = "nobody's", 10_000


def _applied_twice(random: Random, made: list[Operation]) -> None:
    """An older value comes back, at a new index."""
    final = made[-1]
    old = [one for one in made if one.kind == PUT and one.outcome == "ok" and one.revision < final.revision]
    final.value, final.revision = random.choice(old).value, max(one.revision for one in made) + 1


@pytest.mark.parametrize("plant", [_stale_read, _lost_write, _phantom, _applied_twice])
def test_a_planted_bug_is_found_in_any_history(plant: Callable[[Random, list[Operation]], None]) -> None:
    planted = 0
    for seed in range(200):
        random = Random(seed)
        made = correct_history(random, clients=6, operations=60)
        if made[-1].revision < 10:
            continue
        try:
            plant(random, made)
        except IndexError:
            continue
        planted += 1
        assert not judge(made).is_clean, seed
    assert planted > 50


def test_the_search_agrees_with_one_that_tries_everything() -> None:
    """Small histories whose answers are drawn at random; about half are legal."""
    legal = 0
    for seed in range(3000):
        random = Random(seed)
        made = correct_history(random, clients=3, operations=6)
        for one in random.sample(made, random.randrange(3)):
            if one.outcome is Outcome.OK and one.kind == GET:
                wrote = [o for o in made if o.value and o.kind != GET]
                if wrote:
                    source = random.choice(wrote)
                    one.value, one.revision = source.value, source.revision or random.randrange(1, 12)
            elif one.kind in (INSERT, REPLACE) and one.ended_ns != NEVER_NS:
                one.outcome = random.choice((Outcome.OK, Outcome.CONDITION))
        if not _is_well_formed(made):
            continue
        expected = search_naively(made)
        assert is_legal(made) == expected, seed
        legal += expected
    assert 300 < legal < 2700


def _is_well_formed(made: list[Operation]) -> bool:
    """What is refused before the search: a value read at two revisions, or of a write without effect."""
    at: dict[str, int] = {one.value: one.revision for one in made if one.kind != GET and one.revision}
    done = {one.value for one in made if one.outcome in (Outcome.OK, Outcome.UNKNOWN)}
    for one in made:
        is_read = one.kind == GET and one.value
        if is_read and (one.value not in done or at.setdefault(one.value, one.revision) != one.revision):
            return False
    indexes = [revision for value, revision in at.items() if value]
    return len(indexes) == len(set(indexes))
