"""The index of the paper's rules is whole, and the tests that it names say which rule they are about."""

from __future__ import annotations

import pytest

from tests.index import is_answered, said
from tests.paper_rules import RULES


def test_no_rule_is_without_a_test_or_a_reason() -> None:
    assert len({rule.place for rule in RULES}) == len(RULES)
    assert all(map(is_answered, RULES))


@pytest.mark.parametrize("place", [rule.place for rule in RULES if rule.tests])
def test_the_tests_of_a_rule_name_it(place: str) -> None:
    rule = next(rule for rule in RULES if rule.place == place)
    source = place.partition(",")[0]
    for test in rule.tests:
        assert source in said(test).lower(), f"{test} does not name {source}"
