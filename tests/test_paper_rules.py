"""The index of the paper's rules is whole, and the tests that it names say which rule they are about."""

from __future__ import annotations

import pytest

from tests.paper_rules import RULES
from tests.test_known_bugs import docstrings


def test_no_rule_is_without_a_test_or_a_reason() -> None:
    assert len({rule.place for rule in RULES}) == len(RULES)
    assert all(bool(rule.tests) != bool(rule.reason) for rule in RULES)


@pytest.mark.parametrize("place", [rule.place for rule in RULES if rule.tests])
def test_the_tests_of_a_rule_name_it(place: str) -> None:
    rule = next(rule for rule in RULES if rule.place == place)
    source = place.partition(",")[0]
    for test in rule.tests:
        file, _, name = test.partition("::")
        assert source in " ".join(docstrings(file)[name].lower().split()), f"{test} does not name {source}"
